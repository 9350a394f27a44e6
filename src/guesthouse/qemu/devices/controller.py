"""<controller> for QEMU: buses."""

from __future__ import annotations

from collections.abc import Mapping

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.simple import Controller
from guesthouse.model.disk_rules import has_iothread
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import pci, usb, virtio, virtio_driver
from guesthouse.qemu.parts import Parts, Props

_USB = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "pci-ohci": "pci-ohci",
    "qemu-xhci": "qemu-xhci",
    "nec-xhci": "nec-usb-xhci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
}
_SCSI = {
    "lsilogic": "lsi",
    "virtio-scsi": "virtio-scsi-pci",
    "virtio-transitional": "virtio-scsi-pci-transitional",
    "virtio-non-transitional": "virtio-scsi-pci-non-transitional",
    "lsisas1068": "mptsas1068",
    "lsisas1078": "megasas",
    "vmpvscsi": "pvscsi",
    "am53c974": "am53c974",
    "dc390": "dc390",
}
_PCI = {
    "pci-bridge": "pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "pcie-root-port": "pcie-root-port",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
    "pci-expander-bus": "pxb",
    "pcie-expander-bus": "pxb-pcie",
}


def controller(domain: Domain, device: Controller, floppies: Mapping[int, int] | None = None) -> Parts:
    """A bus; nothing for those that the machine has by itself. ``floppies``: unit -> place in the boot order. Raises
    ConfigUnsupported for unknown models."""
    index = device.index or 0
    alias = (device.alias and device.alias.name) or ""
    kind = device.type
    if kind == "pci":
        if device.model in ("pci-root", "pcie-root"):
            return _root(domain, device)
        props = _pci(device)
    elif kind == "usb":
        if device.model == "none":
            return Parts()
        props = _usb(device)
        if device.master is not None:
            props |= {"masterbus": f"{alias}.0", "firstport": device.master.startport}
            # companions are ports of the master's bus: they have an id of nobody's interest
            return Parts(devices=[{**props, **pci(domain, device.address, device.acpi)}])
    elif kind == "virtio-serial":
        props = {"driver": virtio_driver("virtio-serial-pci", device.model), **virtio(device.driver)}
        if device.ports is not None:
            props["max_ports"] = device.ports
        if device.vectors is not None and device.vectors >= 0:
            props["vectors"] = device.vectors
    elif kind == "scsi":
        props = _scsi(domain, device)
    elif kind == "sata":
        if domain.is_q35 and index == 0:
            return Parts()
        props = {"driver": "ahci"}
    elif kind == "ide":
        if domain.is_i440fx and index == 0:
            return Parts()
        if domain.is_i440fx:
            raise ConfigUnsupported("Only a single IDE controller is supported for this machine type")
        raise ConfigUnsupported("IDE controllers are unsupported for this QEMU binary or machine type")
    elif kind == "fdc":
        return _floppies(domain, floppies or {})
    elif kind == "ccid":
        return Parts(devices=[{"driver": "usb-ccid", "id": alias, **usb(domain, device.address)}])
    else:
        raise ConfigUnsupported(f"Unsupported controller type: {kind}")
    return Parts(devices=[{**props, "id": alias, **pci(domain, device.address, device.acpi)}])


def _root(domain: Domain, device: Controller) -> Parts:
    if device.pcihole64 is None:
        return Parts()
    host = "q35-pcihost" if domain.is_q35 else "i440FX-pcihost"
    return Parts(options=["-global", f"{host}.pci-hole64-size={device.pcihole64}K"])


def _pci(device: Controller) -> Props:
    target, model, index = device.target, device.model or "", device.index or 0
    name = (device.model_name and device.model_name.name) or _PCI.get(model)
    known = name == _PCI.get(model) or (model == "pcie-root-port" and name == "ioh3420")
    if name is None or not known:
        raise ConfigUnsupported(f"PCI controller model name '{name or ''}' is not valid for model '{model}'")
    props: Props = {"driver": name}
    if model in ("pcie-root-port", "pcie-switch-downstream-port"):
        assert target is not None
        props |= {"port": int(target.port or "0", 0), "chassis": target.chassis}
        if target.hotplug is not None:
            props["hotplug"] = target.hotplug
    elif model == "pci-bridge":
        props["chassis_nr"] = index if target is None or target.chassis_nr is None else target.chassis_nr
    elif model.endswith("expander-bus") and target is not None:
        props["bus_nr"] = target.bus_nr
        if target.numa_node is not None:
            props["numa_node"] = target.numa_node
    return props


def _usb(device: Controller) -> Props:
    driver = _USB.get(device.model or "")
    if driver is None:
        raise ConfigUnsupported(f"USB controller model '{device.model}' not supported in this QEMU binary")
    props: Props = {"driver": driver}
    if device.ports:
        if "xhci" not in driver:
            raise ConfigUnsupported("usb controller type doesn't support 'ports' with this QEMU binary")
        props |= {"p2": device.ports, "p3": device.ports}
    return props


def _scsi(domain: Domain, device: Controller) -> Props:
    driver = _SCSI.get(device.model or "lsilogic")
    if driver is None:
        raise ConfigUnsupported(f"Unsupported controller model: {device.model}")
    props: Props = {"driver": driver}
    wishes = device.driver
    if not driver.startswith("virtio"):
        for name in ("queues", "cmd_per_lun", "max_sectors", "ioeventfd", "iothread"):
            if wishes is not None and getattr(wishes, name) is not None:
                raise ConfigUnsupported(f"'{name}' is only supported by virtio-scsi controller")
        return props
    if wishes is None:
        return props
    if wishes.iothread is not None:
        check_iothread(domain, wishes.iothread, "controller")
        props["iothread"] = f"iothread{wishes.iothread}"
    props |= virtio(wishes)
    for name, field in {"num_queues": "queues", "cmd_per_lun": "cmd_per_lun", "max_sectors": "max_sectors"}.items():
        if (value := getattr(wishes, field)) is not None:
            props[name] = value
    if wishes.ioeventfd is not None:
        props["ioeventfd"] = wishes.ioeventfd
    return props


def check_iothread(domain: Domain, number: int, who: str) -> None:
    """Raises ConfigUnsupported where the guest has no such thread."""
    if not has_iothread(domain, number):
        raise ConfigUnsupported(f"{who} iothread '{number}' not defined in iothreadid")


def _floppies(domain: Domain, floppies: Mapping[int, int]) -> Parts:
    first = {f"bootindex{'AB'[unit]}": place for unit, place in floppies.items()}
    if domain.is_i440fx:  # has it by itself
        return Parts(options=[w for k, v in first.items() for w in ("-global", f"isa-fdc.{k}={v}")])
    return Parts(devices=[{"driver": "isa-fdc", **first}])
