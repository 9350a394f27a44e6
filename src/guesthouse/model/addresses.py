"""Where devices sit: PCI, drive, USB and virtio-serial addresses over a whole domain, and aliases. Pure.

The rules are libvirt 9.0's (qemu_domain_address.c, domain_addr.c), so that a guest's hardware is the same here and
there: i440fx has one bus with fixed places on slot 1 and 2; q35 has a root port for each PCI Express device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.model.devices.address import Address, Alias
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.simple import Controller, ControllerModel, ControllerTarget
from guesthouse.model.domain import Domain

Place = tuple[int, int, int]

_CONVENTIONAL_NICS = ("rtl8139", "e1000", "ne2k_pci", "pcnet", "i82551", "i82557b", "i82559er", "e1000-82544gc")
_ICH9_UHCI = {"ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2, "ich9-ehci1": 7}
_USB_PORTS = {"ich9-ehci1": 6, "qemu-xhci": 4, "nec-xhci": 4, "ehci": 6}
_ROOT_PORT = "pcie-root-port"
_TO_PCI = "pcie-to-pci-bridge"


def disk_index(dev: str) -> int:
    """The number of a target name: vda 0, sdab 27. Raises InternalError for a name that is none."""
    for prefix in ("fd", "hd", "vd", "sd", "xvd", "ubd"):
        letters = dev.removeprefix(prefix)
        if letters != dev and letters and letters.islower() and letters.isalpha():
            number = 0
            for letter in letters:
                number = number * 26 + ord(letter) - ord("a") + 1
            return number - 1
    raise InternalError(f"Unknown disk name '{dev}' and no address specified")


def assign_drive(disk: Disk) -> None:
    """A drive address from the target name, for buses that have such."""
    if disk.address is not None and disk.address.type:
        return
    index = disk_index(disk.dev)
    if disk.bus == "ide":
        place = (index // 4, index % 4 // 2, index % 2)
    elif disk.bus == "sata":
        place = (index // 6, 0, index % 6)
    elif disk.bus == "fdc":
        place = (index // 2, 0, index % 2)
    elif disk.bus == "scsi":
        unit = index % 15
        place = (index // 15, 0, unit + (unit >= 7))  # unit 7 is the controller itself
    else:
        return
    disk.address = Address(type="drive", controller=place[0], bus=place[1], target=0, unit=place[2])


def assign_addresses(domain: Domain) -> None:
    """Give every device without an address one. Raises XMLError or ConfigUnsupported where it cannot be."""
    _virtio_serial(domain)
    _usb(domain)
    if domain.is_q35:
        _Q35(domain).assign()
    elif domain.is_i440fx:
        _I440fx(domain).assign()


def pci_devices(domain: Domain) -> Iterator[tuple[object, str]]:
    """Devices that want a PCI address, in the order in which they get theirs, each with its kind: "express" or
    "conventional"; an ICH9 USB companion has its own kind."""
    dev = domain.dev
    for nic in dev.interfaces:
        if nic.type != "hostdev":
            model = nic.model.type if nic.model else "rtl8139"
            yield nic, "conventional" if model in _CONVENTIONAL_NICS else "express"
    for sound in dev.sounds:
        if sound.model in ("ich6", "ich9", "ac97", "es1370"):
            yield sound, "conventional"
    for controller in dev.controllers:
        kind = controller.type
        if kind == "usb" and controller.model == "none":
            continue
        if kind == "usb" and controller.model in _ICH9_UHCI:
            yield controller, "companion"
        elif kind in ("virtio-serial", "usb") or (kind == "scsi" and (controller.model or "").startswith("virtio")):
            express = kind != "usb" or controller.model in ("qemu-xhci", "nec-xhci")
            yield controller, "express" if express else "conventional"
        elif kind == "scsi" or (kind == "sata" and not (domain.is_q35 and controller.index == 0)):
            yield controller, "conventional"
    for disk in dev.disks:
        if disk.bus == "virtio":
            yield disk, "express"
    if dev.memballoon is not None and dev.memballoon.model != "none":
        yield dev.memballoon, "express"
    for rng in dev.rngs:
        yield rng, "express"
    for watchdog in dev.watchdogs:
        if watchdog.model == "i6300esb":
            yield watchdog, "conventional"
    for video in dev.videos:
        if video.model is not None and video.model.type not in ("none", "ramfb"):
            yield video, "express" if video.model.type == "virtio" else "conventional"
    for item in dev.inputs:
        if item.bus == "virtio":
            yield item, "express"


class _Pci:
    """Which places of which bus are taken."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.taken: dict[Place, object] = {}

    def reserve_given(self) -> None:
        """Take the places that the document itself names."""
        everything = [*pci_devices(self.domain), *((c, "") for c in self.domain.dev.controllers)]
        seen: set[int] = set()
        for device, _ in everything:
            address: Address | None = device.address  # type: ignore[attr-defined]
            if id(device) in seen or address is None or address.type not in ("pci", None):
                continue
            seen.add(id(device))
            if address.bus is None and address.slot is None:
                device.address = None  # type: ignore[attr-defined]
                continue
            address.type = "pci"
            address.domain = address.domain or 0
            place = (address.bus or 0, address.slot or 0, address.function or 0)
            address.bus, address.slot, address.function = place
            if place in self.taken:
                where = f"{address.domain:04x}:{place[0]:02x}:{place[1]:02x}.{place[2]:x}"
                raise XMLError(f"Attempted double use of PCI Address {where}")
            self.taken[place] = device

    def slot_free(self, bus: int, slot: int) -> bool:
        return not any(place[:2] == (bus, slot) for place in self.taken)

    def put(self, device: object, place: Place, multifunction: bool | None = None) -> None:
        self.taken[place] = device
        device.address = Address.pci(*place, multifunction=multifunction)  # type: ignore[attr-defined]

    def fixed(self, device: object, place: Place) -> None:
        """A device whose place the machine decides."""
        if device.address is None:  # type: ignore[attr-defined]
            self.put(device, place)

    def companions(self, controller: Controller, slot: int, bus: int = 0) -> None:
        """All ICH9 controllers of one index share a slot, a function each."""
        for other in self.domain.dev.controllers:
            same = other.type == "usb" and other.index == controller.index
            if same and other.model in _ICH9_UHCI and other.address is None:
                function = _ICH9_UHCI[other.model]
                self.put(other, (bus, slot, function), True if function == 0 else None)

    def primary_video(self, slot: int) -> None:
        videos = self.domain.dev.videos
        if videos and videos[0].model is not None and videos[0].model.type not in ("none", "ramfb"):
            self.fixed(videos[0], (0, slot, 0))


