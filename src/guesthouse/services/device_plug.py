"""Devices that come to a running guest and leave it.

A device stands in the live document, and that is written down, before QEMU is told of it; it leaves the document when
QEMU says that it is gone, whenever that is. So a daemon that takes the guest up after another one died compares the
document with what QEMU really has, and clears away what never came or has left meanwhile.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, ExitStack
from dataclasses import fields
from typing import Any

from guesthouse.errors import (
    ConfigUnsupported,
    DeviceMissing,
    GuesthouseError,
    InternalError,
    OperationFailed,
    OperationInvalid,
    OperationUnsupported,
    XMLError,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import addresses, device_match
from guesthouse.model.defaults import GuestDefaults, prepare
from guesthouse.model.device_match import Device
from guesthouse.model.devices.disk import Disk
from guesthouse.model.domain import Devices, Domain
from guesthouse.qemu import command, hotplug, images, throttle
from guesthouse.qemu.machine import Machine
from guesthouse.qemu.parts import Parts
from guesthouse.services import disk_volumes
from guesthouse.services.context import Context
from guesthouse.services.documents import keep_live, running
from guesthouse.services.faults import step
from guesthouse.services.guests import KIND, Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.lifecycle import Runner

_log = logging.getLogger(__name__)

_REMOVED, _ADDED, _REMOVAL_FAILED = 15, 19, 22  # virDomainEventID
#: The kinds that may come while the guest runs; what their devices do not allow is said one by one.
_LIVE = (
    *("disk", "controller", "lease", "interface", "hostdev", "redirdev", "chr", "rng", "memory", "shmem", "watchdog"),
    *("input", "vsock", "filesystem"),
)
_BUSES = ("virtio", "usb", "scsi")
# what QEMU is given one by one
_THINGS = ("objects", "late_objects", "chardevs", "blockdevs", "netdevs", "devices")
# families whose devices QEMU knows by their alias
_KNOWN = (
    *("disks", "interfaces", "hostdevs", "redirdevs", "rngs", "memories", "shmems", "vsocks", "filesystems"),
    *("channels", "inputs", "watchdogs"),
)


class DevicePlug:
    """Plugs devices into running guests, and pulls them out. The caller holds the guest's job, except where a guest lets
    go of a device by itself."""

    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, runner: Runner) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._runner = runner
        self.defaults = GuestDefaults()
        # aliases that a job waits for, by guest: it sees to what follows
        self._awaited: set[tuple[str, str]] = set()
        runner.hearers |= {
            "DEVICE_DELETED": self._deleted,
            "DEVICE_UNPLUG_GUEST_ERROR": self._refused,
            "MEM_UNPLUG_ERROR": self._refused,
        }
        runner.after_adoption.append(self._repair)

    # -- coming

    def admit(self, guest: Guest, device: Device) -> None:
        """Raises AccessDenied where who called may not give the device's storage to a guest."""
        if isinstance(device.element, Disk):
            self._runner.admit_disks(guest.uuid, [device.element])

    async def attach(self, guest: Guest, device: Device) -> None:
        """Give the running guest a device, as a client described it; it is completed, and in the live document
        afterwards. On failure the guest is as before."""
        machine = running(guest)
        assert guest.live is not None
        _check_kind(guest.live, device)
        device_match.check_alias(guest.live, device)
        if device.kind == "lease":
            raise OperationUnsupported("live attach of device 'lease' is not supported", domain=ErrorDomain.QEMU)
        for needed in self._complete(guest.live, device):
            await self._plug(guest, machine, needed)
        await self._plug(guest, machine, device)
        self._guests.tell(guest, _ADDED, {"devAlias": device.alias})

    def _complete(self, live: Domain, device: Device) -> list[Device]:
        """Give a device what a start would: defaults, a place, an alias. Returns controllers that it needs and the guest
        has not. Raises InternalError where there is no place for it."""
        paper = live.copy()
        device_match.insert(paper, device)

        kept = [id(c) for c in paper.dev.controllers]
        prepare(paper, self.defaults)
        if not any(device.element is other for other in device_match.family(paper, device.spec)):
            raise InternalError(f"the device '{device.kind}' has no place in this guest")
        controller = device_match.Device(_family("controller"), None)
        fresh = [
            device_match.Device(controller.spec, c)
            for c in paper.dev.controllers
            if id(c) not in kept and c is not device.element
        ]

        for needed in fresh:
            if needed.element.type == "pci":
                raise InternalError("No more available PCI slots", domain=ErrorDomain.DOMAIN)
        users_own = device.alias if device.alias.startswith("ua-") else ""
        addresses.assign_aliases(paper)
        if users_own:
            device.element.alias.name = users_own
        elif not isinstance(device.element, Disk) and device.kind != "controller":
            _number(live, device)
        return fresh

    async def _plug(self, guest: Guest, machine: Machine, device: Device) -> None:
        """Plug one completed device in, all that it needs of the host with it."""
        live = guest.live
        assert live is not None
        alone = alone_with(live, device)
        labels, places = self._runner.settle(guest, alone)
        if isinstance(device.element, Disk) and device.element.source is not None:
            renumber(live, device.element)
        async with AsyncExitStack() as undo:
            with ExitStack() as closing:
                labels = [label for label in labels if all(label["path"] != old["path"] for old in guest.labels)]
                device_match.insert(live, device)
                device_match.count_memory(live, device)
                undo.callback(self._forget, guest, device, labels)
                guest.labels += labels
                self._write(guest, places)
                step("attach-row")
                for label in labels:
                    images.apply(label)
                step("attach-labelled")
                wiring = command.Wiring(-1)
                channels = self._runner.channels(machine)
                await self._runner.wire(guest, alone, wiring, closing, undo, channels)
                self._write(guest, places)
                step("attach-wired")
                async with self._runner.secrets_told(machine, device.element):
                    await hotplug.plug(machine, parts_of(live, device, wiring))
                step("attach-plugged")
                await _act(machine, parts_of(live, device, wiring))
                undo.push_async_callback(hotplug.take_device, machine, device.alias)
                await throttle.settle(machine, alone)
            await self._runner.learn_characters(alone, machine)
            if device.kind == "chr" and device.element.target is not None:
                device.element.target.state = None  # an event tells when somebody in the guest listens
            if device.kind == "interface" and device.element.link is not None and device.element.link.state == "down":
                await machine.execute("set_link", {"name": device.alias, "up": False})
            self._write(guest, places)
            undo.pop_all()
        step("attach-done")

    def _write(self, guest: Guest, places: disk_volumes.Places | None = None) -> None:
        """Write down the live document, and the labels that are to be given back."""
        row = self._ctx.store.get_runtime(KIND, guest.uuid)
        if row is None or guest.live is None:
            return
        volumes = {**row.get("volumes", {}), **(places or {})}
        changed = {"xml": guest.live.to_xml(secrets=True), "labels": guest.labels, "volumes": volumes}
        self._ctx.store.put_runtime(KIND, guest.uuid, {**row, **changed})

    def _forget(self, guest: Guest, device: Device, labels: list[dict[str, Any]]) -> None:
        """The device is not the guest's (any more): it is out of the document, and its images are their owner's."""
        if guest.live is None:
            return
        device_match.remove(guest.live, device)
        device_match.count_memory(guest.live, device, -1)
        for label in labels:
            images.restore(label)
        guest.labels = [label for label in guest.labels if label not in labels]
        self._write(guest)

    # -- leaving

    async def detach(self, guest: Guest, wanted: Device) -> None:
        """Have the running guest let go of the device that ``wanted`` means. It may still be there afterwards, where the
        guest takes its time: it is out of the document once the guest has let it go. Raises DeviceMissing,
        OperationUnsupported, and OperationFailed where the guest refuses."""
        machine = running(guest)
        assert guest.live is not None
        device = _detachable(guest.live, wanted)
        await self._pull(guest, machine, device, wait=True)

    async def detach_alias(self, guest: Guest, alias: str) -> None:
        """Ask the running guest to let go of a device, and do not wait for it."""
        machine = running(guest)
        assert guest.live is not None
        device = device_match.by_alias(guest.live, alias)
        if device is None:
            raise InternalError(f"no device found with alias {alias}", domain=ErrorDomain.DOMAIN)
        await self._pull(guest, machine, _detachable(guest.live, device), wait=False)

    async def _pull(self, guest: Guest, machine: Machine, device: Device, *, wait: bool) -> None:
        live, alias = guest.live, device.alias
        assert live is not None
        _check_place(live, device)
        if not alias:
            raise InternalError(f"Cannot detach {device.kind} device with no alias", domain=ErrorDomain.QEMU)
        step("detach-checked")
        key = (guest.uuid, alias)
        self._awaited.add(key)
        try:
            gone = await hotplug.unplug(machine, alias, wait=hotplug.UNPLUG_WAIT if wait else 0)
            step("detach-asked")
        finally:
            self._awaited.discard(key)
        if gone or alias not in await hotplug.aliases(machine):
            await self._left(guest, machine, device)

    async def _left(self, guest: Guest, machine: Machine, device: Device) -> None:
        """QEMU has let go of a device: all that was the device's goes, too."""
        live = guest.live
        if live is None or not any(device.element is e for e in device_match.family(live, device.spec)):
            return
        await self._take_away(guest, machine, device)
        step("detach-gone")
        self._guests.tell(guest, _REMOVED, {"devAlias": device.alias})

    async def _take_away(self, guest: Guest, machine: Machine, device: Device) -> None:
        live = guest.live
        assert live is not None
        try:
            await hotplug.take_backends(machine, parts_of(live, device, made_up(live)))
        except ConfigUnsupported as error:
            _log.warning("what '%s' of %s had is left: %s", device.alias, guest.name, error)
        step("detach-backends")
        alone = alone_with(live, device)
        await self._runner.unwire(alone)
        self._forget(guest, device, self._labels_of(guest, device))

    def _labels_of(self, guest: Guest, device: Device) -> list[dict[str, Any]]:
        """The labels that nothing else of the guest needs."""
        assert guest.live is not None
        if not isinstance(device.element, Disk):
            return []
        others = [disk for disk in guest.live.dev.disks if disk is not device.element]
        return own_labels(guest.labels, device.element, others)

    # -- by themselves

    def _deleted(self, guest: Guest, data: dict[str, Any]) -> None:
        alias = data.get("device") or ""
        if alias and (guest.uuid, alias) not in self._awaited:
            self._runner.spawn(self._late(guest, alias))

    async def _late(self, guest: Guest, alias: str) -> None:
        async with self._jobs.changing(guest.uuid, "device-deleted"):
            device = device_match.by_alias(guest.live, alias) if guest.live is not None else None
            if device is not None and guest.machine is not None and not guest.stopping:
                await self._left(guest, guest.machine, device)

    def _refused(self, guest: Guest, data: dict[str, Any]) -> None:
        if alias := data.get("device"):
            self._guests.tell(guest, _REMOVAL_FAILED, {"devAlias": alias})

    async def _repair(self, guest: Guest) -> None:
        """Clear away devices that the document has and QEMU has not: the daemon before this one died while they came, or
        nobody saw them leave."""
        live, machine = guest.live, guest.machine
        assert live is not None and machine is not None
        there = await hotplug.aliases(machine)
        for device in [*device_match.everything(live)]:
            if device.spec.name not in _KNOWN or not device.alias or device.alias in there or _built_in(device):
                continue
            _log.info("the device %s of %s is not there: it is cleared away", device.alias, guest.name)
            await self._take_away(guest, machine, device)
        keep_live(self._ctx, guest)


