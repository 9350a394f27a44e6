"""What libvirt adds to a <hostdev> when it is defined, and what it refuses. Pure.

The rules are libvirt 9.0's (domain_conf.c, domain_postparse.c, qemu_validate.c, domain_validate.c).
"""

from __future__ import annotations

import string

from guesthouse.errors import ConfigUnsupported, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.address import Address
from guesthouse.model.devices.disk import Disk
from guesthouse.model.devices.hostdev import SUBSYSTEMS, Hostdev, HostdevPlace, HostdevSource
from guesthouse.model.devices.simple import Controller
from guesthouse.model.domain import Domain

# a narrow SCSI bus; the controller itself has one number more
_SCSI_UNITS = 7
_MDEV_MODELS = ("vfio-pci", "vfio-ccw", "vfio-ap")
# what the <source> of each type has; the rest of what a document says there is forgotten
_PARTS = {
    "pci": {"address", "write_filtering"},
    "usb": {"startup_policy", "guest_reset", "vendor", "product", "address"},
    "scsi": {"adapter", "address"},
    "iscsi": {"protocol", "name", "host", "auth", "initiator"},
    "scsi_host": {"protocol", "wwpn"},
    "mdev": {"address"},
}
_PLACES = {
    "pci": ("domain", "bus", "slot", "function"),
    "usb": ("bus", "device"),
    "scsi": ("bus", "target", "unit"),
    "mdev": ("uuid",),
}


def complete(domain: Domain) -> None:
    """Complete these devices. Raises the errors that libvirtd gives."""
    for device in domain.dev.hostdevs:
        _complete(device, domain)
    scsi = [device for device in domain.dev.hostdevs if device.type == "scsi"]
    _controllers(domain, [(device.address and device.address.controller) or 0 for device in scsi])
    for device in scsi:
        if device.address is None:
            device.address = _next_scsi(domain)


def _controllers(domain: Domain, used: list[int]) -> None:
    """SCSI controllers up to the highest that is named, of the model that this one has."""
    there = {c.index: c.model for c in domain.dev.controllers if c.type == "scsi"}
    model = there.get(max(used, default=-1)) or "lsilogic"
    for index in range(max(used, default=-1) + 1):
        if index not in there:
            domain.dev.controllers.append(Controller(type="scsi", index=index, model=model))


def _complete(device: Hostdev, domain: Domain) -> None:
    device.mode = device.mode or "subsystem"
    if device.mode == "capabilities":
        kind = {"storage": "block", "misc": "char", "net": "interface"}.get(device.type or "")
        if kind is None:
            text = f"unknown host device source address type '{device.type}'"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
        raise ConfigUnsupported(f"hostdev mode 'capabilities' is not supported in {domain.type}")
    if device.type is None:
        raise XMLError("missing source address type", domain=ErrorDomain.DOMAIN)
    if device.type not in SUBSYSTEMS:
        text = f"unknown host device source address type '{device.type}'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    source = device.source
    if source is None:
        raise XMLError("Missing <source> element in hostdev device", domain=ErrorDomain.DOMAIN)
    device.managed = bool(device.managed)
    _attributes(device, source)
    kind = device.type
    if kind == "scsi" and source.protocol == "iscsi":
        kind = "iscsi"
    {"pci": _pci, "usb": _usb, "scsi": _scsi, "iscsi": _iscsi, "scsi_host": _scsi_host, "mdev": _mdev}[kind](device)
    for spec in source.SPECS:
        if spec.name not in _PARTS[kind]:
            setattr(source, spec.name, None)
    if source.address is not None:
        place = HostdevPlace(**{name: getattr(source.address, name) for name in _PLACES[kind]})
        source.address = place
    source.extra_attributes.clear()
    source.extra_nodes.clear()
    if device.driver is not None and (kind != "pci" or device.driver.name is None):
        device.driver = None
    if device.type != "scsi":
        device.readonly = device.shareable = False


