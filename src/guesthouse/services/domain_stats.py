"""What is counted of one guest: its disks, interfaces, memory and processors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from guesthouse.errors import (
    ConfigUnsupported,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
    SystemFailure,
    check_flags,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.simple import BalloonStats
from guesthouse.model.domain import Domain
from guesthouse.qemu import figures
from guesthouse.qemu.figures import DiskFigures
from guesthouse.services.context import Context
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, running
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.refs import DomainRef
from guesthouse.storage import formats

Params = dict[str, tuple[str, Any]]

_NO_ERRORS = -1
_PEEK_VIRTUAL, _PEEK_PHYSICAL = 1, 2
_PEEK_MOST = 4 << 20
_VCPU_RUNNING = 1
_DISK_ERRORS = {"failed": 1, "nospace": 2}
# virDomainMemoryStatTags: number, QEMU's name, what to divide by
_MEMORY = (
    (0, "swap-in", 1024),
    (1, "swap-out", 1024),
    (2, "major-faults", 1),
    (3, "minor-faults", 1),
    (4, "free-memory", 1024),
    (5, "total-memory", 1024),
    (8, "available-memory", 1024),
    (9, "last-update", 1),
    (10, "disk-caches", 1024),
    (11, "htlb-pgalloc", 1),
    (12, "htlb-pgfail", 1),
)
_ACTUAL, _RSS = 6, 7


class BlockStats(NamedTuple):
    rd_req: int
    rd_bytes: int
    wr_req: int
    wr_bytes: int
    errs: int


class InterfaceStats(NamedTuple):
    rx_bytes: int
    rx_packets: int
    rx_errs: int
    rx_drop: int
    tx_bytes: int
    tx_packets: int
    tx_errs: int
    tx_drop: int


class BlockInfo(NamedTuple):
    """Bytes."""

    allocation: int
    capacity: int
    physical: int


class PerCpu(NamedTuple):
    """Parameters of one CPU after the other, and how many each has; or without any, how many CPUs there are."""

    params: list[tuple[str, tuple[str, Any]]]
    each: int


def disk_of(document: Domain, name: str) -> Disk | None:
    """The disk with this target, or with this path as its source."""
    for disk in document.dev.disks:
        if disk.dev == name or (name.startswith("/") and disk.path == name):
            return disk
    return None


def alias_of(device: Any) -> str:
    return (device.alias and device.alias.name) or ""


def image_size(path: str, format: str) -> tuple[int, int, int]:
    """Allocation, capacity and physical size of an image by itself. Raises SystemFailure where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot open file '{path}'", domain=ErrorDomain.QEMU) from None
    try:
        info = os.fstat(fd)
        physical = os.lseek(fd, 0, os.SEEK_END)
        inside = formats.inspect(formats.read_header(fd), format)
        allocation = info.st_blocks * 512 if info.st_size else physical
        return allocation, inside.capacity or physical, physical
    finally:
        os.close(fd)


