"""What QEMU and the kernel count of a running guest: processors, memory, disks."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from guesthouse.qemu.machine import Machine
from guesthouse.qemu.monitor import MonitorError
from guesthouse.qemu.process import proc_words

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_BALLOON = "/machine/peripheral/balloon0"
# QEMU tells what the guest's driver does not report as all ones
_UNKNOWN = 2**64 - 1


class CpuTime(NamedTuple):
    """Nanoseconds; ``total`` is the sum of the two."""

    total: int
    user: int
    system: int


class Vcpu(NamedTuple):
    """A processor that the guest has: its ``number``, the thread that runs it and which host CPU that is on (-1:
    unknown), nanoseconds of time used and waited for a CPU."""

    number: int
    thread: int
    time: int
    delay: int
    cpu: int


class DiskFigures(NamedTuple):
    """Requests, bytes and nanoseconds since the start; ``highest`` is the end of the last write to the image's file,
    ``capacity`` and ``physical`` are bytes, None where the drive is empty."""

    rd_reqs: int
    rd_bytes: int
    rd_times: int
    wr_reqs: int
    wr_bytes: int
    wr_times: int
    fl_reqs: int
    fl_times: int
    highest: int
    capacity: int | None
    physical: int | None
    backing: tuple[Layer, ...]


class Layer(NamedTuple):
    """An image below a disk's own."""

    path: str
    highest: int
    capacity: int
    physical: int


def cpu_time(pid: int) -> CpuTime:
    """What the process has used; zeros where it is gone."""
    found = proc_words(f"/proc/{pid}/stat")
    if not found:
        return CpuTime(0, 0, 0)
    user, system = int(found[11]) * _TICK, int(found[12]) * _TICK
    return CpuTime(user + system, user, system)


def resident(pid: int) -> int:
    """KiB of the host's memory that the process has."""
    found = proc_words(f"/proc/{pid}/stat")
    return int(found[21]) * _PAGE_KIB if found else 0


async def vcpus(machine: Machine) -> list[Vcpu]:
    """The processors that the guest has now, by number."""
    found = []
    for item in await machine.execute("query-cpus-fast"):
        thread, number = item["thread-id"], item["cpu-index"]
        stat = proc_words(f"/proc/{machine.pid}/task/{thread}/stat")
        time, cpu = ((int(stat[11]) + int(stat[12])) * _TICK, int(stat[36])) if stat else (0, -1)
        found.append(Vcpu(number, thread, time, _delay(machine.pid, thread), cpu))
    return sorted(found)


def _delay(pid: int, thread: int) -> int:
    found = proc_words(f"/proc/{pid}/task/{thread}/schedstat")
    return int(found[1]) if len(found) > 1 else 0


async def balloon_actual(machine: Machine) -> int | None:
    """KiB that the guest has, None where it has no balloon."""
    try:
        return int((await machine.execute("query-balloon"))["actual"]) // 1024
    except MonitorError:
        return None


async def balloon_stats(machine: Machine) -> dict[str, int]:
    """What the guest's balloon driver reported last, by QEMU's names (without "stat-"); sizes in bytes."""
    try:
        answer = await machine.execute("qom-get", {"path": _BALLOON, "property": "guest-stats"})
    except MonitorError:
        return {}
    stats = {name.removeprefix("stat-"): int(value) for name, value in answer["stats"].items()}
    known = {name: value for name, value in stats.items() if value % 2**64 != _UNKNOWN}
    if answer.get("last-update"):
        known["last-update"] = int(answer["last-update"])
    return known


async def set_balloon_period(machine: Machine, seconds: int) -> None:
    """Have the guest report its memory every so often; 0 ends it."""
    await machine.execute("qom-set", {"path": _BALLOON, "property": "guest-stats-polling-interval", "value": seconds})


async def disks(machine: Machine) -> dict[str, DiskFigures]:
    """Alias of a drive -> its figures."""
    images: dict[str, dict[str, Any]] = {}
    for block in await machine.execute("query-block"):
        if "inserted" in block:
            images[alias_in(block.get("qdev", ""))] = block["inserted"]["image"]
    found = {}
    for item in await machine.execute("query-blockstats"):
        alias = alias_in(item.get("qdev", ""))
        stats, image = item["stats"], images.get(alias)
        layers = []
        below, entry = (image or {}).get("backing-image"), item.get("backing")
        while below is not None:
            layers.append(Layer(below["filename"], _highest(entry), below["virtual-size"], below.get("actual-size", 0)))
            below, entry = below.get("backing-image"), (entry or {}).get("backing")
        found[alias] = DiskFigures(
            stats["rd_operations"],
            stats["rd_bytes"],
            stats["rd_total_time_ns"],
            stats["wr_operations"],
            stats["wr_bytes"],
            stats["wr_total_time_ns"],
            stats["flush_operations"],
            stats["flush_total_time_ns"],
            _highest(item),
            image["virtual-size"] if image else None,
            image.get("actual-size", 0) if image else None,
            tuple(layers),
        )
    return found


def total(found: list[DiskFigures]) -> DiskFigures:
    """The sums over some disks, of what can be summed."""
    names = DiskFigures._fields[:8]
    sums = {name: sum(getattr(figures, name) for figures in found) for name in names}
    return DiskFigures(**sums, highest=0, capacity=None, physical=None, backing=())


def _highest(item: dict[str, Any] | None) -> int:
    """The file below a format has the offset that is of interest."""
    item = item or {}
    return int((item.get("parent") or item).get("stats", {}).get("wr_highest_offset", 0))


def alias_in(qdev: str) -> str:
    """A drive's alias in QEMU's name of the device: the alias, or the object's path that has it in the middle."""
    if not qdev.startswith("/"):
        return qdev
    words = qdev.split("/")
    return words[3] if len(words) > 3 else qdev
