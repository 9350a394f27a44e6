"""What of a <controller> is refused when it is defined, in libvirt 9.0's words (domain_validate.c, qemu_validate.c)."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, XMLDetail, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.simple import Controller
from guesthouse.model.disk_rules import has_iothread
from guesthouse.model.domain import Domain

_VIRTIO = ("virtio-transitional", "virtio-non-transitional")
_MODELS: dict[str, tuple[str, ...]] = {
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
_MODELS |= dict.fromkeys(("fdc", "sata", "ccid", "xenbus", "isa"), ())
_ROOTS = ("pci-root", "pcie-root")
_MOST_XHCI_PORTS = 15
# QEMU's devices that may play each PCI controller
_NAMES = {
    "pci-bridge": ("pci-bridge",),
    "dmi-to-pci-bridge": ("i82801b11-bridge",),
    "pcie-to-pci-bridge": ("pcie-pci-bridge",),
    "pcie-root-port": ("pcie-root-port", "ioh3420"),
    "pcie-switch-upstream-port": ("x3130-upstream",),
    "pcie-switch-downstream-port": ("xio3130-downstream",),
    "pci-expander-bus": ("pxb",),
    "pcie-expander-bus": ("pxb-pcie",),
}
_ALL_NAMES = ("spapr-pci-host-bridge", *(name for names in _NAMES.values() for name in names))
_EXPANDERS = ("pci-expander-bus", "pcie-expander-bus")
_PORTS = ("pcie-root-port", "pcie-switch-downstream-port")
# option of a PCI controller -> the models that have it
_OPTIONS = {
    "targetIndex": (),
    "pcihole64": _ROOTS,
    "busNr": _EXPANDERS,
    "numaNode": _EXPANDERS,
    "chassisNr": ("pci-bridge",),
    "chassis": _PORTS,
    "port": _PORTS,
    "hotplug": (*_PORTS, "pci-root"),
}
_RANGES = (("chassisNr", 1, 255), ("chassis", 0, 255), ("port", 0, 255), ("busNr", 1, 254))


def check(domain: Domain) -> None:
    """Refuse what cannot be, before controllers have numbers and addresses. Raises XMLError, XMLDetail and
    ConfigUnsupported. What libvirt does not read of a controller is forgotten."""
    seen: set[tuple[str, int]] = set()
    controllers = domain.dev.controllers
    for controller in controllers:
        _check(domain, controller)
        _tidy(controller)
    usb = [c for c in controllers if c.type == "usb"]
    if len(usb) > 1 and any(c.model == "none" for c in usb):
        text = "Can't add another USB controller: USB is disabled for this domain"
        raise XMLDetail(text, domain=ErrorDomain.DOMAIN)
    companions = [c for c in usb if c.master is not None or (c.model or "").startswith("ich9-uhci")]
    if companions and len(companions) == len(usb):
        raise XMLDetail("No master USB controller specified", domain=ErrorDomain.DOMAIN)
    for controller in controllers:
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
    if kind == "pci" and controller.model_name is not None and controller.model_name.name not in (None, *_ALL_NAMES):
        text = f"Invalid value for attribute 'name' in element 'model': '{controller.model_name.name}'."
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if kind == "usb" and model in ("qusb1", "qusb2"):
        raise ConfigUnsupported(f"USB controller model type 'qusb1' or 'qusb2' is not supported in {domain.type}")
    if kind == "usb" and model in ("nec-xhci", "qemu-xhci") and (controller.ports or 0) > _MOST_XHCI_PORTS:
        raise ConfigUnsupported(f"'{model}' controller only supports up to '{_MOST_XHCI_PORTS}' ports")
    driver = controller.driver
    if driver is not None and driver.iothread and not (kind == "scsi" and (model or "").startswith("virtio")):
        text = "'iothread' attribute only supported for virtio scsi controllers"
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if kind == "pci":
        _pci(domain, controller)


def _tidy(controller: Controller) -> None:
    """Forget what a controller of this type or model does not have."""
    kind = controller.type
    if kind not in ("usb", "virtio-serial"):
        controller.ports = None
    if kind != "virtio-serial":
        controller.vectors = None
    if kind != "xenbus":
        for name in ("maxGrantFrames", "maxEventChannels"):
            controller.extra_attributes.pop(name, None)
    if kind == "scsi" and controller.model == "auto":
        controller.model = None
    if kind != "pci":
        controller.target = controller.model_name = None
    if kind != "pci" or controller.model not in _ROOTS:
        controller.pcihole64 = None
    driver = controller.driver
    for name in ("queues", "cmd_per_lun", "max_sectors", "iothread") if driver is not None else ():
        setattr(driver, name, getattr(driver, name) or None)  # nothing is 0
    if kind == "usb" and controller.model == "none":
        controller.address = controller.alias = None


def _pci(domain: Domain, controller: Controller) -> None:
    model, target, index = controller.model, controller.target, controller.index
    if model in _ROOTS and index:
        raise XMLError("pci-root and pcie-root controllers should have index 0")
    if model == "pci-expander-bus" and not domain.is_i440fx:
        raise ConfigUnsupported("pci-expander-bus controllers are only supported on 440fx-based machinetypes")
    if model == "pcie-expander-bus" and not domain.is_q35:
        raise ConfigUnsupported("pcie-expander-bus controllers are not supported with this machine type")
    node = target.numa_node if target is not None else None
    if node is not None and node >= len(domain.cells):
        raise XMLError(
            f"{model} with index {index or 0} is configured for a NUMA node ({node}) not present in the domain's"
            f" <cpu><numa> array ({len(domain.cells)})"
        )


def check_root(domain: Domain) -> None:
    """Refuse another PCI controller of number 0 than the machine's own."""
    root = "pcie-root" if domain.is_q35 else "pci-root"
    for controller in domain.dev.controllers if domain.is_q35 or domain.is_i440fx else ():
        if controller.type == "pci" and controller.index == 0 and controller.model not in (None, root):
            raise XMLError(
                f"The PCI controller with index='0' must be model='{root}' for this machine type, but"
                f" model='{controller.model}' was found instead"
            )


