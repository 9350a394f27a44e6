"""<memory> as QEMU's memory objects."""

from __future__ import annotations

from guesthouse.model.domain import Domain
from guesthouse.qemu.parts import compact


def memory_arguments(domain: Domain) -> list[str]:
    kib = domain.memory or 0
    mib = -(-kib // 1024)  # QEMU counts whole MiB, as libvirt rounds
    backend = {"qom-type": "memory-backend-ram", "id": "pc.ram", "size": mib * 1024 * 1024}
    return ["-m", f"size={mib * 1024}k", "-object", compact(backend), "-overcommit", "mem-lock=off"]