def _family(tag: str) -> Any:
    return next(spec for spec in Devices.SPECS if spec.tag == tag)


def own_labels(labels: list[dict[str, Any]], disk: Disk, others: list[Disk]) -> list[dict[str, Any]]:
    """Those of ``labels`` that are of the disk's images and of no other disk's."""
    used = {layer.path for other in others for layer in other.layers}
    own = {layer.path for layer in disk.layers}
    return [label for label in labels if label["path"] in own and label["path"] not in used]


def alone_with(live: Domain, device: Device) -> Domain:
    """The guest with its buses and this one device, the very same."""
    alone = live.copy()
    for spec in Devices.SPECS:
        if spec.name in ("emulator", "controllers"):
            continue
        if spec.form == "children":
            setattr(alone.dev, spec.name, [])
        elif spec.form == "child":
            setattr(alone.dev, spec.name, None)
    if alone.os is not None:
        alone.os.kernel = alone.os.initrd = alone.os.dtb = None
        alone.os.boots = []  # the order was decided when the guest started
    if device.kind != "controller":
        device_match.insert(alone, device)
    else:
        alone.dev.controllers = [c for c in alone.dev.controllers if _key(c) != _key(device.element)]
        device_match.insert(alone, device)
    return alone


def _key(controller: Any) -> tuple[Any, ...]:
    return controller.type, controller.index


