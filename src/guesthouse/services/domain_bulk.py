"""All that is counted of many guests at once (virsh domstats)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from guesthouse.errors import ArgumentUnsupported, GuesthouseError, check_flags
from guesthouse.qemu import figures, iothreads
from guesthouse.qemu.machine import Machine
from guesthouse.services.domain_stats import Params, alias_of, image_size, interface_figures
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.refs import DomainRef

_AT_ONCE = 8  # so many guests are asked at a time
_ALL = 0x7FF
_LIST = 0xFF
_NOWAIT, _BACKING, _ENFORCE = 1 << 29, 1 << 30, 1 << 31
# field and QEMU's name, and what to divide by
_BALLOON = (
    ("swap_in", "swap-in", 1024),
    ("swap_out", "swap-out", 1024),
    ("major_fault", "major-faults", 1),
    ("minor_fault", "minor-faults", 1),
    ("unused", "free-memory", 1024),
    ("available", "total-memory", 1024),
    ("usable", "available-memory", 1024),
    ("last-update", "last-update", 1),
    ("disk_caches", "disk-caches", 1024),
    ("hugetlb_pgalloc", "htlb-pgalloc", 1),
    ("hugetlb_pgfail", "htlb-pgfail", 1),
)
_DISK = ("rd.reqs", "rd.bytes", "rd.times", "wr.reqs", "wr.bytes", "wr.times", "fl.reqs", "fl.times")
_DIRTY_STATUS = {"unstarted": 0, "measuring": 1, "measured": 2}


class Stats(NamedTuple):
    """One guest's record."""

    dom: DomainRef
    params: Params


class DomainBulk:
    """``filtered`` gives the guests that virConnectListAllDomains has for its flags."""

    def __init__(self, guests: Guests, filtered: Callable[[int], list[Guest]]) -> None:
        self._guests = guests
        self._filtered = filtered

    async def get_all_stats(self, doms: list[DomainRef], stats: int, flags: int) -> list[Stats]:
        """A group that cannot be told of a guest is left out; what is told of a guest that ends meanwhile is what
        was known before."""
        check_flags(flags, _LIST | _NOWAIT | _BACKING | _ENFORCE, "qemuConnectGetAllDomainStats")
        unknown = stats & ~_ALL
        if unknown and flags & _ENFORCE:
            raise ArgumentUnsupported(f"Stats types bits 0x{unknown:x} are not supported by this daemon or QEMU")
        guests = self._filtered(flags & _LIST)
        if doms:
            wanted = [self._guests.find(ref) for ref in doms]
            guests = [guest for guest in wanted if guest in guests]
        groups = stats or _ALL
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def asked(guest: Guest) -> Stats:
            async with at_once:
                return Stats(guest.ref, await _all(guest, groups, backing=bool(flags & _BACKING)))

        return await asyncio.gather(*(asked(guest) for guest in guests))


async def _all(guest: Guest, groups: int, *, backing: bool) -> Params:
    out: Params = {}
    for bit, group in enumerate((_state, _cpu, _balloon, _vcpu, _interface)):
        if groups & 1 << bit:
            await _told(group(guest, out))
    if groups & 32:
        await _told(_block(guest, out, backing))
    if groups & 128:
        await _told(_iothread(guest, out))
    if groups & 512:
        await _told(_dirty_rate(guest, out))
    return out


async def _told(group: Any) -> None:
    try:
        await group
    except GuesthouseError:
        pass


def _machine(guest: Guest) -> Machine | None:
    return guest.machine if guest.machine is not None and guest.machine.running else None


async def _state(guest: Guest, out: Params) -> None:
    out["state.state"] = ("int", int(guest.state))
    out["state.reason"] = ("int", guest.reason)


async def _cpu(guest: Guest, out: Params) -> None:
    machine = _machine(guest)
    if machine is None:
        return
    time = figures.cpu_time(machine.pid)
    out["cpu.time"] = ("ullong", time.total)
    out["cpu.user"] = ("ullong", time.user)
    out["cpu.system"] = ("ullong", time.system)
    out["cpu.cache.monitor.count"] = ("uint", 0)
    if guest.current.type != "kvm":  # nobody polls for a guest that is emulated
        out["cpu.haltpoll.success.time"] = out["cpu.haltpoll.fail.time"] = ("ullong", 0)


