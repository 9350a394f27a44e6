"""Where devices sit: drive, USB and virtio-serial addresses over a whole domain, and aliases; PCI is in pci.py. Pure.

The rules are libvirt 9.0's (qemu_domain_address.c, domain_addr.c), so that a guest's hardware is the same here and
there.
"""

from __future__ import annotations

from typing import Any

from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import pci
from guesthouse.model.devices.address import Address, Alias
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.platform import Memory
from guesthouse.model.devices.simple import Controller, Hub
from guesthouse.model.domain import Domain

_MODULES = {
    "virtio-pmem": "virtiopmem",
    "virtio-mem": "virtiomem",
    "sgx-epc": "epc",
    "dimm": "dimm",
    "nvdimm": "nvdimm",
}
# of libvirt's virtual hub, QEMU's usb-hub
_HUB_PORTS = 8
_USB_PORTS = {"ich9-ehci1": 6, "qemu-xhci": 4, "nec-xhci": 4, "ehci": 6}


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
        place = (index // 7, 0, index % 7)  # unit 7 is the controller itself
    else:
        return
    disk.address = Address(type="drive", controller=place[0], bus=place[1], target=0, unit=place[2])


def assign_addresses(domain: Domain) -> None:
    """Give every device without an address one. Raises XMLError or ConfigUnsupported where it cannot be."""
    _virtio_serial(domain)
    if domain.is_q35 or domain.is_i440fx:
        pci.assign(domain)
    elif next(pci.devices(domain), None) is not None:
        raise XMLError("No PCI buses available", domain=ErrorDomain.DOMAIN)
    _usb(domain)


def _virtio_serial(domain: Domain) -> None:
    """Ports for channels; port 0 of a controller is for a console. Consoles without one are left to QEMU."""
    dev = domain.dev
    taken: set[tuple[int, str]] = set()
    wanting = []
    for device in [*dev.channels, *dev.consoles]:
        if device.target is None or device.target.type != "virtio":
            continue
        address = device.address
        if address is not None and address.type == "virtio-serial" and address.port not in (None, "0"):
            taken.add((address.controller or 0, address.port))
        elif device in dev.channels or address is not None:
            wanting.append(device)
    for device in wanting:
        index = (device.address and device.address.controller) or 0
        first = 0 if device in dev.consoles else 1
        port = next(str(n) for n in range(first, 32) if (index, str(n)) not in taken)
        taken.add((index, port))
        device.address = Address(type="virtio-serial", controller=index, bus=0, port=port)


class _UsbPorts:
    """The ports of a guest's USB buses and hubs: "2" is a bus's own, "1.2" one of the hub in port 1."""

    def __init__(self, domain: Domain) -> None:
        #: (bus, port of the hub or '') -> number of ports
        self.sizes: dict[tuple[int, str], int] = {}
        self.taken: set[tuple[int, str]] = set()
        for c in domain.dev.controllers:
            if c.type == "usb" and c.model not in (None, "none") and not (c.model or "").startswith("ich9-uhci"):
                ports = c.ports or _USB_PORTS.get(c.model or "", 2)
                key = (c.index or 0, "")
                self.sizes[key] = max(ports, self.sizes.get(key, 0))

    def check(self, bus: int, port: str) -> None:
        """Refuse a port that the document names where there is none, or one that is taken."""
        above, _, last = port.rpartition(".")
        if (bus, "") not in self.sizes:
            raise XMLError(f"Missing USB bus {bus}")
        if (bus, above) not in self.sizes:
            where = above.rpartition(".")[2]
            raise XMLError(f"there is no hub at port {where} in USB address bus: {bus} port: {port}")
        if int(last) > self.sizes[bus, above]:
            raise XMLError(f"requested USB port {port} not present on USB bus {bus}")
        if (bus, port) in self.taken:
            raise XMLError(f"Duplicate USB address bus {bus} port {port}")

    def take(self, bus: int, port: str, *, hub: bool) -> None:
        self.taken.add((bus, port))
        if hub:
            self.sizes[bus, port] = _HUB_PORTS

    def free(self, wanted: int | None = None) -> tuple[int, str] | None:
        """The first free port, of the bus that is ``wanted``: of a bus before those of its hubs."""
        if wanted is not None and (wanted, "") not in self.sizes:
            raise XMLError(f"USB bus {wanted} requested but no controller with that index is present")
        for bus, hub in sorted(each for each in self.sizes if wanted in (None, each[0])):
            for number in range(1, self.sizes[bus, hub] + 1):
                port = f"{hub}.{number}" if hub else str(number)
                if (bus, port) not in self.taken:
                    return bus, port
        return None


def _usb(domain: Domain) -> None:
    """Ports of USB devices, hubs first, in the order in which libvirt gives them; hubs are added where ports lack."""
    dev = domain.dev
    devices: list[Any] = [d for d in dev.hostdevs if d.type == "usb" and d.mode != "capabilities"]
    devices += [d for d in dev.disks if d.bus == "usb"]
    devices += [d for d in dev.controllers if d.type == "ccid"]
    devices += [d for d in dev.inputs if d.bus == "usb"]
    devices += [d for d in dev.serials if d.target is not None and d.target.type == "usb-serial"]
    devices += [d for d in dev.sounds if d.model == "usb"]
    devices += dev.redirdevs
    ports = _UsbPorts(domain)
    lack = len(devices) + len(dev.hubs) - sum(ports.sizes.values()) - _HUB_PORTS * len(dev.hubs)
    if lack > 0 and ports.sizes:
        # each takes a port and gives its own
        dev.hubs += [Hub(type="usb") for _ in range(-(-(lack + 1) // (_HUB_PORTS - 1)))]
    everything = [*dev.hubs, *devices]
    waiting = []
    for device in everything:
        where = device.address
        if where is not None and where.type == "usb" and where.port:
            ports.check(where.bus or 0, where.port)
            ports.take(where.bus or 0, where.port, hub=isinstance(device, Hub))
        else:
            waiting.append(device)
    for device in waiting:
        where = device.address
        found = ports.free(where.bus if where is not None and where.type == "usb" else None)
        if found is None:
            raise ConfigUnsupported("no free USB port; add a USB controller with more ports (model qemu-xhci)")
        ports.take(*found, hub=isinstance(device, Hub))
        device.address = Address(type="usb", bus=found[0], port=found[1])


def assign_aliases(domain: Domain) -> None:
    """The ids that QEMU knows the devices by, libvirt's names. The user's own ("ua-...") stay."""
    dev = domain.dev

    def give(device: object, name: str) -> None:
        alias: Alias | None = device.alias  # type: ignore[attr-defined]
        if alias is None or not (alias.name or "").startswith("ua-"):
            device.alias = Alias(name=name)  # type: ignore[attr-defined]

    for disk in dev.disks:
        give(disk, _disk_alias(domain, disk))
    for controller in dev.controllers:
        give(controller, _controller_alias(domain, controller))
    plain = (
        (dev.filesystems, "fs"),
        (dev.tpms, "tpm"),
        (dev.vsocks, "vsock"),
        (dev.iommus, "iommu"),
        ([panic for panic in dev.panics if panic.model != "hyperv"], "panic"),  # that one is a word to the CPU
        (dev.serials, "serial"),
        (dev.parallels, "parallel"),
        (dev.channels, "channel"),
        (dev.inputs, "input"),
        (dev.videos, "video"),
        (dev.rngs, "rng"),
        (dev.sounds, "sound"),
        (dev.watchdogs, "watchdog"),
        (dev.hubs, "hub"),
        (dev.smartcards, "smartcard"),
        (dev.redirdevs, "redir"),
        (dev.shmems, "shmem"),
    )
    plain_cards = [nic for nic in dev.interfaces if nic.type != "hostdev"]
    whole = [*(nic for nic in dev.interfaces if nic.type == "hostdev"), *dev.hostdevs]
    for devices, prefix in ((plain_cards, "net"), (whole, "hostdev"), *plain):
        for index, device in enumerate(devices):
            give(device, f"{prefix}{index}")
    for module in dev.memories:
        give(module, _module_alias(domain, module))
    for index, console in enumerate(dev.consoles):
        twin = index == 0 and console.target is not None and console.target.type == "serial" and dev.serials
        give(console, "serial0" if twin else f"console{index}")
    if dev.memballoon is not None and dev.memballoon.model != "none":
        give(dev.memballoon, "balloon0")


def _disk_alias(domain: Domain, disk: Disk) -> str:
    if disk.bus == "virtio":
        return f"virtio-disk{disk_index(disk.dev)}"
    if disk.bus == "usb":
        return f"usb-disk{disk_index(disk.dev)}"
    address = disk.address
    if address is None:
        return f"{disk.bus}{disk_index(disk.dev)}"
    narrow = any(
        c.type == "scsi" and c.index == address.controller and c.model == "lsilogic" for c in domain.dev.controllers
    )
    if disk.bus == "scsi" and not narrow:
        return f"scsi{address.controller}-{address.bus}-{address.target}-{address.unit}"
    return f"{disk.bus}{address.controller}-{address.bus}-{address.unit}"


def _module_alias(domain: Domain, module: Memory) -> str:
    """DIMMs by their slots, the others counted by model."""
    if module.address is not None and module.address.type == "dimm":
        return f"{module.model}{module.address.slot or 0}"
    same = [other for other in domain.dev.memories if other.model == module.model]
    number = next(i for i, other in enumerate(same) if other is module)
    return f"{_MODULES[module.model or '']}{number}"


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
