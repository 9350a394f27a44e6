"""Devices of a running guest that are changed in their place: media of drives, network cards, screens, memory.

What may change, and the words for what may not, are libvirt 9.0's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from guesthouse import units
from guesthouse.errors import (
    ConfigUnsupported,
    DeviceMissing,
    GuesthouseError,
    InternalError,
    OperationDenied,
    OperationFailed,
    OperationUnsupported,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import device_match
from guesthouse.model.device_match import Device
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.graphics import Graphics
from guesthouse.model.devices.interface import Interface, Link
from guesthouse.qemu import command, hotplug, images, throttle
from guesthouse.qemu.machine import Happening, Machine
from guesthouse.qemu.monitor import MonitorError
from guesthouse.qemu.parts import Parts
from guesthouse.services.context import Context
from guesthouse.services.device_plug import alone_with, made_up, own_labels, parts_of, renumber
from guesthouse.services.documents import keep_live, running
from guesthouse.services.faults import step
from guesthouse.services.guests import KIND, Guest, Guests
from guesthouse.services.lifecycle import Runner
from guesthouse.services.network_ports import NetworkPorts
from guesthouse.services.networks import Networks

_TRAY_CHANGE = 10  # virDomainEventID
_TRAY_WAIT = 10.0
_REMOVABLE = ("cdrom", "floppy")
_DRIVER = ("cache", "error_policy", "rerror_policy", "io", "ioeventfd", "event_idx", "copy_on_read")
_DRIVER_LATE = ("discard", "iothread")


class DeviceUpdate:
    """Changes devices of running guests. The caller holds the guest's job."""

    def __init__(self, ctx: Context, guests: Guests, runner: Runner, networks: Networks, ports: NetworkPorts) -> None:
        self._ctx = ctx
        self._guests = guests
        self._runner = runner
        self._networks = networks
        self._ports = ports
        runner.hearers["DEVICE_TRAY_MOVED"] = self._tray_moved
        runner.after_adoption.append(self._repair)

    async def update(self, guest: Guest, device: Device, *, force: bool) -> None:
        """Make the running guest's device like ``device``, as far as it can be. On failure it is as before."""
        machine = running(guest)
        live = guest.live
        assert live is not None
        changes: dict[str, Callable[[Guest, Machine, Device, bool], Any]] = {
            "disk": self._disk,
            "interface": self._interface,
            "graphics": self._graphics,
            "memory": self._memory,
        }
        change = changes.get(device.kind)
        if change is None:
            raise ConfigUnsupported(f"live update of device '{device.kind}' is not supported")
        await change(guest, machine, device, force)
        keep_live(self._ctx, guest)

    # -- disks

    async def _disk(self, guest: Guest, machine: Machine, device: Device, force: bool) -> None:
        live = guest.live
        assert live is not None
        found = device_match.find(live, device)
        if found is None:
            raise InternalError(f"disk '{device.element.dev}' not found", domain=ErrorDomain.QEMU)
        old, new = found.element, device.element
        _same_alias(device, found)
        _check_disk(old, new)
        if _where(old) == _where(new):
            if new.source is not None and old.source is not None:
                old.source.startup_policy = new.source.startup_policy
            old.snapshot = new.snapshot
            return
        if old.device not in _REMOVABLE:
            raise ConfigUnsupported("disk source can be changed only in removable drives")
        await self._change_media(guest, machine, found, new, force)

    async def _change_media(self, guest: Guest, machine: Machine, found: Device, new: Disk, force: bool) -> None:
        live = guest.live
        assert live is not None
        old = found.element
        changed = old.copy()
        changed.type, changed.source, changed.backing = new.type, new.source and new.source.copy(), None
        if changed.source is None:
            changed.type = "file"
        if changed.driver is not None and changed.source is not None:
            changed.driver.type = (new.driver and new.driver.type) or "raw"
        drive = Device(found.spec, changed)
        alone = alone_with(live, drive)
        labels, places = self._runner.settle(guest, alone)
        if changed.driver is not None and changed.source is None:
            changed.driver.type = (new.driver and new.driver.type) or "raw"  # the drive may say what its media are
        labels = [label for label in labels if all(label["path"] != other["path"] for other in guest.labels)]
        if changed.source is not None:
            renumber(live, changed)
        before = parts_of(live, found, made_up(live))
        async with AsyncExitStack() as undo:
            with ExitStack() as closing:
                device_match.replace(live, found, changed)
                undo.callback(self._put_back, guest, drive, old, labels)
                guest.labels += labels
                self._write(guest, places, {found.alias: found.xml()})
                step("media-row")
                for label in labels:
                    images.apply(label)
                wiring = command.Wiring(-1)
                await self._runner.wire(guest, alone, wiring, closing, undo, self._runner.channels(machine))
                async with self._runner.secrets_told(machine, changed):
                    await _swap(machine, drive, before, parts_of(live, drive, wiring), force=force)
                await throttle.settle(machine, alone)
                step("media-changed")
            undo.pop_all()
        self._give_back(guest, old)
        self._write(guest, {}, {})

    def _put_back(self, guest: Guest, drive: Device, old: Disk, labels: list[dict[str, Any]]) -> None:
        if guest.live is None:
            return
        device_match.replace(guest.live, drive, old)
        for label in labels:
            images.restore(label)
        guest.labels = [label for label in guest.labels if label not in labels]
        self._write(guest, {}, {})

    def _give_back(self, guest: Guest, old: Disk) -> None:
        """The image that is not in the drive any more belongs to its owner again."""
        assert guest.live is not None
        given = own_labels(guest.labels, old, guest.live.dev.disks)
        for label in given:
            images.restore(label)
        guest.labels = [label for label in guest.labels if label not in given]

    def _write(self, guest: Guest, places: dict[str, list[str]], media: dict[str, str]) -> None:
        """Write down the live document; ``media`` are the drives of which it is not sure yet what is in them."""
        row = self._ctx.store.get_runtime(KIND, guest.uuid)
        if row is None or guest.live is None:
            return
        volumes = {**row.get("volumes", {}), **places}
        changed = {"xml": guest.live.to_xml(secrets=True), "labels": guest.labels, "volumes": volumes, "media": media}
        self._ctx.store.put_runtime(KIND, guest.uuid, {**row, **changed})

    async def _repair(self, guest: Guest) -> None:
        """Finish, or take back, a change of media in which the daemon before this one died."""
        row = self._ctx.store.get_runtime(KIND, guest.uuid)
        live, machine = guest.live, guest.machine
        if row is None or not row.get("media") or live is None or machine is None:
            return
        inside = {
            item.get("qdev", ""): (item.get("inserted") or {}).get("node-name")
            for item in await machine.execute("query-block")
        }
        for alias, xml in row["media"].items():
            drive = device_match.by_alias(live, alias)
            if drive is None:
                continue
            before = device_match.parse(xml)
            new = parts_of(live, drive, made_up(live))
            old = parts_of(live, before, made_up(live))
            node = inside.get(alias)
            wanted = _node(new)
            if node != wanted:  # the new one is not in: the old one is, or nothing
                if node is None:
                    before.element.source = before.element.backing = None
                device_match.replace(live, drive, before.element)
                await hotplug.take_backends(machine, new)
                self._give_back(guest, drive.element)
            if node is None or node == wanted:
                await hotplug.take_backends(machine, old)
                self._give_back(guest, before.element)
        self._write(guest, {}, {})

    def _tray_moved(self, guest: Guest, data: dict[str, Any]) -> None:
        live = guest.live
        drive = device_match.by_alias(live, data.get("id") or data.get("device") or "") if live is not None else None
        if drive is None or not isinstance(drive.element, Disk) or drive.element.target is None:
            return
        is_open = bool(data["tray-open"])
        if (drive.element.target.tray == "open") == is_open:
            return
        drive.element.target.tray = "open" if is_open else None
        self._guests.tell(guest, _TRAY_CHANGE, {"devAlias": drive.alias, "reason": 0 if is_open else 1})
        keep_live(self._ctx, guest)

    # -- network cards

    async def _interface(self, guest: Guest, machine: Machine, device: Device, force: bool) -> None:
        live = guest.live
        assert live is not None
        found = device_match.find(live, device)
        assert found is not None
        old, new = found.element, device.element
        _same_alias(device, found)
        _check_card(old, new)
        tapped = ("network", "bridge")
        if old.type != new.type and not (old.type in tapped and new.type in tapped):
            raise _unsupported(f"unable to change config on '{new.type}' network type")
        changed = old.copy()
        moves = (old.type, _plugged_into(old)) != (new.type, _plugged_into(new)) and old.type in tapped
        changed.type, changed.link = new.type, new.link and new.link.copy()
        changed.bandwidth = new.bandwidth and new.bandwidth.copy()
        changed.port = new.port and new.port.copy()
        changed.filterref = new.filterref and new.filterref.copy()
        filters = changed.filterref != old.filterref
        if filters and changed.filterref is not None and new.type not in tapped:
            raise _unsupported(f"filterref is not supported for network interfaces of type {new.type}")
        if changed.port != old.port and not moves:
            raise _unsupported("changing the isolation of a card while its guest runs is not supported yet")
        if filters:
            await self._networks.refilter(changed, guest.ref)
        try:
            await self._rewire(guest, machine, found, changed, new if moves else None)
        except BaseException:
            if filters:
                await self._networks.refilter(old, guest.ref)
            raise
        device_match.replace(live, found, changed)

    async def _rewire(
        self, guest: Guest, machine: Machine, found: Device, changed: Interface, new: Interface | None
    ) -> None:
        """Give a card the limits and the link of ``changed``, and the place of ``new``, if it moves. On failure it has
        what it had."""
        old, moves = found.element, new is not None
        if new is not None:
            changed.source = new.source and new.source.copy()
            if changed.source is not None:
                changed.source.portid = None
                changed.source.bridge = changed.source.bridge if new.type == "bridge" else None
            await self._networks.replug(old, changed, guest.ref)
        elif changed.bandwidth != old.bandwidth:
            await self._ports.limit(old, changed.bandwidth)
        up, was = _is_up(changed.link), _is_up(old.link)
        if up != was:
            try:
                await machine.execute("set_link", {"name": found.alias, "up": up})
            except GuesthouseError:
                if moves:
                    await self._networks.replug(changed, old, guest.ref)
                raise

    # -- screens

    async def _graphics(self, guest: Guest, machine: Machine, device: Device, force: bool) -> None:
        live = guest.live
        assert live is not None
        found = device_match.find(live, device)
        kind = device.element.type
        if found is None:
            text = f"cannot find existing graphics device to modify of type '{kind}'"
            raise DeviceMissing(text, domain=ErrorDomain.QEMU)
        old, new = found.element, device.element
        if kind not in ("vnc", "spice"):
            raise InternalError(f"unable to change config on '{kind}' graphics type", domain=ErrorDomain.QEMU)
        _check_screen(old, new)
        timed = old.passwd_valid_to or new.passwd_valid_to
        if timed or old.connected != new.connected or new.connected == "disconnect" or old.passwd != new.passwd:
            if new.passwd is not None:
                await machine.set_password(kind, new.passwd, new.connected, new.passwd_valid_to)
                if old.passwd_valid_to and not new.passwd_valid_to:
                    await machine.execute("expire_password", {"protocol": kind, "time": "never"})
            old.passwd, old.connected, old.passwd_valid_to = new.passwd, new.connected, new.passwd_valid_to

    # -- memory

    async def _memory(self, guest: Guest, machine: Machine, device: Device, force: bool) -> None:
        live = guest.live
        assert live is not None
        found = device_match.same_memory(live, device)
        if found is None:
            raise ConfigUnsupported(f"memory '{device.alias or '(null)'}' not found")
        old, new = found.node(), device.node()
        model = old.get("model")
        if model != "virtio-mem":
            raise ConfigUnsupported(f"cannot modify memory of model '{model}'")
        if new.get("model") != model:
            raise ConfigUnsupported(f"cannot modify memory model from '{model}' to '{new.get('model')}'")
        for path, text in _MEMORY:
            before, after = _kib(old.find(path)), _kib(new.find(path))
            if before != after:
                raise ConfigUnsupported(f"cannot modify memory {text} from '{before}' to '{after}'")
        wanted = _kib(new.find("target/requested"))
        path = f"/machine/peripheral/{found.alias}"
        await machine.execute("qom-set", {"path": path, "property": "requested-size", "value": wanted * 1024})
        for name in ("alias", "address"):
            if getattr(device.element, name, None) is None and hasattr(device.element, name):
                setattr(device.element, name, getattr(found.element, name))
        device_match.replace(live, found, device.element)