def parts_of(live: Domain, device: Device, wiring: command.Wiring) -> Parts:
    """What the device comes to: all that the guest would have with it and would not without it."""
    alone = alone_with(live, device)
    whole = command.device_parts(alone, wiring)
    device_match.remove(alone, device)
    rest = command.device_parts(alone, wiring)
    out = Parts()
    for field in fields(Parts):
        if field.name in _THINGS:
            had = [_identity(item) for item in getattr(rest, field.name)]
            getattr(out, field.name).extend(i for i in getattr(whole, field.name) if _identity(i) not in had)
    out.options = [word for number, word in enumerate(whole.options) if word not in rest.options[number : number + 1]]
    return out


def _identity(item: Any) -> Any:
    """What tells an object of QEMU's apart."""
    return (item.get("node-name") or item.get("id") or item) if isinstance(item, dict) else item.id


async def _act(machine: Machine, parts: Parts) -> None:
    """What the command line says of a device beside it: what a watchdog does."""
    for word, value in zip(parts.options, parts.options[1:], strict=False):
        if word == "-action":
            name, _, action = value.partition("=")
            await machine.execute("set-action", {name: action})


def made_up(live: Domain) -> command.Wiring:
    """The host's ends as numbers that mean nothing, where only names are wanted."""
    wiring = command.Wiring(-1)
    for device in device_match.everything(live):
        if device.kind == "interface" and device.element.type != "user":
            wiring.taps[device.alias] = -1
        elif device.kind == "chr" and device.element.type == "unix":
            wiring.sockets[device.alias] = -1
    return wiring