class _I440fx(_Pci):
    """One bus; slot 1 is the PIIX3 (ISA, IDE, USB, power management), slot 2 the first graphics card."""

    def assign(self) -> None:
        self.reserve_given()
        for controller in self.domain.dev.controllers:
            if controller.type == "ide" and controller.index == 0:
                self.fixed(controller, (0, 1, 1))
            elif controller.type == "usb" and controller.index == 0 and controller.model == "piix3-uhci":
                self.fixed(controller, (0, 1, 2))
        self.primary_video(2)
        for place in ((0, 0, 0), (0, 1, 0)):
            self.taken.setdefault(place, None)
        for device, kind in pci_devices(self.domain):
            if device.address is not None:  # type: ignore[attr-defined]
                continue
            slot = next((slot for slot in range(1, 32) if self.slot_free(0, slot)), None)
            if slot is None:
                raise InternalError("No more available PCI slots")
            if kind == "companion":
                assert isinstance(device, Controller)
                self.companions(device, slot)
            else:
                self.put(device, (0, slot, 0))


class _Q35(_Pci):
    """Integrated devices on slot 0x1f, a root port for each PCI Express device and one to spare."""

    def assign(self) -> None:
        self.reserve_given()
        for place in ((0, 0, 0), (0, 0x1F, 0), (0, 0x1F, 3)):
            self.taken.setdefault(place, None)
        for controller in self.domain.dev.controllers:
            if controller.type == "sata" and controller.index == 0:
                self.fixed(controller, (0, 0x1F, 2))
        self.primary_video(1)
        for controller in self.domain.dev.controllers:
            if controller.type == "usb" and controller.model in _ICH9_UHCI and controller.address is None:
                self.companions(controller, 0x1D if self.slot_free(0, 0x1D) else 0x1A)
        for sound in self.domain.dev.sounds:
            if sound.model == "ich9" and sound.address is None and self.slot_free(0, 0x1B):
                self.put(sound, (0, 0x1B, 0))
        wanting = [(d, k) for d, k in pci_devices(self.domain) if d.address is None]  # type: ignore[attr-defined]
        conventional = [device for device, kind in wanting if kind == "conventional"]
        if conventional and not self._controllers(_TO_PCI):
            self._add(_TO_PCI)
        bridges = [c for c in self._controllers(_TO_PCI) if c.address is None]
        free = self._free_ports()
        # a fresh topology gets one port to spare, for what is plugged in later
        fresh = bool(wanting) and not any(c.address is not None for c in self._controllers(_ROOT_PORT))
        express = [device for device, kind in wanting if kind == "express"]
        missing = len(express) + len(bridges) + (1 if fresh else 0) - len(free)
        given = len(self._controllers(_ROOT_PORT))
        for _ in range(missing if not (fresh and given >= len(express) + len(bridges)) else 0):
            self._add(_ROOT_PORT)
        self._place_ports()
        for device in [*bridges, *express]:
            self.put(device, (self._free_ports()[0], 0, 0))
        for device in conventional:
            self.put(device, (*self._free_conventional(), 0))

    def _controllers(self, model: str) -> list[Controller]:
        return [c for c in self.domain.dev.controllers if c.type == "pci" and c.model == model]

    def _free_ports(self) -> list[int]:
        buses = sorted(c.index for c in self._controllers(_ROOT_PORT) if c.index is not None)
        return [bus for bus in buses if self.slot_free(bus, 0)]

    def _free_conventional(self) -> tuple[int, int]:
        for controller in self._controllers(_TO_PCI):
            for slot in range(1, 32):
                if controller.index is not None and self.slot_free(controller.index, slot):
                    return controller.index, slot
        raise InternalError("No more available PCI slots")

    def _add(self, model: str) -> None:
        used = {c.index for c in self.domain.dev.controllers if c.type == "pci"}
        index = next(n for n in range(1, 256) if n not in used)
        self.domain.dev.controllers.append(Controller(type="pci", index=index, model=model))

    def _place_ports(self) -> None:
        for port in self._controllers(_ROOT_PORT):
            if port.model_name is None:
                port.model_name = ControllerModel(name="pcie-root-port")
            if port.address is None:
                self.put(port, self._next_function())
            address = port.address
            assert address is not None and address.slot is not None and address.function is not None
            if port.target is None:
                port.target = ControllerTarget()
            if port.target.chassis is None:
                port.target.chassis = port.index
            if port.target.port is None:
                port.target.port = f"0x{(address.slot << 3) + address.function:x}"
        for bridge in self._controllers(_TO_PCI):
            if bridge.model_name is None:
                bridge.model_name = ControllerModel(name="pcie-pci-bridge")
        # a slot with several functions says so on its first
        for place, device in self.taken.items():
            several = place[2] == 0 and any(p[:2] == place[:2] and p[2] for p in self.taken)
            if several and isinstance(device, Controller) and device.model == _ROOT_PORT and device.address:
                device.address.multifunction = True

    def _next_function(self) -> Place:
        for slot in range(1, 0x1F):
            ports = [d for p, d in self.taken.items() if p[:2] == (0, slot)]
            if all(isinstance(d, Controller) and d.model == _ROOT_PORT for d in ports):
                for function in range(8):
                    if (0, slot, function) not in self.taken:
                        return 0, slot, function
        raise InternalError("No more available PCI slots")


