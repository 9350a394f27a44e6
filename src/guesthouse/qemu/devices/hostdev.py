"""<hostdev> for QEMU: devices of the host's, by VFIO, usbfs, SCSI's generic driver and vhost."""

from __future__ import annotations

from dataclasses import dataclass

from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.devices.hostdev import Hostdev
from guesthouse.model.devices.interface import Interface, InterfaceRom, Teaming
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.common import bus_of, pci, usb, virtio_driver
from guesthouse.qemu.parts import Parts, Props

_RESETS: dict[str, Props] = {
    "off": {"guest-reset": False},
    "uninitialized": {"guest-reset": True, "guest-resets-all": False},
    "on": {"guest-reset": True, "guest-resets-all": True},
}


@dataclass
class HostdevEnd:
    """What the daemon found and opened: SCSI's generic device (/dev/sg0) and the number of its block node, or vhost's
    descriptor."""

    generic: str = ""
    node: int = 0
    vhost: int | None = None


def hostdev(domain: Domain, device: Hostdev, end: HostdevEnd, bootindex: int | None = None) -> Parts:
    """A device of the host's. Raises ConfigUnsupported for kinds that QEMU has not."""
    if device.mode == "capabilities":
        text = "hostdev mode 'capabilities' is not supported in QEMU"
        raise ConfigUnsupported(text)
    alias = (device.alias and device.alias.name) or "hostdev0"
    match device.type:
        case "pci":
            if device.address is not None and device.address.type == "unassigned":
                return Parts()  # kept away from the host, and not given to the guest either
            where = device.place.pci
            return Parts(devices=[_vfio(domain, device, alias, where, device.teaming, device.rom, bootindex)])
        case "usb":
            return Parts(devices=[_usb(domain, device, alias, bootindex)])
        case "mdev":
            return Parts(devices=[_mdev(domain, device, alias, bootindex)])
        case "scsi":
            return _scsi(domain, device, alias, end, bootindex)
        case "scsi_host":
            return _vhost_scsi(domain, device, alias, end)
    raise ConfigUnsupported(f"hostdev subsys type '{device.type}' is not supported by QEMU")


def card(domain: Domain, device: Interface, bootindex: int | None = None) -> Parts:
    """A network card of the host's, that the guest gets whole."""
    alias = (device.alias and device.alias.name) or "hostdev0"
    place = device.source.place if device.source is not None else None
    if place is None or place.type == "usb":
        raise ConfigUnsupported(f"interface {device.mac_address} of type 'hostdev' can only be a PCI device")
    where = f"{place.domain or 0:04x}:{place.bus or 0:02x}:{place.slot or 0:02x}.{place.function or 0:x}"
    return Parts(devices=[_vfio(domain, device, alias, where, device.teaming, device.rom, bootindex)])


def _vfio(
    domain: Domain,
    device: Hostdev | Interface,
    alias: str,
    where: str,
    teaming: Teaming | None,
    rom: InterfaceRom | None,
    bootindex: int | None,
) -> Props:
    props: Props = {"driver": "vfio-pci", "host": where, "id": alias}
    if bootindex is not None:
        props["bootindex"] = bootindex
    if teaming is not None and teaming.type == "transient" and teaming.persistent:
        props["failover_pair_id"] = teaming.persistent
    props |= pci(domain, device.address)
    if device.acpi is not None and device.acpi.index:
        props["acpi-index"] = device.acpi.index
    return props | rom_props(rom)


def rom_props(rom: InterfaceRom | None) -> Props:
    """What a PCI device shows as its firmware."""
    if rom is None:
        return {}
    if rom.enabled is False:
        return {"romfile": ""}
    props: Props = {} if rom.bar is None else {"rombar": int(rom.bar)}
    return props | ({} if rom.file is None else {"romfile": rom.file})


def _usb(domain: Domain, device: Hostdev, alias: str, bootindex: int | None) -> Props:
    place, source = device.place, device.source
    props: Props = {"driver": "usb-host"}
    if source is None or not source.missing:
        if not place.bus and not place.device:
            raise InternalError("USB host device is missing bus/device information")
        props["hostdevice"] = f"/dev/bus/usb/{place.bus or 0:03d}/{place.device or 0:03d}"
    props["id"] = alias
    if bootindex is not None:
        props["bootindex"] = bootindex
    if source is not None and source.guest_reset is not None:
        props |= _RESETS[source.guest_reset]
    return props | usb(domain, device.address)


def _mdev(domain: Domain, device: Hostdev, alias: str, bootindex: int | None) -> Props:
    if device.model != "vfio-pci":
        raise ConfigUnsupported(f"'{device.model}' is not supported by this version of QEMU")
    # ramfb needs a card that stays
    driver = "vfio-pci-nohotplug" if device.ramfb else "vfio-pci"
    props: Props = {"driver": driver, "id": alias, "sysfsdev": f"/sys/bus/mdev/devices/{device.place.uuid}"}
    if device.display is not None:
        props["display"] = "on" if device.display else "off"
    if device.ramfb:
        props["ramfb"] = True
    if bootindex is not None:
        props["bootindex"] = bootindex
    return props | pci(domain, device.address, device.acpi)


def _scsi(domain: Domain, device: Hostdev, alias: str, end: HostdevEnd, bootindex: int | None) -> Parts:
    source = device.source
    node: Props
    if source is not None and source.protocol == "iscsi":
        if source.auth is not None:
            raise ConfigUnsupported("<auth> of SCSI host devices is not supported yet")
        target, _, lun = (source.name or "").partition("/")
        host = source.host
        portal = f"{host.name}:{host.port or 3260}" if host is not None else ""
        node = {"driver": "iscsi", "portal": portal, "target": target, "lun": int(lun or 0), "transport": "tcp"}
        if source.initiator is not None and source.initiator.iqn is not None:
            node["initiator-name"] = source.initiator.iqn.name
    else:
        node = {"driver": "host_device", "filename": end.generic}
    name = f"libvirt-{end.node}-backend"
    node |= {"node-name": name, "read-only": device.readonly}
    props: Props = {"driver": "scsi-generic", "drive": name, "id": alias}
    if bootindex is not None:
        props["bootindex"] = bootindex
    return Parts(blockdevs=[node], devices=[props | _scsi_place(domain, device)])


def _scsi_place(domain: Domain, device: Hostdev) -> Props:
    address = device.address
    if address is None:
        raise InternalError("unexpected address type for scsi disk", domain=ErrorDomain.QEMU)
    bus = address.controller or 0
    narrow = any(c.type == "scsi" and c.index == bus and c.model == "lsilogic" for c in domain.dev.controllers)
    name = bus_of(domain, "scsi", bus, f"scsi{bus}")
    if narrow:
        return {"bus": f"{name}.{address.bus or 0}", "scsi-id": address.unit or 0}
    return {
        "bus": f"{name}.0",
        "channel": address.bus or 0,
        "scsi-id": address.target or 0,
        "lun": address.unit or 0,
    }


def _vhost_scsi(domain: Domain, device: Hostdev, alias: str, end: HostdevEnd) -> Parts:
    if end.vhost is None:
        raise InternalError("a vhost-scsi device without its descriptor")
    props: Props = {
        "driver": virtio_driver("vhost-scsi-pci", device.model),
        "wwpn": (device.source and device.source.wwpn) or "",
        "vhostfd": str(end.vhost),
        "id": alias,
    }
    return Parts(devices=[props | pci(domain, device.address)], fds=[end.vhost])
