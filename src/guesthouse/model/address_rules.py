"""The <address> of any device: what it leaves out, and what of it is refused. Pure.

The rules are libvirt 9.0's (device_conf.c, domain_conf.c, qemu_validate.c, domain_validate.c); where a device goes that
has none is in addresses.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.hostdev import Hostdev
from guesthouse.model.domain import Domain
from guesthouse.model.fields import Element

_MOST = (("bus", 0xFF, "'0x%x'", "0xFF"), ("slot", 0x1F, "'0x%x'", "0x1F"), ("function", 7, "0x%x", "7"))
# in the order in which libvirt looks at them
_FAMILIES = (
    *("disks", "interfaces", "sounds", "hostdevs", "filesystems", "controllers", "smartcards", "serials", "parallels"),
    *("channels", "consoles", "inputs", "videos", "rngs", "watchdogs", "memballoon", "memories", "vsocks"),
    *("tpms", "shmems", "redirdevs", "panics", "iommus", "hubs"),
)
_HAS_ACPI = ("none", "pci")


def each_device(domain: Domain) -> Iterator[Any]:
    """Every device that may have an address."""
    for family in _FAMILIES:
        value = getattr(domain.dev, family)
        yield from value if isinstance(value, list) else [value] if isinstance(value, Element) else []


def read(domain: Domain) -> None:
    """Fill in what addresses of a document from outside leave out. Raises InternalError for one without a type, XMLError
    for numbers that cannot be."""
    for device in each_device(domain):
        address: Address | None = device.address
        if address is not None and address.type == "none":
            device.address = None
        elif address is not None:
            _read(address)
        if device.TAG == "redirdev" and address is not None and address.type != "usb":
            raise XMLError("Invalid address for a USB device", domain=ErrorDomain.DOMAIN)


def _read(address: Address) -> None:
    kind = address.type
    if kind is None:
        raise InternalError("No type specified for device address", domain=ErrorDomain.DOMAIN)
    if kind == "pci":
        if any(node.tag == "zpci" and node.attrib for node in address.extra_nodes):
            raise ConfigUnsupported("This QEMU binary doesn't support zPCI")
        for name, most, written, shown in _MOST:
            value = getattr(address, name) or 0
            if value > most:
                raise XMLError(f"Invalid PCI address {name}={written % value}, must be <= {shown}")
    elif kind == "drive":
        for name in ("controller", "bus", "target", "unit"):
            setattr(address, name, getattr(address, name) or 0)
    elif kind == "virtio-serial":
        address.controller, address.bus = address.controller or 0, address.bus or 0
    elif kind == "ccid":
        address.controller, address.slot = address.controller or 0, address.slot or 0
    elif kind == "usb":
        address.bus = address.bus or 0
        if address.port in ("", "0"):
            address.port = None
        if address.port is not None and not all(part.isdigit() for part in address.port.split(".")):
            raise XMLError("Cannot parse <address> 'port' attribute", domain=ErrorDomain.DOMAIN)
    elif kind == "isa":
        address.iobase, address.irq = _hex("iobase", address.iobase, 1), _hex("irq", address.irq, 1)
    elif kind == "spapr-vio" and "reg" in address.extra_attributes:
        address.extra_attributes["reg"] = _hex("reg", address.extra_attributes["reg"], 8) or ""
    elif kind == "dimm" and address.slot is None:
        raise XMLError("Missing required attribute 'slot' in element 'address'", domain=ErrorDomain.DOMAIN)

    if kind != "spapr-vio":
        address.extra_attributes.clear()
    address.extra_nodes.clear()


def _hex(name: str, text: str | None, width: int) -> str | None:
    """A hexadecimal number as libvirt writes it; nothing of ISA's is 0."""
    try:
        number = int(text, 16) if text is not None else None
    except ValueError:
        text = (
            f"Invalid value for attribute '{name}' in element 'address': '{text}'. Expected non-negative integer value"
        )
        raise XMLError(text, domain=ErrorDomain.DOMAIN) from None
    return None if number is None or (number == 0 and width == 1) else f"0x{number:0{width}x}"


def check(domain: Domain) -> None:
    """Refuse addresses that no device of this kind, or of this machine, can have."""
    hubs = {c.index or 0 for c in domain.dev.controllers if c.type == "virtio-serial"}
    for device in each_device(domain):
        address: Address | None = device.address
        if address is not None and address.type == "virtio-serial":
            if address.port not in (None, "0") and address.controller not in hubs:
                raise XMLError(f"virtio serial controller {address.controller} is missing", domain=ErrorDomain.DOMAIN)
            address.port = address.port or "0"
        kind = "none" if address is None else address.type or "none"
        if address is not None:
            _check(domain, device, address)
        acpi = getattr(device, "acpi", None)
        if acpi is not None and acpi.index and kind not in _HAS_ACPI:
            raise ConfigUnsupported("ACPI index is only supported for PCI devices")
        rom = getattr(device, "rom", None)
        asked = rom is not None and (rom.enabled is not None or rom.bar is not None or rom.file is not None)
        if asked and kind not in (*_HAS_ACPI, "unassigned"):
            raise ConfigUnsupported("ROM tuning is only supported for PCI devices")


def _check(domain: Domain, device: Any, address: Address) -> None:
    kind = address.type
    if kind == "ccw":
        alias = (device.alias and device.alias.name) or "<null>"
        text = f"cannot use CCW address type for device '{alias}' using machine type '{domain.machine}'"
        raise ConfigUnsupported(text)
    if kind == "drive" and device.TAG != "disk":  # as libvirt, which takes all others for SCSI
        if address.bus:
            raise InternalError("SCSI controller only supports 1 bus")
        narrow = any(
            c.type == "scsi" and c.index == address.controller and c.model == "lsilogic" for c in domain.dev.controllers
        )
        if narrow and address.target:
            raise ConfigUnsupported("target must be 0 for controller model 'lsilogic'")
    if kind == "unassigned" and not isinstance(device, Hostdev):
        text = "address of type 'unassigned' is supported only for hostdevs"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