def _virtio_serial(domain: Domain) -> None:
    """Ports for channels and virtio consoles; port 0 of a controller is for a console alone."""
    dev = domain.dev
    taken: set[tuple[int, int]] = set()
    wanting = []
    for device in [*dev.channels, *dev.consoles]:
        if device.target is None or device.target.type != "virtio":
            continue
        address = device.address
        if address is not None and address.type == "virtio-serial" and address.port is not None:
            taken.add((address.controller or 0, int(address.port)))
        else:
            wanting.append(device)
    for device in wanting:
        first = 0 if device in dev.consoles else 1
        port = next(n for n in range(first, 32) if (0, n) not in taken)
        taken.add((0, port))
        device.address = Address(type="virtio-serial", controller=0, bus=0, port=str(port))


def _usb(domain: Domain) -> None:
    """Ports on the first USB bus for inputs and disks."""
    dev = domain.dev
    ports = max(
        (
            c.ports or _USB_PORTS.get(c.model or "", 2)
            for c in dev.controllers
            if c.type == "usb" and (c.index or 0) == 0 and c.model not in (None, "none")
        ),
        default=0,
    )
    everything: list[Any] = [*dev.disks, *dev.inputs, *dev.hubs]
    devices = [d for d in everything if getattr(d, "bus", "usb") == "usb"]
    taken = {d.address.port for d in devices if d.address is not None and d.address.type == "usb"}
    for device in devices:
        if device.address is not None and device.address.type == "usb" and device.address.port:
            continue
        port = next((str(n) for n in range(1, ports + 1) if str(n) not in taken), None)
        if port is None:
            raise ConfigUnsupported("no free USB port; add a USB controller with more ports (model qemu-xhci)")
        taken.add(port)
        device.address = Address(type="usb", bus=0, port=port)