def _number(live: Domain, device: Device) -> None:
    """Call a device by the first number above those of its family that the guest has."""
    prefix = device.alias.rstrip("0123456789")
    if not prefix or prefix == device.alias:
        return
    numbers = [
        int(rest)
        for other in device_match.everything(live)
        if (rest := other.alias.removeprefix(prefix)).isdigit() and other.alias.startswith(prefix)
    ]
    device.element.alias.name = f"{prefix}{max(numbers, default=-1) + 1}"


def renumber(live: Domain, disk: Disk) -> None:
    """Numbers for a disk's images that no other image of the guest has."""
    taken = [0]
    for other in live.dev.disks:
        below: Any = other if other is not disk else None
        while below is not None:
            taken.append((below.source and below.source.index) or getattr(below, "index", None) or 0)
            below = getattr(below, "backing", None)
    number = max(taken)
    assert disk.source is not None
    disk.source.index = number = number + 1
    below = disk.backing
    while below is not None and below.source is not None:
        below.index = number = number + 1
        below = getattr(below, "backing", None)


# -- what is refused, in libvirt's words


def _check_kind(live: Domain, device: Device) -> None:
    """Raises where a device of this kind cannot come while the guest runs."""
    kind, element = device.kind, device.element
    if kind not in _LIVE:
        raise _unsupported(f"live attach of device '{kind}' is not supported")
    if isinstance(element, Disk):
        _check_disk(live, element)
    elif kind == "controller":
        if element.type != "scsi":
            raise _unsupported(f"'{element.type}' controller cannot be hot plugged.")
        if element.index is not None and device_match.find(live, device) is not None:
            raise OperationFailed(f"target {element.type}:{element.index} already exists", domain=ErrorDomain.QEMU)
    elif kind == "chr":
        if device.tag == "console" and not element.is_virtio:
            raise ConfigUnsupported("unsupported console target type serial")
        device_match.check_character(live, device)
    elif kind == "watchdog":
        if live.dev.watchdogs:
            raise OperationInvalid("domain already has a watchdog", domain=ErrorDomain.QEMU)
        if element.model != "i6300esb":
            raise _unsupported(f"hotplug of watchdog of model {element.model} is not supported")
    elif kind == "input":
        if (element.bus or "ps2") not in ("usb", "virtio") and element.type != "tablet":
            raise _unsupported(f"input device on bus '{element.bus or 'ps2'}' cannot be hot plugged.")
    elif kind == "vsock" and device_match.family(live, device.spec):
        raise _unsupported("the domain already has a vsock device")
    elif kind == "filesystem" and "virtiofs" not in device.xml():
        raise _unsupported("only virtiofs filesystems can be hotplugged")
    elif kind in ("filesystem", "vsock"):
        # their helper and their descriptor are made when the guest starts
        raise _unsupported(f"live attach of device '{kind}' is not supported yet")
    elif kind == "interface" and element.mac_address:
        _check_nic(live, device)


