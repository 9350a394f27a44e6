"""What can be done to a guest's disks beside plugging them: limits, a new size, a watch on how full they get."""

from __future__ import annotations

import re
from typing import Any

from guesthouse.errors import (
    ArgumentUnsupported,
    ConfigUnsupported,
    InvalidArg,
    OperationUnsupported,
    Overflow,
    check_flags,
)
from guesthouse.model.devices.disk import Disk, IoTune
from guesthouse.model.domain import Domain
from guesthouse.qemu import throttle
from guesthouse.qemu.devices.block import node_name, top_node
from guesthouse.services.context import Context
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, looked_at, running
from guesthouse.services.domain_stats import Params, disk_of
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.lifecycle import Runner
from guesthouse.services.refs import DomainRef
from guesthouse.services.typed import checked

_TUNABLE, _THRESHOLD = 17, 24
_KINDS = {name: "string" if name == "group_name" else "ullong" for name in throttle.NAMES}
_MOST = 10**15
_RATES = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")
_RESIZE_BYTES = 1
_ULL_MAX = 2**64 - 1
_DEVICE = re.compile(r"([^\[\]]+)(?:\[(\d+)\])?")


class DomainBlocks:
    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, runner: Runner) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        #: nodes that are watched: guest and node -> whether the client named the image by its number
        self._watched: dict[tuple[str, str], bool] = {}
        runner.hearers["BLOCK_WRITE_THRESHOLD"] = self._threshold_passed

    # -- limits

    async def get_block_io_tune(self, dom: DomainRef, disk: str | None, flags: int) -> Params:
        """Every limit, 0 for none; of a running guest as QEMU has them. Without ``disk`` the values do not count."""
        check_flags(flags, LIVE | CONFIG | 4, "qemuDomainGetBlockIoTune")
        guest = self._guests.find(dom)
        flags &= ~4
        document = looked_at(guest, flags)
        values: dict[str, Any] = {}
        if disk is not None and impact(guest, flags)[0]:
            values = await throttle.read(running(guest), _tunable(document, disk, "disk '{}' not found in domain"))
        elif disk is not None:
            tune = _tunable(document, disk, "disk '{}' was not found in the domain config").iotune
            values = {name: getattr(tune, name, None) for name in _KINDS}
        return {name: (kind, values.get(name) or ("" if kind == "string" else 0)) for name, kind in _KINDS.items()}

    async def set_block_io_tune(self, dom: DomainRef, disk: str, params: list[Any], flags: int) -> None:
        """Set the limits that are named, and with them the others of their kind; 0 lifts one. Disks of a group have
        the same. A running guest's hold at once. On failure nothing is changed."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetBlockIoTune")
        given = checked(params, _KINDS)
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-block-io-tune"):
            live, config = impact(guest, flags)
            _sane(given)
            changed = guest.definition.copy() if config and guest.definition else None
            if live:
                assert guest.live is not None
                device = _tunable(guest.live, disk, "disk '{}' not found in domain")
                tuned = _merged(guest.live, device, given)
                _bursts_fit(tuned)
            if changed is not None:
                other = _tunable(changed, disk, "missing persistent configuration for disk '{}'")
                kept = _merged(changed, other, given)
                _put(changed, other, kept)
            if live:
                assert guest.live is not None
                await throttle.apply(running(guest), device, tuned or IoTune())
                _put(guest.live, device, tuned)
                keep_live(self._ctx, guest)
                told = {f"blkdeviotune.{name}": (_KINDS[name], value) for name, value in given.items()}
                self._guests.tell(guest, _TUNABLE, {"params": {"blkdeviotune.disk": ("string", disk), **told}})
            if changed is not None:
                keep(self._ctx, guest, changed)

    # -- size

    async def block_resize(self, dom: DomainRef, disk: str, size: int, flags: int) -> None:
        """Make the image as large as ``size``, KiB or with the flag bytes, while the guest runs."""
        check_flags(flags, _RESIZE_BYTES, "qemuDomainBlockResize")
        if not flags & _RESIZE_BYTES:
            if size > _ULL_MAX // 1024:
                raise Overflow(f"size must be less than {_ULL_MAX // 1024}")
            size *= 1024
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "block-resize"):
            machine = running(guest)
            device = disk_of(guest.current, disk)
            if device is None:
                raise InvalidArg(f"disk '{disk}' was not found in the domain config")
            if device.type == "vhostuser":
                raise OperationUnsupported("block resize is not supported for vhostuser disk")
            if device.format in ("qcow2", "qed"):
                size = -(-size // 512) * 512
            if not device.layers or device.readonly:
                raise OperationUnsupported(f"can't resize empty or readonly disk '{device.dev}'")
            await machine.execute("block_resize", {"node-name": top_node(device), "size": size})

    # -- how full they get

    async def set_block_threshold(self, dom: DomainRef, dev: str, threshold: int, flags: int) -> None:
        """Tell once, by an event, when the guest writes beyond ``threshold`` bytes of an image's file. ``dev`` is a
        disk's target, with a number in brackets behind it for another image of its chain."""
        check_flags(flags, 0, "qemuDomainSetBlockThreshold")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-block-threshold"):
            machine = running(guest)
            matched = _DEVICE.fullmatch(dev)
            if matched is None:
                raise InvalidArg(f"failed to parse block device '{dev}'")
            device = next((d for d in guest.current.dev.disks if d.dev == matched[1]), None)
            if device is None:
                raise InvalidArg(f"failed to find disk '{matched[1]}'")
            if device.type == "vhostuser":
                raise OperationUnsupported("setting device threshold is not supported for vhostuser disk")
            number = int(matched[2] or 0) or (device.source.index if device.source is not None else None)
            if number is None or all(layer.index != number for layer in device.layers):
                raise InvalidArg(f"failed to find disk '{dev}'")
            node = node_name(number, "storage")
            await machine.execute("block-set-write-threshold", {"node-name": node, "write-threshold": threshold})
            self._watched[guest.uuid, node] = bool(matched[2])

    def _threshold_passed(self, guest: Guest, data: dict[str, Any]) -> None:
        node = data["node-name"]
        numbered = self._watched.pop((guest.uuid, node), False)
        for disk in guest.current.dev.disks:
            for layer in disk.layers:
                if layer.index is None or node_name(layer.index, "storage") != node:
                    continue
                names = [f"{disk.dev}[{layer.index}]"]
                if layer.index == disk.layers[0].index and not numbered:
                    names.insert(0, disk.dev)
                for name in names:
                    told = {"threshold": data["write-threshold"], "excess": data["amount-exceeded"]}
                    self._guests.tell(guest, _THRESHOLD, {"dev": name, "path": layer.path, **told})


