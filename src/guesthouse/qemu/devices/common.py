"""Where a device goes in QEMU's tree: from a model address to the bus and addr properties."""

from __future__ import annotations

from typing import Any

from guesthouse.errors import InternalError
from guesthouse.model.devices.address import AcpiIndex, Address
from guesthouse.model.domain import Domain
from guesthouse.qemu.parts import Props


def bus_of(domain: Domain, kind: str, index: int, usual: str) -> str:
    """QEMU's name of a controller: the alias that its user gave, or else the ``usual`` one."""
    for found in domain.dev.controllers:
        if found.type == kind and (found.index or 0) == index:
            alias = (found.alias and found.alias.name) or ""
            return alias if alias.startswith("ua-") else usual
    return usual


def pci(domain: Domain, address: Address | None, acpi: AcpiIndex | None = None) -> Props:
    """``bus`` and ``addr`` of a PCI address, and the number that the firmware gives the device."""
    if address is None or address.type != "pci" or address.slot is None:
        raise InternalError("device without a PCI address")
    bus = address.bus or 0
    name = ("pcie.0" if domain.is_q35 else "pci.0") if bus == 0 else bus_of(domain, "pci", bus, f"pci.{bus}")
    place = f"0x{address.slot:x}" + (f".0x{address.function:x}" if address.function else "")
    props: Props = {"bus": name}
    if address.multifunction is not None:
        props["multifunction"] = address.multifunction
    props["addr"] = place
    if acpi is not None and acpi.index:
        props["acpi-index"] = acpi.index
    return props


def virtio(driver: Any) -> Props:
    """What any virtio device's <driver> may ask for."""
    names = {"iommu": "iommu_platform", "ats": "ats", "packed": "packed", "page_per_vq": "page-per-vq"}
    asked = {name: getattr(driver, field) for field, name in names.items()} if driver is not None else {}
    return {name: value for name, value in asked.items() if value is not None}


def virtio_driver(name: str, model: str | None) -> str:
    """QEMU's device of that ``model``: one that old guests know too, one that only new ones do, or the usual one."""
    for kind in ("transitional", "non-transitional"):
        if model == f"virtio-{kind}":
            return f"{name}-{kind}"
    return name


def usb(domain: Domain, address: Address | None) -> Props:
    """``bus`` and ``port`` of a USB address."""
    bus = (address and address.bus) or 0
    props: Props = {"bus": bus_of(domain, "usb", bus, f"usb{bus or ''}") + ".0"}
    if address is not None and address.port:
        props["port"] = address.port
    return props