def assign_aliases(domain: Domain) -> None:
    """The ids that QEMU knows the devices by, libvirt's names. The user's own ("ua-...") stay."""
    dev = domain.dev

    def give(device: object, name: str) -> None:
        alias: Alias | None = device.alias  # type: ignore[attr-defined]
        if alias is None or not (alias.name or "").startswith("ua-"):
            device.alias = Alias(name=name)  # type: ignore[attr-defined]

    for disk in dev.disks:
        give(disk, _disk_alias(disk))
    for controller in dev.controllers:
        give(controller, _controller_alias(domain, controller))
    plain = (
        (dev.interfaces, "net"),
        (dev.serials, "serial"),
        (dev.parallels, "parallel"),
        (dev.channels, "channel"),
        (dev.inputs, "input"),
        (dev.videos, "video"),
        (dev.rngs, "rng"),
        (dev.sounds, "sound"),
        (dev.watchdogs, "watchdog"),
        (dev.hubs, "hub"),
    )
    for devices, prefix in plain:
        for index, device in enumerate(devices):
            give(device, f"{prefix}{index}")
    for index, console in enumerate(dev.consoles):
        twin = index == 0 and console.target is not None and console.target.type == "serial" and dev.serials
        give(console, "serial0" if twin else f"console{index}")
    if dev.memballoon is not None and dev.memballoon.model != "none":
        give(dev.memballoon, "balloon0")


def _disk_alias(disk: Disk) -> str:
    if disk.bus == "virtio":
        return f"virtio-disk{disk_index(disk.dev)}"
    if disk.bus == "usb":
        return f"usb-disk{disk_index(disk.dev)}"
    address = disk.address
    assert address is not None
    if disk.bus == "scsi":
        return f"scsi{address.controller}-{address.bus}-{address.target}-{address.unit}"
    return f"{disk.bus}{address.controller}-{address.bus}-{address.unit}"


def _controller_alias(domain: Domain, controller: Controller) -> str:
    index = controller.index or 0
    if controller.type == "pci":
        return "pcie.0" if controller.model == "pcie-root" else f"pci.{index}"
    if index == 0 and (
        (controller.type == "ide" and domain.is_i440fx) or (controller.type == "sata" and domain.is_q35)
    ):
        return "ide"
    if controller.type == "usb" and index == 0:
        return "usb"
    return f"{controller.type}{index}"