def _tunable(document: Domain, name: str, missing: str) -> Disk:
    disk = disk_of(document, name)
    if disk is None:
        raise InvalidArg(missing.format(name))
    if disk.type == "vhostuser":
        raise ConfigUnsupported("a block I/O throttling is not supported for vhostuser disk")
    return disk


def _sane(given: dict[str, Any]) -> None:
    for value in given.values():
        if isinstance(value, int) and value > _MOST:
            raise ArgumentUnsupported(f"block I/O throttle limit value must be no more than {_MOST}")
    for end in ("", "_max"):
        for what in ("bytes", "iops"):
            total, read, write = (given.get(f"{who}_{what}_sec{end}") for who in ("total", "read", "write"))
            if total and (read or write):
                raise InvalidArg(f"total and read/write of {what}_sec{end} cannot be set at the same time")


def _merged(document: Domain, disk: Disk, given: dict[str, Any]) -> IoTune | None:
    """The limits that a disk is to have: those of its kind where one of them is given, else what it or the group has
    had; None for no limits at all. Raises ConfigUnsupported where a group would come without limits."""
    group = given.get("group_name")
    had = disk.iotune
    if group is not None and (had is None or had.group_name != group):
        mates = (d.iotune for d in document.dev.disks if d.iotune is not None)
        had = next((tune for tune in mates if tune.group_name == group), had)
    old, new = had or IoTune(), IoTune()
    for what in ("bytes_sec", "bytes_sec_max", "iops_sec", "iops_sec_max"):
        names = [f"{who}_{what}" for who in ("total", "read", "write")]
        source = given.get if any(name in given for name in names) else lambda name: getattr(old, name)
        for name in names:
            setattr(new, name, source(name) or None)
    new.size_iops_sec = given.get("size_iops_sec", old.size_iops_sec) or None
    new.group_name = given.get("group_name", old.group_name) or None
    for what in ("bytes_sec", "iops_sec"):
        names = [f"{who}_{what}" for who in ("total", "read", "write")]
        set_here = any(f"{name}_max_length" in given for name in names)
        for name in names:
            before, now = getattr(old, f"{name}_max_length"), given.get(f"{name}_max_length")
            if not set_here:
                now = before
            elif before and not now:  # QEMU takes no 0 beside a limit
                now = 1 if getattr(new, name) or getattr(new, f"{name}_max") else None
            setattr(new, f"{name}_max_length", now or None)
    if throttle.limits(new):
        return new
    if new.group_name and new.group_name != (disk.iotune.group_name if disk.iotune is not None else None):
        raise ConfigUnsupported("creating a new group/updating existing with all tune parameters zero is not supported")
    return None


def _bursts_fit(tune: IoTune | None) -> None:
    for name in _RATES:
        rate, burst = getattr(tune, name, None) or 0, getattr(tune, f"{name}_max", None) or 0
        if burst and not rate:
            raise ConfigUnsupported(f"cannot reset '{name}' when '{name}_max' is set")
        if burst and burst < rate:
            raise ConfigUnsupported(f"value '{name}_max' cannot be smaller than '{name}'")


def _put(document: Domain, disk: Disk, tune: IoTune | None) -> None:
    disk.iotune = tune
    if tune is None or not tune.group_name:
        return
    for other in document.dev.disks:
        if other is not disk and other.iotune is not None and other.iotune.group_name == tune.group_name:
            other.iotune = tune.copy()