def _check_disk(live: Domain, disk: Disk) -> None:
    if disk.device == "floppy":
        raise _unsupported("floppy device hotplug isn't supported")
    for other in live.dev.disks:
        if other.dev == disk.dev:
            text = f"target '{disk.dev}' duplicated for disk sources '{_source(other)}' and '{_source(disk)}'"
            raise XMLError(text, domain=ErrorDomain.DOMAIN)
    bus = disk.bus or {"vd": "virtio", "sd": "scsi", "hd": "ide", "fd": "fdc"}.get(disk.dev[:2], "ide")
    if bus == "virtio" and disk.device == "cdrom":
        raise _unsupported("cdrom device with virtio bus isn't supported")
    if bus not in _BUSES:
        raise _unsupported(f"disk bus '{bus}' cannot be hotplugged.")


def _source(disk: Disk) -> str:
    source = disk.source
    return (source and (source.file or source.dev or source.name or source.volume)) or "<null>"


def _check_nic(live: Domain, device: Device) -> None:
    for other in live.dev.interfaces:
        same = device.address is not None and device.address.is_pci and other.address == device.address
        if same:
            raise XMLError("Attempted double use of PCI Address", domain=ErrorDomain.DOMAIN)


def _detachable(live: Domain, wanted: Device) -> Device:
    """The device of the live document that is meant. Raises where there is none, or it cannot leave."""
    kind = wanted.kind
    if kind not in _LIVE:
        raise _unsupported(f"live detach of device '{kind}' is not supported")
    if kind == "controller" and wanted.element.type != "scsi":
        raise _unsupported(f"'{wanted.element.type}' controller cannot be hot unplugged.")
    found = device_match.find(live, wanted)
    if found is None or (wanted.tag == "console" and not found.element.is_virtio):
        raise _missing(live, wanted)
    element = found.element
    if isinstance(element, Disk):
        if element.device in ("disk", "lun") and element.bus not in _BUSES:
            raise _unsupported("This type of disk cannot be hot unplugged")
        if element.device not in ("disk", "lun") and not (element.device == "cdrom" and element.bus in ("usb", "scsi")):
            raise _unsupported(f"disk device type '{element.device}' cannot be detached")
    elif kind == "controller" and _busy(live, element.index or 0):
        raise OperationFailed("device cannot be detached: device is busy", domain=ErrorDomain.QEMU)
    elif kind == "input" and element.bus not in ("usb", "virtio"):
        raise _unsupported(f"input device on bus '{element.bus}' cannot be detached")
    elif kind == "watchdog" and element.model != "i6300esb":
        raise _unsupported(f"hot unplug of watchdog of model {element.model} is not supported")
    return found