async def _balloon(guest: Guest, out: Params) -> None:
    document, machine = guest.current, _machine(guest)
    actual = None if machine is None else await figures.balloon_actual(machine)
    out["balloon.current"] = ("ullong", document.current_memory or 0 if actual is None else actual)
    out["balloon.maximum"] = ("ullong", document.memory or 0)
    if machine is None:
        return
    stats = await figures.balloon_stats(machine)
    for field, name, unit in _BALLOON:
        if name in stats:
            out[f"balloon.{field}"] = ("ullong", stats[name] // unit)
    out["balloon.rss"] = ("ullong", figures.resident(machine.pid))


async def _vcpu(guest: Guest, out: Params) -> None:
    document = guest.current
    current = (document.vcpu and document.vcpu.current) or document.cpu_count
    out["vcpu.current"] = ("uint", current)
    out["vcpu.maximum"] = ("uint", document.cpu_count)
    machine = _machine(guest)
    for vcpu in [] if machine is None else await figures.vcpus(machine):
        start = f"vcpu.{vcpu.number}"
        out[f"{start}.state"] = ("int", 1)
        out[f"{start}.time"] = ("ullong", vcpu.time)
        out[f"{start}.wait"] = ("ullong", 0)
        out[f"{start}.delay"] = ("ullong", vcpu.delay)


async def _interface(guest: Guest, out: Params) -> None:
    if _machine(guest) is None:
        return
    nics = guest.current.dev.interfaces
    out["net.count"] = ("uint", len(nics))
    for index, nic in enumerate(nics):
        name = nic.target and nic.target.dev
        if not name:
            continue
        out[f"net.{index}.name"] = ("string", name)
        found = interface_figures(name, swapped=nic.type != "direct")
        if found is None:
            continue
        fields = [f"{way}.{what}" for way in ("rx", "tx") for what in ("bytes", "pkts", "errs", "drop")]
        for field, value in zip(fields, found, strict=True):
            out[f"net.{index}.{field}"] = ("ullong", value)


async def _block(guest: Guest, out: Params, backing: bool) -> None:
    machine = _machine(guest)
    known = {} if machine is None else await figures.disks(machine)
    rows: Params = {}
    count = 0
    for disk in guest.current.dev.disks:
        start = f"block.{count}"
        rows[f"{start}.name"] = ("string", disk.dev or "")
        if disk.path is not None:
            rows[f"{start}.path"] = ("string", disk.path)
        if disk.source is not None and disk.source.index is not None:
            rows[f"{start}.backingIndex"] = ("uint", disk.source.index)
        count += 1
        found = known.get(alias_of(disk))
        if found is None:
            if machine is None and disk.path is not None:
                _sizes(rows, start, *_of_file(disk.path, disk.format))
            continue
        for field, value in zip(_DISK, found, strict=False):
            rows[f"{start}.{field}"] = ("ullong", value)
        if found.capacity is not None:
            _sizes(rows, start, found.highest, found.capacity, found.physical)
        for layer in found.backing if backing else ():
            start = f"block.{count}"
            rows[f"{start}.name"] = ("string", disk.dev or "")
            rows[f"{start}.path"] = ("string", layer.path)
            _sizes(rows, start, layer.highest, layer.capacity, layer.physical)
            count += 1
    out["block.count"] = ("uint", count)
    out.update(rows)


def _sizes(rows: Params, start: str, *sizes: int | None) -> None:
    for field, value in zip(("allocation", "capacity", "physical"), sizes, strict=False):
        if value is not None:
            rows[f"{start}.{field}"] = ("ullong", value)


def _of_file(path: str, format: str) -> tuple[int, ...]:
    """Nothing where it cannot be read: the other guests' figures are wanted all the same."""
    try:
        return image_size(path, format)
    except GuesthouseError:
        return ()


async def _iothread(guest: Guest, out: Params) -> None:
    machine = _machine(guest)
    found = [] if machine is None else await iothreads.threads(machine)
    if found:
        out["iothread.count"] = ("uint", len(found))
    for thread in found:
        start = f"iothread.{thread.number}"
        out[f"{start}.poll-max-ns"] = ("ullong", thread.poll_max_ns)
        out[f"{start}.poll-grow"] = ("uint", thread.poll_grow)
        out[f"{start}.poll-shrink"] = ("uint", thread.poll_shrink)


async def _dirty_rate(guest: Guest, out: Params) -> None:
    machine = _machine(guest)
    if machine is None:
        return
    found = await machine.execute("query-dirty-rate")
    out["dirtyrate.calc_status"] = ("int", _DIRTY_STATUS.get(found["status"], 0))
    out["dirtyrate.calc_start_time"] = ("llong", found["start-time"])
    out["dirtyrate.calc_period"] = ("int", found["calc-time"])
    out["dirtyrate.calc_mode"] = ("string", found["mode"])
    if "dirty-rate" in found:
        out["dirtyrate.megabytes_per_second"] = ("llong", found["dirty-rate"])
    for item in found.get("vcpu-dirty-rate", ()):
        out[f"dirtyrate.vcpu.{item['id']}.megabytes_per_second"] = ("ullong", item["dirty-rate"])
