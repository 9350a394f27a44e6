"""PCI topology: which bus, slot and function each device gets, and which bridges and ports that takes. Pure.

The rules are libvirt 9.0's (qemu_domain_address.c, domain_addr.c): places that the document names count; then all
devices are placed once on paper, adding buses as they are needed; the buses become controllers, and everything is
placed in earnest, PCI controllers first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from guesthouse.errors import InternalError, XMLError
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.simple import Controller, ControllerModel, ControllerTarget
from guesthouse.model.domain import Domain

Place = tuple[int, int, int]

_CONVENTIONAL_NICS = (
    "vmxnet3",
    "rtl8139",
    "e1000",
    "ne2k_pci",
    "pcnet",
    "i82551",
    "i82557b",
    "i82559er",
    "e1000-82544gc",
)
_ICH9_UHCI = {"ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2, "ich9-ehci1": 7}
_ROOTS = ("pci-root", "pcie-root")
_ROOT_PORT = "pcie-root-port"
_TO_PCI = "pcie-to-pci-bridge"

# bus -> what may be plugged into it, its first and last slot
_ENDPOINT = frozenset({"express", _TO_PCI, "pcie-switch-upstream-port"})
_HOTPLUG_PCI = frozenset({"conventional", "companion", "pci-bridge"})
_BUSES: dict[str, tuple[frozenset[str], int, int]] = {
    "pci-root": (_HOTPLUG_PCI | {"pci-expander-bus"}, 1, 31),
    "pci-expander-bus": (_HOTPLUG_PCI, 0, 31),
    "pci-bridge": (_HOTPLUG_PCI, 1, 31),
    _TO_PCI: (_HOTPLUG_PCI, 1, 31),
    "dmi-to-pci-bridge": (frozenset({"pci-bridge"}), 0, 31),
    "pcie-root": (frozenset({"root-endpoint", _ROOT_PORT, "dmi-to-pci-bridge", "pcie-expander-bus"}), 1, 31),
    "pcie-expander-bus": (frozenset({_ROOT_PORT, "dmi-to-pci-bridge"}), 0, 31),
    _ROOT_PORT: (_ENDPOINT, 0, 0),
    "pcie-switch-upstream-port": (frozenset({"pcie-switch-downstream-port"}), 0, 31),
    "pcie-switch-downstream-port": (_ENDPOINT, 0, 0),
}
_MODEL_NAMES = {
    "pci-bridge": "pci-bridge",
    _TO_PCI: "pcie-pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    _ROOT_PORT: "pcie-root-port",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
    "pci-expander-bus": "pxb",
    "pcie-expander-bus": "pxb-pcie",
}
_HIGHEST_BUS = 256
# what may stand in for each other where the document says where a device goes
_ENDPOINTS = {"express", "conventional", "companion", "root-endpoint"}
_ACCEPTED = {"conventional": "standard PCI device", "companion": "standard PCI device"} | dict.fromkeys(
    ("express", "root-endpoint"), "PCI Express device"
)


def devices(domain: Domain) -> Iterator[tuple[Any, str]]:
    """Devices that want a PCI address, in the order in which they get theirs, each with its kind: "express" or
    "conventional"; an ICH9 USB companion has its own kind. PCI controllers are not among them."""
    dev = domain.dev
    for share in dev.filesystems:
        yield share, _virtio(share.model)
    for nic in dev.interfaces:
        if nic.type != "hostdev":
            model = nic.model.type if nic.model else "rtl8139"
            yield nic, "conventional" if model in _CONVENTIONAL_NICS else _virtio(model)
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
            yield controller, _virtio(controller.model) if express else "conventional"
        elif kind == "scsi" or (kind == "sata" and not (domain.is_q35 and controller.index == 0)):
            yield controller, "conventional"
    for disk in dev.disks:
        if disk.bus == "virtio":
            yield disk, _virtio(disk.model)
    for nic in dev.interfaces:
        if nic.type == "hostdev":
            yield nic, "express"
    for device in dev.hostdevs:
        if device.takes_pci:
            yield device, _virtio(device.model)
    if dev.memballoon is not None and dev.memballoon.model != "none":
        yield dev.memballoon, _virtio(dev.memballoon.model)
    for rng in dev.rngs:
        yield rng, _virtio(rng.model)
    for watchdog in dev.watchdogs:
        if watchdog.model == "i6300esb":
            yield watchdog, "conventional"
    for video in dev.videos:
        if video.model is not None and video.model.type not in ("none", "ramfb"):
            yield video, "express" if video.model.type in ("virtio", "bochs") else "conventional"
    for shared in dev.shmems:
        yield shared, "conventional"
    for item in dev.inputs:
        if item.bus == "virtio":
            yield item, _virtio(item.model)
    for serial in dev.serials:
        if serial.target is not None and serial.target.type == "pci-serial":
            yield serial, "conventional"
    for iommu in dev.iommus:
        if iommu.model == "virtio":
            yield iommu, "root-endpoint"
    for vsock in dev.vsocks:
        yield vsock, _virtio(vsock.model)
    for module in dev.memories:
        if module.model in ("virtio-pmem", "virtio-mem"):
            yield module, "express"
    for panic in dev.panics:
        if panic.model == "pvpanic":
            yield panic, "conventional"


def _virtio(model: str | None) -> str:
    """Transitional devices work in conventional slots alone."""
    return "conventional" if model == "virtio-transitional" else "express"


def assign(domain: Domain) -> None:
    """Give every PCI device without an address one, adding the controllers that this takes. Raises XMLError where two
    are given the same place, InternalError where there is no place left."""
    dev = domain.dev
    given = [c.index or 0 for c in dev.controllers if c.type == "pci"]
    _integrated(domain)
    others = [c.address for c in dev.controllers if c.type in ("isa", "xenbus")]
    if any(address is None or (address.type == "pci" and not address.is_pci) for address in others):
        raise InternalError("Cannot automatically add a new PCI bus for a device with connect flags 00")
    for device, _ in _everything(domain):
        address: Address | None = device.address
        if address is not None and address.type in ("pci", None):
            if not (address.domain or address.bus or address.slot):
                device.address = None
                continue
            address.type, address.domain = "pci", address.domain or 0
            address.bus, address.slot, address.function = address.bus or 0, address.slot or 0, address.function or 0
    paper = _Topology(domain)
    if not domain.is_q35 and not paper.full:
        paper.free("conventional")  # room for a bridge
    paper.place_all()
    if domain.is_q35 and max(given) == 0 and len(paper.buses) > 1:
        paper.free("express")  # a topology that is all ours has one port to spare, for what is plugged in later
    for index, bus in enumerate(paper.buses):
        if index and not any(c.type == "pci" and c.index == index for c in dev.controllers):
            dev.controllers.append(Controller(type="pci", index=index, model=bus.model))
    real = _Topology(domain)
    real.place_all()
    for device, place in real.placed:
        device.address = Address.pci(*place)
    _finish(domain, real)


def _integrated(domain: Domain) -> None:
    """Refuse another place for a controller that sits in the machine itself; what is no PCI address is none."""
    kind, slot, function = ("sata", 0x1F, 2) if domain.is_q35 else ("ide", 1, 1)
    for controller in domain.dev.controllers:
        address = controller.address
        if controller.type != kind or controller.index or address is None:
            continue
        if not address.is_pci:
            controller.address = None
        elif ((address.bus or 0), (address.slot or 0), (address.function or 0)) != (0, slot, function):
            name = kind.upper()
            raise InternalError(f"Primary {name} controller must have PCI address 0:0:{slot:x}.{function}")


def _everything(domain: Domain) -> Iterator[tuple[Any, str]]:
    """PCI controllers, then the other devices, then those that sit in the machine itself."""
    bridges = [c for c in domain.dev.controllers if c.type == "pci" and c.model not in _ROOTS]
    yield from ((c, c.model or "") for c in bridges)
    for device, kind in devices(domain):
        # the i440fx knows no PCI Express
        yield device, "conventional" if kind == "express" and not domain.is_q35 else kind
    for controller in domain.dev.controllers:
        integrated = controller.type == "ide" or (controller.type == "sata" and domain.is_q35)
        if integrated and controller.index == 0:
            yield controller, "integrated"


@dataclass
class _Bus:
    model: str
    taken: dict[tuple[int, int], Any] = field(default_factory=dict)

    def slot(self, number: int) -> list[tuple[int, Any]]:
        """Functions that are taken."""
        return [(function, holder) for (slot, function), holder in self.taken.items() if slot == number]

    @property
    def slots(self) -> range:
        _, first, last = _BUSES.get(self.model, (frozenset(), 1, 31))
        return range(first, last + 1)

    def takes(self, kind: str) -> bool:
        return self.model in _BUSES and kind in _BUSES[self.model][0]


class _Topology:
    """All buses, and who sits where: those with an address already, and those that got a place here (``placed``)."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.root = "pcie-root" if domain.is_q35 else "pci-root"
        self.placed: list[tuple[Any, Place]] = []
        models = {c.index or 0: c.model or "" for c in domain.dev.controllers if c.type == "pci"}
        hole = _ROOT_PORT if domain.is_q35 else "pci-bridge"
        self.buses = [_Bus(models.get(index, hole)) for index in range(max(models) + 1)]
        given = [(d, kind) for d, kind in _everything(domain) if d.address is not None and d.address.is_pci]
        for device, kind in given:
            a = device.address
            self._reach(kind, a)
            self._fits(kind, a)
            self._take(device, (a.bus, a.slot, a.function))
        for place in ((0, 0), (0x1F, 0), (0x1F, 3)) if domain.is_q35 else ((0, 0), (1, 0)):
            self.buses[0].taken.setdefault(place, None)

    @property
    def full(self) -> bool:
        return all(bus.slot(number) for bus in self.buses for number in bus.slots)

    def _reach(self, kind: str, address: Any) -> None:
        """Have all buses up to the one that a device of this kind names; where a way from PCI Express to PCI is new,
        the device goes one bus further."""
        lack = address.bus - len(self.buses) + 1
        if lack <= 0:
            return
        if kind in ("conventional", "companion"):
            if self.domain.is_q35 and not any(bus.takes("pci-bridge") for bus in self.buses):
                if lack == 1:
                    address.bus += 1
                self._way_to_pci()
            model = "pci-bridge"
        elif kind in ("express", "root-endpoint", "pcie-switch-upstream-port"):
            model = _ROOT_PORT
        else:
            raise self._no_slot(kind)
        while address.bus >= len(self.buses):
            self.buses.append(_Bus(model))

    def _way_to_pci(self) -> None:
        """A root port that nothing else may have, and a bridge on it."""
        self.buses += [_Bus(_ROOT_PORT, {(0, 0): None}), _Bus(_TO_PCI)]

    def _fits(self, kind: str, address: Any) -> None:
        """Refuse a place of the document's that its bus does not have, or not for a device of this kind."""
        bus, text = self.buses[address.bus], f"{address.domain or 0:04x}:{address.bus:02x}:{address.slot:02x}"
        text = f"{text}.{address.function:x}"
        if address.domain:
            raise XMLError(f"Invalid PCI address {text}. Only PCI domain 0 is available")
        wanted = _ENDPOINTS if kind in _ENDPOINTS else {kind} | (_ENDPOINTS if kind == "pci-bridge" else set())
        takes = _BUSES[bus.model][0] if bus.model in _BUSES else frozenset()
        if bus.model == "dmi-to-pci-bridge":
            takes |= {"conventional"}  # by themselves only bridges go there
        if kind == "integrated" and address.bus:
            raise XMLError(f"The device at PCI address {text} needs to be an integrated device (bus=0)")
        if kind != "integrated" and not wanted & takes:
            what = _ACCEPTED.get(kind, kind)
            raise XMLError(
                f"The device at PCI address {text} cannot be plugged into the PCI controller with"
                f" index='{address.bus}'. It requires a controller that accepts a {what}."
            )
        for beyond, limit, sign in (
            (address.slot < bus.slots[0], bus.slots[0], ">="),
            (address.slot > bus.slots[-1], bus.slots[-1], "<="),
        ):
            if beyond:
                raise XMLError(f"Invalid PCI address {text}. slot must be {sign} {limit}")

    def _take(self, device: object, place: Place) -> None:
        bus, slot, function = place
        if (slot, function) in self.buses[bus].taken:
            raise XMLError(f"Attempted double use of PCI Address 0000:{bus:02x}:{slot:02x}.{function:x}")
        self.buses[bus].taken[slot, function] = device

    def put(self, device: Any, place: Place) -> None:
        self._take(device, place)
        self.placed.append((device, place))

    def place_all(self) -> None:
        """Places for everything that has none."""
        self._fixed()
        for device, kind in _everything(self.domain):
            if not self._wants(device) or kind == "integrated":
                continue
            place = self.free(kind)
            if kind == "companion":
                self._companions(device, place[:2])
            else:
                self.put(device, place)

    def _wants(self, device: Any) -> bool:
        return device.address is None and all(device is not other for other, _ in self.placed)

    def _fixed(self) -> None:
        """Devices whose place the machine decides: on i440fx slot 1 is the PIIX3 (IDE, USB), slot 2 the first graphics
        card; on q35 slot 1 is that, and 0x1a to 0x1f are the ICH9 (USB, sound, SATA)."""
        root = self.buses[0]
        q35 = self.domain.is_q35
        for controller in self.domain.dev.controllers:
            if not self._wants(controller):
                continue
            what = (controller.type, controller.index, controller.model)
            if what[:2] == ("sata", 0) and q35:
                self.put(controller, (0, 0x1F, 2))
            elif what[:2] == ("ide", 0) and not q35:
                self.put(controller, (0, 1, 1))
            elif what == ("usb", 0, "piix3-uhci") and not q35:
                self.put(controller, (0, 1, 2))
            elif controller.model == "dmi-to-pci-bridge" and q35 and not root.slot(0x1E):
                self.put(controller, (0, 0x1E, 0))
            elif controller.type == "usb" and controller.model == "ich9-uhci1" and q35:
                self._companions(controller, (0, 0x1A if root.slot(0x1D) else 0x1D))
        videos = self.domain.dev.videos
        slot = 1 if q35 else 2
        graphic = videos and videos[0].model is not None and videos[0].model.type not in ("none", "ramfb")
        if graphic and self._wants(videos[0]) and not root.slot(slot):
            self.put(videos[0], (0, slot, 0))
        for sound in self.domain.dev.sounds:
            if q35 and sound.model == "ich9" and self._wants(sound) and not root.slot(0x1B):
                self.put(sound, (0, 0x1B, 0))

    def _companions(self, controller: Controller, where: tuple[int, int]) -> None:
        """All ICH9 controllers of one index share a slot, a function each."""
        for other in self.domain.dev.controllers:
            same = other.type == "usb" and other.index == controller.index and other.model in _ICH9_UHCI
            if same and self._wants(other):
                self.put(other, (*where, _ICH9_UHCI[other.model or ""]))

    def free(self, kind: str) -> Place:
        """The first free place for a device of ``kind``, on a new bus where the others are full."""
        while True:
            for index, bus in enumerate(self.buses):
                if bus.takes(kind):
                    for slot in bus.slots:
                        if (function := self._function(bus, slot, kind)) is not None:
                            return index, slot, function
            self._grow(kind)

    @staticmethod
    def _function(bus: _Bus, slot: int, kind: str) -> int | None:
        taken = bus.slot(slot)
        if not taken:
            return 0
        # root ports share slots among themselves
        ports = all(isinstance(holder, Controller) and holder.model == _ROOT_PORT for _, holder in taken)
        if kind == _ROOT_PORT and ports:
            used = {function for function, _ in taken}
            return next((n for n in range(8) if n not in used), None)
        return None

    def _grow(self, kind: str) -> None:
        if kind == "pcie-switch-downstream-port" or kind.endswith("expander-bus"):
            raise self._no_slot(kind)
        if len(self.buses) > 255:
            raise InternalError("No more available PCI slots")
        if kind in ("express", "pcie-switch-upstream-port", _TO_PCI):
            if not self.domain.is_q35:
                raise self._no_slot(kind)
            self.buses.append(_Bus(_ROOT_PORT))
        elif kind in _HOTPLUG_PCI and not self.domain.is_q35:
            self.buses.append(_Bus("pci-bridge"))
        elif kind in _HOTPLUG_PCI and any(bus.takes("pci-bridge") and not bus.takes(kind) for bus in self.buses):
            bus, slot, function = self.free("pci-bridge")  # below the guest's own bridge from PCI Express to PCI
            self.buses[bus].taken[slot, function] = None
            self.buses.append(_Bus("pci-bridge"))
        elif kind in _HOTPLUG_PCI:
            self._way_to_pci()
        else:
            raise self._no_slot(kind)

    @staticmethod
    def _no_slot(kind: str) -> InternalError:
        if kind not in _BUSES:
            return InternalError("No more available PCI slots")
        return InternalError(
            f"a PCI slot is needed to connect a PCI controller model='{kind}', but none is available, and it cannot be"
            " automatically added"
        )