def _attributes(device: Hostdev, source: HostdevSource) -> None:
    if device.type != "usb" and source.startup_policy is not None:
        text = "Setting startupPolicy is only allowed for USB devices"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    for name in ("sgio", "rawio"):
        if getattr(device, name) is not None and device.type != "scsi":
            raise XMLError(f"{name} is only supported for scsi host device", domain=ErrorDomain.DOMAIN)
    if device.model is not None and device.type not in ("mdev", "scsi_host"):
        text = f"'model' attribute in <hostdev> is only supported when type='{device.type}'"
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if device.type != "mdev":
        device.display = device.ramfb = None


def _pci(device: Hostdev) -> None:
    assert device.source is not None
    place = device.source.address = device.source.address or HostdevPlace()
    place.domain, place.bus, place.slot, place.function = (
        place.domain or 0,
        place.bus or 0,
        place.slot or 0,
        place.function or 0,
    )


def _usb(device: Hostdev) -> None:
    source = device.source
    assert source is not None
    if source.vendor is not None and not source.vendor.id:
        text = "Invalid value for attribute 'id' in element 'vendor': Zero is not permitted"
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if source.vendor is not None and source.product is None:
        raise InternalError("missing product", domain=ErrorDomain.DOMAIN)
    if source.product is not None and source.vendor is None:
        raise InternalError("missing vendor", domain=ErrorDomain.DOMAIN)
    if source.address is not None:
        for name in ("bus", "device"):
            _required(source.address, name)


def _required(place: HostdevPlace, name: str) -> None:
    if getattr(place, name) is None:
        raise XMLError(f"Missing required attribute '{name}' in element 'address'", domain=ErrorDomain.DOMAIN)


def _scsi(device: Hostdev) -> None:
    source = device.source
    assert source is not None
    if source.protocol not in (None, "adapter"):
        text = f"Unknown SCSI subsystem protocol '{source.protocol}'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if source.address is None:
        raise XMLError("'address' must be specified for scsi hostdev source", domain=ErrorDomain.DOMAIN)
    for name in ("bus", "target", "unit"):
        _required(source.address, name)
    if source.adapter is None or source.adapter.name is None:
        text = "'adapter' name must be specified for scsi hostdev source"
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    source.adapter.extra_attributes.clear()
    source.adapter.extra_nodes.clear()


def _iscsi(device: Hostdev) -> None:
    source = device.source
    assert source is not None
    if source.name is None:
        raise XMLError("missing iSCSI hostdev source path name", domain=ErrorDomain.DOMAIN)
    if source.host is None:
        raise XMLError("missing the host address for the iSCSI hostdev", domain=ErrorDomain.DOMAIN)
    secret = source.auth.secret if source.auth is not None else None
    if secret is not None and secret.type not in (None, "iscsi"):
        raise InternalError(f"hostdev invalid secret type '{secret.type}'", domain=ErrorDomain.DOMAIN)
    if "/" not in source.name:
        source.name += "/0"  # the first unit of the target


def _scsi_host(device: Hostdev) -> None:
    if device.model not in (None, "virtio", "virtio-transitional", "virtio-non-transitional"):
        text = f"Invalid value for attribute 'model' in element 'hostdev': '{device.model}'."
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    source = device.source
    assert source is not None
    if source.protocol is None:
        raise XMLError("Missing scsi_host subsystem protocol", domain=ErrorDomain.DOMAIN)
    if source.protocol != "vhost":
        text = f"Unknown scsi_host subsystem protocol '{source.protocol}'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if source.wwpn is None:
        raise XMLError("missing vhost-scsi hostdev source wwpn", domain=ErrorDomain.DOMAIN)
    digits = source.wwpn.removeprefix("naa.")
    if digits == source.wwpn or len(digits) != 16 or not set(digits) <= frozenset(string.hexdigits):
        raise XMLError("malformed 'wwpn' value", domain=ErrorDomain.DOMAIN)