def interface_figures(name: str, *, swapped: bool) -> InterfaceStats | None:
    """What the kernel counts of the host's device ``name``, None where there is none. ``swapped``: it is the host's
    end, which receives what the guest sends."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        device, _, rest = line.partition(":")
        if device.strip() == name:
            words = [int(word) for word in rest.split()]
            received, sent = words[0:4], words[8:12]
            return InterfaceStats(*(sent + received if swapped else received + sent))
    return None


def vcpu_map(cpus: set[int], length: int) -> bytes:
    """A set of host CPUs as libvirt's bitmap of ``length`` bytes."""
    out = bytearray(length)
    for cpu in cpus:
        if cpu // 8 < length:
            out[cpu // 8] |= 1 << cpu % 8
    return bytes(out)


class DomainStats:
    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs

    # -- disks

    async def block_stats(self, dom: DomainRef, path: str) -> BlockStats:
        found = await self._figures(self._guests.find(dom), path)
        return BlockStats(found.rd_reqs, found.rd_bytes, found.wr_reqs, found.wr_bytes, _NO_ERRORS)

    async def block_stats_flags(self, dom: DomainRef, path: str, flags: int) -> Params:
        check_flags(flags, 4, "qemuDomainBlockStatsFlags")
        found = await self._figures(self._guests.find(dom), path)
        named = {
            "wr_bytes": found.wr_bytes,
            "wr_operations": found.wr_reqs,
            "rd_bytes": found.rd_bytes,
            "rd_operations": found.rd_reqs,
            "flush_operations": found.fl_reqs,
            "wr_total_times": found.wr_times,
            "rd_total_times": found.rd_times,
            "flush_total_times": found.fl_times,
        }
        return {name: ("llong", value) for name, value in named.items()}

    async def _figures(self, guest: Guest, path: str) -> DiskFigures:
        """Of one disk, or with an empty ``path`` the sums of all."""
        machine = running(guest)
        disk = disk_of(guest.current, path) if path else None
        if path and disk is None:
            raise InvalidArg(f"invalid path: {path}")
        all_disks = await figures.disks(machine)
        if disk is not None:
            return all_disks[alias_of(disk)]
        return figures.total(list(all_disks.values()))

    async def get_block_info(self, dom: DomainRef, path: str, flags: int) -> BlockInfo:
        check_flags(flags, 0, "qemuDomainGetBlockInfo")
        guest = self._guests.find(dom)
        disk = disk_of(guest.current, path)
        if disk is None:
            raise InvalidArg(f"invalid path {path} not assigned to domain")
        if disk.path is None and disk.layers and guest.machine is not None:  # QEMU reaches it by itself
            found = (await figures.disks(guest.machine))[alias_of(disk)]
            physical = found.physical or found.capacity or 0
            return BlockInfo(physical, found.capacity or 0, physical)
        if disk.path is None:
            raise InvalidArg(f"disk '{path}' does not currently have a source assigned")
        if guest.machine is None:
            return BlockInfo(*image_size(disk.path, disk.format))
        found = (await figures.disks(guest.machine))[alias_of(disk)]
        try:
            physical = Path(disk.path).stat().st_size or found.capacity or 0
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot stat file '{disk.path}'", domain=ErrorDomain.QEMU) from None
        return BlockInfo(found.physical or found.highest, found.capacity or physical, physical)

    async def get_disk_errors(self, dom: DomainRef, maxerrors: int, flags: int) -> tuple[list[tuple[str, int]], int]:
        """Target and virDomainDiskErrorCode of each disk that failed; with no room for any, how many there may be."""
        check_flags(flags, 0, "qemuDomainGetDiskErrors")
        guest = self._guests.find(dom)
        machine = running(guest)
        if not maxerrors:
            return [], len(guest.current.dev.disks)
        status = {}
        for block in await machine.execute("query-block"):
            status[figures.alias_in(block.get("qdev", ""))] = _DISK_ERRORS.get(block.get("io-status", ""))
        found = [(d.dev or "", error) for d in guest.current.dev.disks if (error := status.get(alias_of(d)))]
        return found[:maxerrors], len(found[:maxerrors])

    def block_peek(self, dom: DomainRef, path: str, offset: int, size: int, flags: int) -> bytes:
        check_flags(flags, 0, "qemuDomainBlockPeek")
        disk = disk_of(self._guests.find(dom).current, path)
        if disk is None:
            raise InvalidArg(f"disk '{path}' not found in domain")
        if disk.path is None or disk.format != "raw":
            kind = disk.format if disk.path is not None else "none"
            raise OperationUnsupported(f"peeking is only supported for disk with 'raw' format not '{kind}'")
        if size > _PEEK_MOST:
            raise InvalidArg(f"size {size} is more than {_PEEK_MOST}")
        try:
            fd = os.open(disk.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot open file '{disk.path}'", domain=ErrorDomain.QEMU) from None
        try:
            data = os.pread(fd, size, offset)
        finally:
            os.close(fd)
        if len(data) < size:
            raise InvalidArg(f"'{disk.path}' starting from {offset} has only {len(data)} bytes available")
        return data

    # -- memory

    async def memory_peek(self, dom: DomainRef, offset: int, size: int, flags: int) -> bytes:
        guest = self._guests.find(dom)
        if flags not in (_PEEK_VIRTUAL, _PEEK_PHYSICAL):
            raise InvalidArg("flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL")
        if size > _PEEK_MOST:
            raise InvalidArg(f"size {size} is more than {_PEEK_MOST}")
        async with self._jobs.changing(guest.uuid, "memory-peek"):
            machine = running(guest)
            return await machine.memory(offset, size, physical=flags == _PEEK_PHYSICAL)

    async def memory_stats(self, dom: DomainRef, maxStats: int, flags: int) -> list[tuple[int, int]]:
        check_flags(flags, 0, "qemuDomainMemoryStats")
        guest = self._guests.find(dom)
        machine = running(guest)
        found: list[tuple[int, int]] = []
        actual = await figures.balloon_actual(machine)
        if actual is not None:
            found.append((_ACTUAL, actual))
            stats = await figures.balloon_stats(machine)
            found += [(tag, stats[name] // unit) for tag, name, unit in _MEMORY if name in stats]
        found.append((_RSS, figures.resident(machine.pid)))
        return found[:maxStats]

    async def set_memory_stats_period(self, dom: DomainRef, period: int, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetMemoryStatsPeriod")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "memory-stats-period"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            documents = [d for d in (guest.live if live else None, changed) if d is not None]
            for document in documents:
                balloon = document.dev.memballoon
                if balloon is None or balloon.model not in ("virtio", None):
                    raise OperationInvalid("No memory balloon device configured, can not set the collection period")
            if live:
                await figures.set_balloon_period(running(guest), period)
            for document in documents:
                assert document.dev.memballoon is not None
                document.dev.memballoon.stats = BalloonStats(period=period) if period else None
            if live:
                keep_live(self._ctx, guest)
            if changed is not None:
                keep(self._ctx, guest, changed)

    # -- network

    def interface_stats(self, dom: DomainRef, device: str) -> InterfaceStats:
        guest = self._guests.find(dom)
        running(guest)
        for nic in guest.current.dev.interfaces:
            name = (nic.target and nic.target.dev) or ""
            if device and device in (name, nic.mac_address) and name:
                found = interface_figures(name, swapped=nic.type != "direct")
                if found is None:
                    break
                return found
        raise InvalidArg(f"'{device}' is not a known interface", domain=ErrorDomain.DOMAIN)

    # -- processors

    async def get_vcpus(self, dom: DomainRef, maxinfo: int, maplen: int) -> tuple[list[tuple[int, ...]], bytes]:
        guest = self._guests.find(dom)
        if guest.machine is None:
            raise OperationInvalid("cannot retrieve vcpu information for inactive domain", domain=ErrorDomain.QEMU)
        info: list[tuple[int, ...]] = []
        maps = b""
        for vcpu in (await figures.vcpus(guest.machine))[:maxinfo]:
            info.append((vcpu.number, _VCPU_RUNNING, vcpu.time, vcpu.cpu))
            try:
                maps += vcpu_map(os.sched_getaffinity(vcpu.thread), maplen)
            except OSError as error:
                what = f"cannot get CPU affinity of process {vcpu.thread}"
                raise SystemFailure.from_os(error, what, domain=ErrorDomain.NONE) from None
        return info, maps

    def get_cpu_stats(self, dom: DomainRef, start_cpu: int, ncpus: int, flags: int) -> Params | PerCpu:
        """Nanoseconds: in all with ``start_cpu`` -1, else of so many CPUs from there on; with no ``ncpus`` how many the
        host has. The whole time is told of a guest without a group, too."""
        check_flags(flags, 4, "qemuDomainGetCPUStats")
        guest = self._guests.find(dom)
        machine = running(guest)
        group = guest.cgroup if guest.cgroup is not None and guest.cgroup.has("cpuacct") else None
        if start_cpu == -1:
            total, user, system = group.times if group is not None else figures.cpu_time(machine.pid)
            found = {"cpu_time": total, "user_time": user, "system_time": system}
            return {name: ("ullong", value) for name, value in found.items()}
        if group is None:
            raise OperationInvalid("cgroup CPUACCT controller is not mounted", domain=ErrorDomain.QEMU)
        count = os.cpu_count() or 1
        if not ncpus:
            return PerCpu([], count)
        if start_cpu >= count:
            raise InvalidArg(f"start_cpu {start_cpu} larger than maximum of {count - 1}", domain=ErrorDomain.CGROUP)
        times = group.times_by_cpu[start_cpu : start_cpu + ncpus]
        return PerCpu([("cpu_time", ("ullong", value)) for value in times], 1)

    async def start_dirty_rate_calc(self, dom: DomainRef, seconds: int, flags: int) -> None:
        check_flags(flags, 7, "qemuDomainStartDirtyRateCalc")
        guest = self._guests.find(dom)
        if not 1 <= seconds <= 60:
            raise ConfigUnsupported(f"seconds={seconds} is invalid, please choose value within [1, 60].")
        modes = {0: "page-sampling", 1: "page-sampling", 2: "dirty-bitmap", 4: "dirty-ring"}
        if flags not in modes:
            raise InvalidArg("the modes of measuring exclude each other")
        machine = running(guest)
        await machine.execute("calc-dirty-rate", {"calc-time": seconds, "mode": modes[flags]})