def _finish(domain: Domain, topology: _Topology) -> None:
    """Names and numbers of PCI controllers; a slot with several functions says so on its first."""
    for controller in domain.dev.controllers:
        model = controller.model or ""
        if controller.type != "pci" or model in _ROOTS or controller.address is None:
            continue
        if model in _MODEL_NAMES and controller.model_name is None:
            controller.model_name = ControllerModel(name=_MODEL_NAMES[model])
        expander = model in ("pci-expander-bus", "pcie-expander-bus")
        if expander or model in ("pci-bridge", _ROOT_PORT, "pcie-switch-downstream-port"):
            controller.target = controller.target or ControllerTarget()
        target, address = controller.target, controller.address
        if target is None:
            continue
        if expander:
            numbers = [c.target.bus_nr for c in domain.dev.controllers if c.type == "pci" and c.target is not None]
            target.bus_nr = target.bus_nr or min((n for n in numbers if n), default=_HIGHEST_BUS) - 2
        elif model == "pci-bridge":
            target.chassis_nr = controller.index if target.chassis_nr is None else target.chassis_nr
        else:
            target.chassis = controller.index if target.chassis is None else target.chassis
            slot, function = address.slot or 0, address.function or 0
            port = (slot << 3) + function if model == _ROOT_PORT else slot
            target.port = target.port or f"0x{port:x}"
    for bus in topology.buses:
        for (slot, function), device in bus.taken.items():
            shared = function == 0 and len(bus.slot(slot)) > 1
            if shared and device is not None and device.address.multifunction is None:
                device.address.multifunction = True