def check_whole(domain: Domain) -> None:
    """Refuse what only shows when every controller has its number and address."""
    for controller in domain.dev.controllers:
        if controller.type == "pci":
            _pci_ranges(controller)
        _check_whole(domain, controller)
        if controller.type == "pci":
            _pci_options(controller)


def _check_whole(domain: Domain, controller: Controller) -> None:
    kind, model, driver = controller.type, controller.model or "", controller.driver
    if kind == "scsi" and model == "buslogic":
        raise ConfigUnsupported(f"Unsupported controller model: {model}")
    if driver is not None and not (kind == "scsi" and model.startswith("virtio")):
        for name in ("queues", "cmd_per_lun", "max_sectors", "ioeventfd"):
            if getattr(driver, name) is not None:
                raise ConfigUnsupported(f"'{name}' is only supported by virtio-scsi controller")
    elif driver is not None and driver.iothread and not has_iothread(domain, driver.iothread):
        raise ConfigUnsupported(f"controller iothread '{driver.iothread}' not defined in iothreadid")
    if kind == "scsi" and model == "ncr53c90":
        text = "ncr53c90 can only be used as first SCSI controller" if controller.index else ""
        raise ConfigUnsupported(text or "ncr53c90 SCSI controller is not a built-in for this machine")
    if kind == "ide" and not domain.is_i440fx:
        raise ConfigUnsupported("IDE controllers are unsupported for this QEMU binary or machine type")
    if kind == "ide" and controller.index:
        raise ConfigUnsupported("Only a single IDE controller is supported for this machine type")


def _pci_ranges(controller: Controller) -> None:
    model, index = controller.model or "", controller.index or 0
    if model in _ROOTS and controller.address is not None:
        text = "pci-root and pcie-root controllers should not have an address"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if index > 255:
        text = f"PCI controller index {index} too high, maximum is 255"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    address = controller.address
    if model == "pci-bridge" and address is not None and address.is_pci and (address.bus or 0) >= index:
        text = f"PCI controller at index {index} (0x{index:02x}) has bus='0x{address.bus or 0:02x}', but index must be"
        raise ConfigUnsupported(f"{text} larger than bus")
    options = _options(controller)
    number = options["targetIndex"]
    if number is not None and number > 30:
        text = f"PCI controller target index '{number}' out of range - must be 0-30"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if number is not None and (number == 0) != (index == 0):
        text = "Only the PCI controller with index 0 can have target index 0, and vice versa"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    for name, least, most in _RANGES:
        value = options[name]
        if value is not None and not least <= value <= most:
            text = f"PCI controller {name} '{value}' out of range - must be {least}-{most}"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if options["numaNode"] is not None and index == 0:
        text = "The PCI controller with index=0 can't be associated with a NUMA node"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)


def _options(controller: Controller) -> dict[str, int | None]:
    target = controller.target
    if target is None:
        return {**dict.fromkeys(_OPTIONS), "pcihole64": controller.pcihole64}
    return {
        "targetIndex": target.index,
        "pcihole64": controller.pcihole64,
        "busNr": target.bus_nr,
        "numaNode": target.numa_node,
        "chassisNr": target.chassis_nr,
        "chassis": target.chassis,
        "port": _number(target.port),
        "hotplug": None if target.hotplug is None else int(target.hotplug),
    }


def _pci_options(controller: Controller) -> None:
    model = controller.model or ""
    name = (controller.model_name and controller.model_name.name) or "none"
    where = f"PCI controller with index '{controller.index or 0}', model '{model}' and modelName '{name}'"
    if model in _ROOTS and name != "none":
        raise ConfigUnsupported(f"Option 'modelName' is not valid for {where}")
    if model not in _ROOTS and name not in _NAMES.get(model, (name,)):
        raise ConfigUnsupported(f"Option 'modelName' has invalid value for {where}")
    for option, value in _options(controller).items():
        if value is not None and model not in _OPTIONS[option]:
            raise ConfigUnsupported(f"Option '{option}' is not valid for {where}")


def _number(text: str | None) -> int | None:
    try:
        return int(text, 0) if text else None
    except ValueError:
        raise XMLError(f"Invalid value for attribute 'port' in element 'target': '{text}'.") from None
