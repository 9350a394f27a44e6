"""What of a <controller> is refused when it is defined, in libvirt 9.0's words (domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.simple import Controller
from guesthouse.model.disk_rules import has_iothread
from guesthouse.model.domain import Domain

_VIRTIO = ("virtio-transitional", "virtio-non-transitional")
_MODELS = {
    "usb": (
        *("piix3-uhci", "piix4-uhci", "ehci", "ich9-ehci1", "ich9-uhci1", "ich9-uhci2", "ich9-uhci3", "none"),
        *("vt82c686b-uhci", "pci-ohci", "nec-xhci", "qusb1", "qusb2", "qemu-xhci"),
    ),
    "scsi": (
        *("auto", "buslogic", "lsilogic", "lsisas1068", "vmpvscsi", "ibmvscsi", "virtio-scsi", "lsisas1078", *_VIRTIO),
        *("ncr53c90", "dc390", "am53c974"),
    ),
    "pci": (
        *("pci-root", "pcie-root", "pci-bridge", "dmi-to-pci-bridge", "pcie-to-pci-bridge", "pcie-root-port"),
        *("pcie-switch-upstream-port", "pcie-switch-downstream-port", "pci-expander-bus", "pcie-expander-bus"),
    ),
    "virtio-serial": ("virtio", *_VIRTIO),
    "ide": ("piix3", "piix4", "ich6"),
}
_ROOTS = ("pci-root", "pcie-root")
_MOST_XHCI_PORTS = 15


def check(domain: Domain) -> None:
    """Raises XMLError and ConfigUnsupported. Nothing is changed; controllers may still be without a number."""
    seen: set[tuple[str, int]] = set()
    for controller in domain.dev.controllers:
        _check(domain, controller)
        if controller.index is None or (controller.model or "").startswith("ich9-"):
            continue
        place = (controller.type, controller.index)
        if place in seen:
            raise XMLError(f"Multiple '{place[0]}' controllers with index '{place[1]}'")
        seen.add(place)


def _check(domain: Domain, controller: Controller) -> None:
    kind, model = controller.type, controller.model
    if model is not None and model not in _MODELS.get(kind, (model,)):
        raise ConfigUnsupported(f"Unknown model type '{model}'", domain=ErrorDomain.DOMAIN)
    if kind == "ide" and controller.index and domain.is_i440fx:
        raise ConfigUnsupported("Only a single IDE controller is supported for this machine type")
    if kind == "usb" and model in ("qusb1", "qusb2"):
        raise ConfigUnsupported("USB controller model type 'qusb1' or 'qusb2' is not supported in qemu")
    if kind == "usb" and model in ("nec-xhci", "qemu-xhci") and (controller.ports or 0) > _MOST_XHCI_PORTS:
        raise ConfigUnsupported(f"'{model}' controller only supports up to '{_MOST_XHCI_PORTS}' ports")
    if kind == "scsi":
        _scsi(domain, controller)
    elif kind == "pci":
        _pci(domain, controller)


def _scsi(domain: Domain, controller: Controller) -> None:
    model, driver = controller.model or "", controller.driver
    if model == "buslogic":
        raise ConfigUnsupported(f"Unsupported controller model: {model}")
    if model == "ncr53c90":
        raise ConfigUnsupported("ncr53c90 SCSI controller is not a built-in for this machine")
    if driver is None:
        return
    if not model.startswith("virtio"):
        if driver.iothread is not None:
            raise XMLError("'iothread' attribute only supported for virtio scsi controllers")
        for name in ("queues", "cmd_per_lun", "max_sectors", "ioeventfd"):
            if getattr(driver, name) is not None:
                raise ConfigUnsupported(f"'{name}' is only supported by virtio-scsi controller")
    elif driver.iothread is not None and not has_iothread(domain, driver.iothread):
        raise ConfigUnsupported(f"controller iothread '{driver.iothread}' not defined in iothreadid")


def _pci(domain: Domain, controller: Controller) -> None:
    model, target, index = controller.model, controller.target, controller.index
    root = "pcie-root" if domain.is_q35 else "pci-root"
    if model in _ROOTS and index:
        raise XMLError("pci-root and pcie-root controllers should have index 0", domain=ErrorDomain.DOMAIN)
    if index == 0 and model is not None and model != root and (domain.is_q35 or domain.is_i440fx):
        raise XMLError(
            f"The PCI controller with index='0' must be model='{root}' for this machine type, but model='{model}' was"
            " found instead"
        )
    if target is None:
        return
    for name, value, most in (("chassisNr", target.chassis_nr, 255), ("busNr", target.bus_nr, 254)):
        if value is not None and not 1 <= value <= most:
            raise ConfigUnsupported(f"PCI controller {name} '{value}' out of range - must be 1-{most}")
    for name, value in (("chassis", target.chassis), ("port", _number(target.port))):
        if value is not None and value > 255:
            raise ConfigUnsupported(f"PCI controller {name} '{value}' out of range - must be 0-255")


def _number(text: str | None) -> int | None:
    try:
        return int(text, 0) if text else None
    except ValueError:
        raise XMLError(f"Invalid value for attribute 'port' in element 'target': '{text}'.") from None
