"""The devices of this host: libvirt's node device procedures, and news of devices that come and go.

Documents are read from sysfs when they are asked for. Which devices there are is known from a scan at the start and the
kernel's news since; where those may not be heard, each list is a scan of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from guesthouse.errors import (
    ConfigUnsupported,
    Domain,
    InternalError,
    InvalidArg,
    NoNodeDevice,
    OperationInvalid,
    OperationUnsupported,
    SystemFailure,
    check_flags,
)
from guesthouse.host import nodedevs as finding
from guesthouse.host import passthrough
from guesthouse.host.nodedev_document import Describer
from guesthouse.host.nodedevs import ROOT_NAME, Found
from guesthouse.host.sysfs import Sysfs
from guesthouse.host.uevents import Listener, Lost, Uevent
from guesthouse.model.nodedev import Mdev, ScsiHost, parse_new_device
from guesthouse.services.context import Context
from guesthouse.services.events import Event
from guesthouse.services.refs import NodeDeviceRef
from guesthouse.units import new_uuid

_log = logging.getLogger(__name__)
_LIFECYCLE, _UPDATE = 0, 1
_CREATED, _DELETED = 0, 1
_VALIDATE = 1
_APPEARS = 5.0  # seconds that a device that was made may take to be listed
# virConnectListAllNodeDeviceFlags: a bit a type, from bit 0
_TYPES = (
    *("system", "pci", "usb_device", "usb", "net", "scsi_host", "scsi_target", "scsi", "storage", "fc_host", "vports"),
    *("scsi_generic", "drm", "mdev_types", "mdev", "ccw", "css", "vdpa", "ap_card", "ap_queue", "ap_matrix", "vpd"),
)
_TYPE_BITS = {kind: 1 << bit for bit, kind in enumerate(_TYPES)}
_INACTIVE, _ACTIVE = 1 << 30, 1 << 31
_UNSUPPORTED = "Unsupported device type"


class NodeDevices:
    """libvirt's node device procedures. All raise libvirt's errors.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, ctx: Context, sysfs: Sysfs | None = None) -> None:
        self._ctx = ctx
        self._sysfs = sysfs or Sysfs()
        self._describer = Describer(self._sysfs)
        self._devices: dict[str, Found] = {}  # by place in sysfs
        self._names: dict[str, Found] = {}
        self._listener: Listener | None = None
        #: which guest has a PCI device, by its name as the kernel writes it
        self.user_of: Callable[[str], str | None] = lambda name: None

    # What the daemon calls

    def start(self) -> None:
        """Look what there is, and listen to what happens from now on. Within a running event loop."""
        try:
            self._listener = Listener()
        except OSError as error:
            _log.warning("no events of host devices: %s", error)
            return
        self._scan()
        asyncio.get_running_loop().add_reader(self._listener.socket, self._read)

    def close(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.socket)
            self._listener.close()
            self._listener = None

    def _scan(self) -> None:
        self._devices = finding.scan(self._sysfs)
        self._names = {device.name: device for device in self._devices.values()}

    # News

    def _read(self) -> None:
        """Take the kernel's news at hand."""
        while self._listener is not None:
            try:
                event = self._listener.read()
            except Lost:
                self._catch_up()
                continue
            except OSError as error:
                _log.error("no more events of host devices: %s", error)
                self.close()
                return
            if event is None:
                return
            self.take(event)

    def take(self, event: Uevent) -> None:
        """Bring what is known to what the kernel tells, and tell clients."""
        match event.action:
            case "remove":
                self._remove(event.path)
            case "move":
                self._remove(event.old_path)
                self._add(event)
            case "add" | "change":
                self._add(event)

    def _add(self, event: Uevent) -> None:
        device = finding.look(self._sysfs, event.path, event.subsystem)
        if device is None:
            self._remove(event.path)  # it is gone again, or is none that is listed
            return
        device = finding.adopt(device, self._devices)
        old = self._devices.get(event.path)
        if old is not None and old.name != device.name:
            self._remove(event.path)
            old = None
        self._devices[event.path] = self._names[device.name] = device
        if old is None:
            self._emit(_LIFECYCLE, device, {"event": _CREATED, "detail": 0})
        else:
            self._emit(_UPDATE, device, {})

    def _remove(self, path: str) -> None:
        device = self._devices.pop(path, None) if path else None
        if device is not None:
            if self._names.get(device.name) is device:
                del self._names[device.name]
            self._emit(_LIFECYCLE, device, {"event": _DELETED, "detail": 0})

    def _catch_up(self) -> None:
        """After news were lost: tell of the differences between what is known and what there is."""
        before = self._names
        self._scan()
        for name in before.keys() - self._names.keys():
            self._emit(_LIFECYCLE, before[name], {"event": _DELETED, "detail": 0})
        for name in self._names.keys() - before.keys():
            self._emit(_LIFECYCLE, self._names[name], {"event": _CREATED, "detail": 0})

    def _emit(self, number: int, device: Found, args: dict[str, int]) -> None:
        self._ctx.events.emit(Event("node_device", number, NodeDeviceRef(device.name), args))

    # Finding and listing

    def _known(self) -> dict[str, Found]:
        """All devices by name."""
        if self._listener is None:
            self._scan()
        else:
            for device in [device for device in self._devices.values() if device.kind == "net"]:
                self._freshen(device)
        return self._names

    def _freshen(self, device: Found) -> None:
        """Follow a network device's new MAC address: the kernel does not tell of that here, and taps get theirs after
        they are made."""
        now = finding.look(self._sysfs, device.path, "net")
        if now is None or now.name != device.name:
            self.take(Uevent("change", device.path, "net"))

    def _device(self, name: str) -> Found:
        if self._listener is not None and (found := self._names.get(name)):
            # one look at one device: whoever asks for each of a thousand must not cause a million
            if found.kind == "net":
                self._freshen(found)
            if name in self._names:
                return self._names[name]
        found = self._known().get(name)
        if found is None:
            raise NoNodeDevice(f"no node device with matching name '{name}'")
        return found

    def _select(self, cap: str | None) -> list[str]:
        known = self._known()
        return sorted(name for name, device in known.items() if cap is None or cap in device.kinds)

    def num_of_devices(self, cap: str | None, flags: int) -> int:
        check_flags(flags, 0, "nodeNumOfDevices", Domain.NODEDEV)
        return len(self._select(cap))

    def list_devices(self, cap: str | None, maxnames: int, flags: int) -> list[str]:
        check_flags(flags, 0, "nodeListDevices", Domain.NODEDEV)
        return self._select(cap)[:maxnames]

    def list_all(self, flags: int) -> list[NodeDeviceRef]:
        types = sum(_TYPE_BITS.values())
        check_flags(flags, types | _ACTIVE | _INACTIVE, "nodeConnectListAllNodeDevices", Domain.NODEDEV)
        if flags & _INACTIVE and not flags & _ACTIVE:
            return []  # a device that is not there would have to be defined
        known = sorted(self._known().items())
        wanted = flags & types
        return [
            NodeDeviceRef(name)
            for name, device in known
            if not wanted or wanted & sum(_TYPE_BITS[kind] for kind in device.kinds)
        ]

    def lookup_by_name(self, name: str) -> NodeDeviceRef:
        return NodeDeviceRef(self._device(name).name)

    def lookup_scsi_host_by_wwn(self, wwnn: str, wwpn: str, flags: int) -> NodeDeviceRef:
        check_flags(flags, 0, "nodeDeviceLookupSCSIHostByWWN", Domain.NODEDEV)
        found = self._host_by_wwn(wwnn, wwpn)
        if found is None:
            raise NoNodeDevice(f"no node device with matching wwnn '{wwnn}' and wwpn '{wwpn}'")
        return NodeDeviceRef(found.name)

    def _host_by_wwn(self, wwnn: str, wwpn: str) -> Found | None:
        wanted = (wwnn.lower(), wwpn.lower())
        hosts = (device for device in self._known().values() if "fc_host" in device.kinds)
        return next((host for host in hosts if self._wwns(host) == wanted), None)

    def _wwns(self, host: Found) -> tuple[str, str]:
        names = (self._sysfs.text(f"/class/fc_host/{host.leaf}/{name}") or "" for name in ("node_name", "port_name"))
        wwnn, wwpn = (name.removeprefix("0x").lower() for name in names)
        return wwnn, wwpn

    # Asking

    def get_xml_desc(self, name: str, flags: int) -> str:
        check_flags(flags, 0, "nodeDeviceGetXMLDesc", Domain.NODEDEV)
        return self._describer.device(self._device(name)).to_xml()

    def get_parent(self, name: str) -> str | None:
        return self._device(name).parent or None

    def num_of_caps(self, name: str) -> int:
        return len(self._device(name).kinds)

    def list_caps(self, name: str, maxnames: int) -> list[str]:
        return list(self._device(name).kinds[:maxnames])

    def is_active(self, name: str) -> int:
        self._device(name)
        return 1

    def is_persistent(self, name: str) -> int:
        return int(self._device(name).name == ROOT_NAME)

    def get_autostart(self, name: str) -> int:
        return int(self._device(name).name == ROOT_NAME)

    # Making and removing: mediated devices, and virtual Fibre Channel hosts

    async def create_xml(self, xml_desc: str, flags: int) -> NodeDeviceRef:
        """Make a device that lasts until it is destroyed or the host goes down."""
        check_flags(flags, _VALIDATE, "nodeDeviceCreateXML", Domain.NODEDEV)
        device = parse_new_device(xml_desc)
        if isinstance(device.capability, Mdev):
            return await self._create_mdev(device.parent, device.capability)
        if isinstance(device.capability, ScsiHost):
            return await self._create_vport(device.parent, device.capability)
        raise _unsupported()

    async def _create_mdev(self, parent: str | None, wanted: Mdev) -> NodeDeviceRef:
        above = self._mdev_parent(parent)
        kind = wanted.kind.id if wanted.kind else ""
        folder = f"{above.path}/mdev_supported_types/{kind}"
        if not self._sysfs.exists(f"{folder}/create"):
            raise _failed(f"Unable to start mediated device: device '{above.name}' has no mdev type '{kind}'")
        uuid = wanted.uuid or new_uuid()
        try:
            self._sysfs.write(f"{folder}/create", uuid)
        except OSError as error:
            raise _failed(f"Unable to start mediated device: {error.strerror}") from None
        return await self._appeared(lambda: self._find(lambda device: device.kind == "mdev" and device.leaf == uuid))

    def _mdev_parent(self, parent: str | None) -> Found:
        found = self._known().get(parent or "")
        if found is None:
            raise ConfigUnsupported(f"invalid parent device '{parent or '(null)'}'", domain=Domain.NODEDEV)
        return found

    async def _create_vport(self, parent: str | None, wanted: ScsiHost) -> NodeDeviceRef:
        detail = next((each for each in wanted.details if each.type == "fc_host"), None)
        wwnn, wwpn = (detail.wwnn, detail.wwpn) if detail else (None, None)
        if not wwnn or not wwpn:
            raise _failed("no WWNN or WWPN supplied for 'new device'")
        above = self._known().get(parent or "")
        if above is None:
            raise _failed("Could not find parent device for 'new device'")
        if "vports" not in above.kinds:
            raise _failed(f"Parent device {above.name} is not capable of vport operations")
        self._vport(above, "vport_create", wwnn, wwpn)
        return await self._appeared(lambda: self._host_by_wwn(wwnn, wwpn))

    def _vport(self, host: Found, operation: str, wwnn: str, wwpn: str) -> None:
        file = f"/class/fc_host/{host.leaf}/{operation}"
        try:
            self._sysfs.write(file, f"{wwpn}:{wwnn}")
        except OSError as error:
            what = f"Write of '{wwpn}:{wwnn}' to '/sys{file}' during vport create/delete failed"
            raise SystemFailure.from_os(error, what, domain=Domain.NODEDEV) from None

    def _find(self, fits: Callable[[Found], bool]) -> Found | None:
        return next((device for device in self._known().values() if fits(device)), None)

    async def _appeared(self, find: Callable[[], Found | None]) -> NodeDeviceRef:
        """The device that was just made, once the kernel has told of it."""
        deadline = asyncio.get_running_loop().time() + _APPEARS
        while (found := find()) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise NoNodeDevice("no node device for 'new device' with matching name")
            await asyncio.sleep(0.02)
        return NodeDeviceRef(found.name)

    def destroy(self, name: str) -> None:
        device = self._device(name)
        if device.kind == "mdev":
            try:
                self._sysfs.write(f"{device.path}/remove", "1")
            except OSError as error:
                raise _failed(f"Unable to stop mediated device: {error.strerror}") from None
        elif device.kind == "scsi_host":
            if "fc_host" not in device.kinds:
                raise _failed("Device is not a fibre channel HBA")
            above = self._known().get(device.parent)
            if above is None or "vports" not in above.kinds:
                raise _failed(f"Parent device {device.parent} is not capable of vport operations")
            self._vport(above, "vport_delete", *self._wwns(device))
        else:
            raise _unsupported()

    # Definitions, which would be kept by mdevctl

    def define_xml(self, xml_desc: str, flags: int) -> NodeDeviceRef:
        check_flags(flags, _VALIDATE, "nodeDeviceDefineXML", Domain.NODEDEV)
        device = parse_new_device(xml_desc)
        if not isinstance(device.capability, Mdev):
            raise _unsupported()
        self._mdev_parent(device.parent)
        raise SystemFailure("Cannot find 'mdevctl' in path: No such file or directory", domain=Domain.NODEDEV, int1=2)

    def undefine(self, name: str, flags: int) -> None:
        check_flags(flags, 0, "nodeDeviceUndefine", Domain.NODEDEV)
        if self._device(name).name == ROOT_NAME:
            raise _unsupported()
        raise OperationInvalid(f"Node device '{name}' is not defined", domain=Domain.NODEDEV)

    def create(self, name: str, flags: int) -> None:
        check_flags(flags, 0, "nodeDeviceCreate", Domain.NODEDEV)
        self._device(name)
        raise OperationInvalid("Device is already active", domain=Domain.NODEDEV)

    def set_autostart(self, name: str, autostart: int) -> None:
        if self._device(name).kind == "mdev":
            raise OperationInvalid("cannot set autostart for transient device", domain=Domain.NODEDEV)
        raise OperationUnsupported(_UNSUPPORTED, domain=Domain.NODEDEV)

    # For guests

    def _pci(self, name: str) -> Found:
        device = self._device(name)
        if device.kind != "pci":
            raise InvalidArg(f"device {name} is not a PCI device", domain=Domain.NODEDEV)
        return device

    def _idle_pci(self, name: str) -> Found:
        """Raises OperationInvalid for a device that a guest has."""
        device = self._pci(name)
        place = device.path.rpartition("/")[2]
        if (guest := self.user_of(place)) is not None:
            text = f"PCI device {place} is in use by driver QEMU, domain {guest}"
            raise OperationInvalid(text, domain=Domain.NONE)
        return device

    async def dettach(self, name: str) -> None:
        await self.detach_flags(name, None, 0)

    async def detach_flags(self, name: str, driverName: str | None, flags: int) -> None:
        """Take a PCI device from the host's driver, for a guest."""
        check_flags(flags, 0, "qemuNodeDeviceDetachFlags", Domain.NODEDEV)
        self._device(name)
        passthrough.check_driver(self._sysfs, driverName)
        await asyncio.to_thread(passthrough.detach, self._sysfs, self._idle_pci(name).path)

    async def re_attach(self, name: str) -> None:
        await asyncio.to_thread(passthrough.reattach, self._sysfs, self._idle_pci(name).path)

    async def reset(self, name: str) -> None:
        await asyncio.to_thread(passthrough.reset, self._sysfs, self._idle_pci(name).path)


def _unsupported() -> ConfigUnsupported:
    return ConfigUnsupported(_UNSUPPORTED, domain=Domain.NODEDEV)


def _failed(text: str) -> InternalError:
    return InternalError(text, domain=Domain.NODEDEV)