def _mdev(device: Hostdev) -> None:
    source = device.source
    assert source is not None
    if device.model is None:
        raise XMLError("Missing required attribute 'model' in element 'hostdev'", domain=ErrorDomain.DOMAIN)
    if device.model not in _MDEV_MODELS:
        text = f"Invalid value for attribute 'model' in element 'hostdev': '{device.model}'."
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if source.address is None:
        raise ConfigUnsupported("Missing <address> element", domain=ErrorDomain.DOMAIN)
    if source.address.uuid is None:
        raise ConfigUnsupported("Missing 'uuid' attribute for element <address>", domain=ErrorDomain.DOMAIN)
    address = device.address
    if device.model == "vfio-pci" and address is not None and address.type != "pci":
        text = f"Unsupported address type '{address.type}' with mediated device model '{device.model}'"
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if device.model == "vfio-pci" and device.display is None:
        device.display = False


def _next_scsi(domain: Domain) -> Address:
    """The first free unit of the first SCSI controller that has one; what is not there yet will be a narrow one."""
    drives: list[Disk | Hostdev] = [
        *(d for d in domain.dev.disks if d.bus == "scsi"),
        *(d for d in domain.dev.hostdevs if d.type == "scsi"),
    ]
    taken = {(d.address.controller or 0, d.address.unit) for d in drives if d.address is not None}
    for controller in range(1000):
        for unit in range(_SCSI_UNITS):
            if (controller, unit) not in taken:
                return Address(type="drive", controller=controller, bus=0, target=0, unit=unit)
    raise InternalError("no free SCSI unit", domain=ErrorDomain.DOMAIN)


def check(domain: Domain) -> None:
    """What only the whole shows."""
    for device in domain.dev.hostdevs:
        _refuse(domain, device)
        _place(device)
        _teaming(device)


def _refuse(domain: Domain, device: Hostdev) -> None:
    source = device.source
    assert source is not None
    boots = device.boot is not None and device.boot.order
    if device.type == "pci" and source.write_filtering is not None:
        raise ConfigUnsupported("Write filtering of PCI device configuration space is not supported by qemu")
    if device.type == "scsi_host" and boots:
        raise ConfigUnsupported("booting from assigned devices is not supported by vhost SCSI devices")
    if device.type == "mdev" and device.model != "vfio-pci":
        name = {"vfio-ccw": "CCW", "vfio-ap": "AP"}[device.model or ""]
        raise ConfigUnsupported(f"VFIO {name} device assignment is not supported by this version of QEMU")
    if device.type == "mdev" and boots:
        text = "booting from assigned devices is not supported by mediated devices of model vfio-pci"
        raise ConfigUnsupported(text)
    if device.type == "mdev" and device.display and not domain.dev.graphics:
        raise ConfigUnsupported("graphics device is needed for attribute value 'display=on' in <hostdev>")


def _place(device: Hostdev) -> None:
    kind = device.address.type if device.address is not None else None
    if kind is None:
        return
    if device.type == "pci" and kind not in ("pci", "unassigned"):
        text = "PCI host devices must use 'pci' or 'unassigned' address type"
        raise InternalError(text, domain=ErrorDomain.DOMAIN)
    for subsystem, name, kinds, words in (
        ("scsi", "SCSI", ("drive",), "'drive'"),
        ("scsi_host", "SCSI_host", ("pci", "ccw"), "'pci' or 'ccw'"),
        ("usb", "USB", ("usb",), "'usb'"),
    ):
        if device.type == subsystem and kind not in kinds:
            raise ConfigUnsupported(f"{name} host device must use {words} address type", domain=ErrorDomain.DOMAIN)
    if device.type == "scsi" and device.sgio == "unfiltered":
        raise ConfigUnsupported("unfiltered sgio is no longer supported", domain=ErrorDomain.DOMAIN)


def _teaming(device: Hostdev) -> None:
    team = device.teaming
    if team is None:
        return
    text = ""
    if team.type != "transient":
        text = "teaming hostdev devices must have type='transient'"
    elif team.persistent is None:
        text = "missing required persistent attribute in hostdev teaming element"
    elif device.type != "pci":
        text = "teaming is only supported for pci hostdev devices"
    if text:
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