_MEMORY = (("target/size", "size"), ("target/block", "block size"), ("target/node", "targetNode"))


def _kib(node: Any) -> int:
    if node is None or not (node.text or "").strip():
        return 0
    return -(-units.scale(int(node.text), node.get("unit"), "KiB") // 1024)


def _same_alias(device: Device, found: Device) -> None:
    if device.alias and device.alias != found.alias:
        raise OperationDenied("changing device alias is not allowed", domain=ErrorDomain.DOMAIN)


def _unsupported(text: str) -> OperationUnsupported:
    return OperationUnsupported(text, domain=ErrorDomain.QEMU)


# -- disks


def _where(disk: Disk) -> tuple[Any, ...]:
    source = disk.source
    if source is None:
        return ()
    names = ("file", "dev", "dir", "protocol", "name", "pool", "volume")
    return (disk.type, *(getattr(source, name, None) for name in names))


def _check_disk(old: Disk, new: Disk) -> None:
    """Raises OperationUnsupported for what cannot change about a drive."""

    def differ(name: str, one: Any, other: Any, *, kept: bool = True) -> None:
        if (other or not kept) and one != other:
            raise _unsupported(f"cannot modify field '{name}' of the disk")

    differ("device", old.device, new.device, kept=False)
    differ("bus", old.bus, new.bus)
    for name in ("tray", "removable"):
        differ(name, getattr(old.target, name), getattr(new.target, name))
    for name in ("logical_block_size", "physical_block_size"):
        differ(f"blockio {name}", getattr(old.blockio, name, None), getattr(new.blockio, name, None))
    for name in ("serial", "wwn", "vendor", "product"):
        differ(name, getattr(old, name), getattr(new, name))
    for name in (*_DRIVER, *_DRIVER_LATE):
        differ(name, getattr(old.driver, name, None), getattr(new.driver, name, None))
    differ("address", old.address, new.address)
    differ("boot order", old.boot and old.boot.order, new.boot and new.boot.order)
    differ("readonly", old.readonly, new.readonly)
    differ("shared", old.shareable, new.shareable)


def _node(parts: Parts) -> str | None:
    """The block node that the drive of ``parts`` has in it."""
    return next((props["drive"] for props in parts.devices if "drive" in props), None)


async def _swap(machine: Machine, drive: Device, old: Parts, new: Parts, *, force: bool) -> None:
    """Take one medium out of a drive and put another in; on failure the old one is in it, if the drive gave it up."""
    if drive.element.device == "cdrom" and drive.element.target.tray != "open":
        await _open_tray(machine, drive, force=force)
    await machine.execute("blockdev-remove-medium", {"id": drive.alias})
    await hotplug.take_backends(machine, Parts(blockdevs=old.blockdevs, objects=old.objects))
    try:
        await _insert(machine, drive, new)
    except GuesthouseError:
        try:
            await _insert(machine, drive, old)
        except MonitorError:
            pass
        raise


async def _insert(machine: Machine, drive: Device, parts: Parts) -> None:
    node = _node(parts)
    backends = Parts(blockdevs=parts.blockdevs, objects=parts.objects)
    if node is not None:
        await hotplug.plug(machine, backends)
        try:
            await machine.execute("blockdev-insert-medium", {"id": drive.alias, "node-name": node})
        except BaseException:
            await hotplug.take_backends(machine, backends)
            raise
    if drive.element.device == "cdrom":
        await machine.execute("blockdev-close-tray", {"id": drive.alias})


async def _open_tray(machine: Machine, drive: Device, *, force: bool) -> None:
    moved = asyncio.Event()

    def heard(what: Happening) -> None:
        if (
            what.name == "DEVICE_TRAY_MOVED" and what.data.get("id") == drive.alias and what.data["tray-open"]
        ) or what.name == "DIED":
            moved.set()

    with machine.watched(heard):
        await machine.execute("blockdev-open-tray", {"id": drive.alias, "force": force})
        if not force:
            try:
                await asyncio.wait_for(moved.wait(), _TRAY_WAIT)
            except TimeoutError:
                text = f"timed out waiting to open tray of '{drive.element.dev}'"
                raise OperationFailed(text, domain=ErrorDomain.QEMU) from None


# -- network cards


def _is_up(link: Link | None) -> bool:
    return link is None or link.state != "down"


def _plugged_into(nic: Interface) -> Any:
    source = nic.source
    if source is None:
        return None
    return (source.network, source.portgroup) if nic.type == "network" else source.bridge


def _check_card(old: Interface, new: Interface) -> None:
    """Raises OperationUnsupported for what cannot change about a card. What ``new`` leaves out stays."""
    if old.mac_address != new.mac_address and new.mac_address:
        text = f"cannot change network interface mac address from {old.mac_address} to {new.mac_address}"
        raise _unsupported(text)
    models = [(nic.model and nic.model.type) or "rtl8139" for nic in (old, new)]
    if models[0] != models[1]:
        raise _unsupported(f"cannot modify network device model from {models[0]} to {models[1]}")
    if models[0].startswith("virtio") and old.driver != new.driver:
        options = ("iommu", "ats", "packed", "page_per_vq")
        plain = [nic.driver.copy() if nic.driver is not None else None for nic in (old, new)]
        for driver in plain:
            for name in options if driver is not None else ():
                setattr(driver, name, None)
        texts = [driver.to_xml() if driver is not None else "<driver/>\n" for driver in plain]
        what = "options" if texts[0] == texts[1] else "attributes"
        raise _unsupported(f"cannot modify virtio network device driver {what}")
    if _text(old.script) != _text(new.script):
        raise _unsupported("cannot modify network device script attribute")
    tap = new.target and new.target.dev
    if tap and tap != (old.target and old.target.dev):
        raise _unsupported("cannot modify network device tap name")
    if new.address is not None and new.address.is_pci and not _same_place(old, new):
        raise _unsupported("cannot modify network device guest PCI address")
    for name, words in (
        ("bar", "device rom bar setting"),
        ("file", "rom file"),
        ("enabled", "device rom enabled setting"),
    ):
        wish = getattr(new.rom, name, None)
        if wish is not None and wish != getattr(old.rom, name, None):
            raise _unsupported(f"cannot modify network {words}")
    if new.boot is not None and new.boot.order != (old.boot and old.boot.order):
        raise _unsupported("cannot modify network device boot index setting")
    if (old.mtu and old.mtu.size) != (new.mtu and new.mtu.size):
        raise _unsupported("cannot modify MTU")


def _text(node: Any) -> str | None:
    return None if node is None else str(node.get("path"))


def _same_place(old: Interface, new: Interface) -> bool:
    one, other = old.address, new.address
    if one is None or other is None:
        return False
    places = [(a.domain or 0, a.bus or 0, a.slot or 0, a.function or 0) for a in (one, other)]
    return places[0] == places[1]


# -- screens


def _check_screen(old: Graphics, new: Graphics) -> None:
    """Raises OperationUnsupported for what cannot change about a screen."""
    kind = new.type
    if not new.listens and new.listen is not None:
        asked: list[tuple[str, str | None]] = [("address", new.listen)]
    else:
        asked = [(listen.type or "address", _at(listen)) for listen in new.listens]
    has = [(listen.type or "address", _at(listen)) for listen in old.listens]
    if not asked:
        asked = [("address", None)]
    if len(asked) != len(has):
        raise _unsupported(f"cannot change the number of listen addresses on '{kind}' graphics")
    for (form, where), (had_form, had) in zip(asked, has, strict=True):
        if form != had_form:
            raise _unsupported(f"cannot change the type of listen address on '{kind}' graphics")
        what = "socket" if form == "socket" else "address"
        if where != had:
            raise _unsupported(f"cannot change listen {what} setting on '{kind}' graphics")
    auto = new.autoport if new.autoport is not None else new.port in (None, 0, -1)
    if bool(old.autoport) != auto or (not auto and old.port != new.port):
        raise _unsupported(f"cannot change port settings on {kind} graphics")
    if old.keymap != new.keymap:
        raise _unsupported(f"cannot change keymap setting on {kind} graphics")


def _at(listen: Any) -> str | None:
    found: str | None = {"network": listen.network, "socket": listen.socket}.get(listen.type or "", listen.address)
    return found