def _busy(live: Domain, index: int) -> bool:
    return any(disk.bus == "scsi" and disk.address and disk.address.controller == index for disk in live.dev.disks)


def _missing(live: Domain, wanted: Device) -> GuesthouseError:
    kind, element = wanted.kind, wanted.element
    if kind == "redirdev":
        return OperationInvalid("no matching redirdev was not found", domain=ErrorDomain.QEMU)
    if kind == "hostdev":
        return DeviceMissing(_host_device(wanted), domain=ErrorDomain.QEMU)
    model = getattr(element, "model", None)
    texts = {
        "disk": f"disk {getattr(element, 'dev', '')} not found",
        "controller": f"controller {getattr(element, 'type', '')}:{getattr(element, 'index', 0)} not found",
        "chr": f"chr type '{wanted.tag}' device not present in domain configuration",
        "rng": f"model '{model}' RNG device not present in domain configuration",
        "memory": f"model '{model}' memory device not present in the domain configuration",
        "shmem": f"model '{model}' shmem device not present in domain configuration",
        "watchdog": "watchdog device not present in domain configuration"
        if not live.dev.watchdogs
        else f"model '{live.dev.watchdogs[0].model}' watchdog device not present in domain configuration",
        "input": "matching input device not found",
        "vsock": "matching vsock device not found",
        "filesystem": "matching filesystem not found",
    }
    return DeviceMissing(texts.get(kind, "device not present in domain configuration"), domain=ErrorDomain.QEMU)


def _host_device(wanted: Device) -> str:
    source = wanted.node().find("source")
    place = source.find("address") if source is not None else None
    number = {name: int(text, 0) for name, text in place.attrib.items() if name != "uuid"} if place is not None else {}
    kind = wanted.node().get("type")
    if kind == "pci":
        spot = [number.get(name, 0) for name in ("domain", "bus", "slot", "function")]
        return "host pci device {:04x}:{:02x}:{:02x}.{:d} not found".format(*spot)
    if kind == "usb" and number:
        return f"host usb device {number.get('bus', 0):03d}.{number.get('device', 0):03d} not found"
    if kind == "usb" and source is not None:
        made = [
            int((n.get("id") if (n := source.find(tag)) is not None else "0") or "0", 0)
            for tag in ("vendor", "product")
        ]
        return "host usb device vendor=0x{:04x} product=0x{:04x} not found".format(*made)
    return "device not present in domain configuration"


def _check_place(live: Domain, device: Device) -> None:
    """Raises OperationFailed where the device sits where nothing can be pulled out."""
    address = device.address
    if address is None or not address.is_pci:
        return
    spot = f"{address.domain or 0:04x}:{address.bus or 0:02x}:{address.slot or 0:02x}.{address.function or 0}"
    for other in device_match.everything(live):
        beside = other.address if other.element is not device.element else None
        if beside is None or not beside.is_pci:
            continue
        if (beside.bus, beside.slot) == (address.bus, address.slot):
            text = f"cannot hot unplug {device.kind} device with multifunction PCI guest address: {spot}"
            raise OperationFailed(text, domain=ErrorDomain.QEMU)
    bus = next((c for c in live.dev.controllers if c.type == "pci" and c.index == (address.bus or 0)), None)
    why = "controller not found" if bus is None else ""
    if bus is not None and bus.target is not None and str(bus.target.hotplug) in ("off", "False"):
        why = "not allowed by controller"
    if why:
        text = f"cannot hot unplug {device.kind} device with PCI guest address: {spot} - {why}"
        raise OperationFailed(text, domain=ErrorDomain.QEMU)


def _built_in(device: Device) -> bool:
    """Whether QEMU has the device without knowing it by its alias."""
    element = device.element
    if device.kind == "input":
        return element.bus not in ("usb", "virtio")
    if device.kind == "chr":
        return not element.is_virtio
    return device.kind == "watchdog" and element.model != "i6300esb"


def _unsupported(text: str) -> OperationUnsupported:
    return OperationUnsupported(text, domain=ErrorDomain.QEMU)
