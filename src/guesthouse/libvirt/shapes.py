"""Results that libvirt-python shows in a shape of their own."""

from __future__ import annotations

from typing import Any

# memory statistics by tag (virDomainMemoryStatTags)
_MEMORY = (
    *("swap_in", "swap_out", "major_fault", "minor_fault", "unused", "available", "actual", "rss", "usable"),
    *("last_update", "disk_caches", "hugetlb_pgalloc", "hugetlb_pgfail"),
)


def memory(stats: list[Any]) -> dict[str, int]:
    """Name -> value, KiB or a count."""
    return {_MEMORY[stat.tag]: stat.val for stat in stats if stat.tag < len(_MEMORY)}


def block_job(job: Any) -> dict[str, int]:
    """What a block job does; nothing where there is none."""
    return {"type": job.type, "bandwidth": job.bandwidth, "cur": job.cur, "end": job.end} if job.found else {}


def interfaces(found: list[Any]) -> dict[str, dict[str, Any]]:
    """Interface -> its MAC address and its IP addresses."""
    return {
        interface.name: {
            "addrs": [{"addr": a.addr, "prefix": a.prefix, "type": a.type} for a in interface.addrs] or None,
            "hwaddr": interface.hwaddr,
        }
        for interface in found
    }
