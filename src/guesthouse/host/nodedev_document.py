"""The devices of this host in libvirt's words: a ``<device>`` out of sysfs, fresh at each call."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from guesthouse.host import ethtool
from guesthouse.host.nodedevs import Found, drive_type, udev_links, udev_properties
from guesthouse.host.sysfs import Sysfs
from guesthouse.model.nodedev import (
    Capability,
    Detail,
    Device,
    Devnode,
    Driver,
    Drm,
    Feature,
    Firmware,
    Hardware,
    Identified,
    IommuGroup,
    Link,
    Mdev,
    MdevKind,
    MdevType,
    Net,
    Numa,
    Pci,
    PciAddress,
    PcieLink,
    PciExpress,
    RemotePort,
    Scsi,
    ScsiGeneric,
    ScsiHost,
    ScsiTarget,
    Storage,
    System,
    UsbDevice,
    UsbInterface,
)

_NO_UUID = "00000000-0000-0000-0000-000000000000"
# SCSI's numbers of device types
_SCSI_TYPES = dict(enumerate(("disk", "tape", None, "processor", "worm", "cdrom", "scanner", "mod", "changer"))) | {
    12: "raid",
    13: "enclosure",
}
_DRM_TYPES = (("card", "primary"), ("controlD", "control"), ("renderD", "render"))
# PCI Express generations -> GT/s
_SPEEDS = ("", "2.5", "5", "8", "16", "32", "64")
_PCIE_CAPABILITY = 0x10
_SHORT_SPACE = 256
_INTEGRATED = (0x9, 0xA)  # types of PCI Express functions that have no link
_HEADERS = {1: "pci-bridge", 2: "cardbus-bridge"}
_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")


class Describer:
    """Makes documents of what ``sysfs`` has."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._pci_names: dict[tuple[str, str], tuple[str | None, str | None]] = {}

    def device(self, found: Found) -> Device:
        """The document of ``found``; where it has just vanished, less is in it."""
        if not found.path:
            return Device(name=found.name, capability=self._system())
        make = getattr(self, f"_{found.kind}")
        capability: Capability = make(found)
        driver = self._sysfs.target(f"{found.path}/driver")
        return Device(
            name=found.name,
            path=f"/sys{found.path}",
            devnodes=list(self._devnodes(found.path)),
            parent=found.parent,
            driver=Driver(name=driver.rpartition("/")[2]) if driver else None,
            capability=capability,
        )

    def _devnodes(self, path: str) -> Iterator[Devnode]:
        name = self._sysfs.properties(path).get("DEVNAME")
        if name:
            yield Devnode(type="dev", path=f"/dev/{name.removeprefix('/dev/')}")
            for link in udev_links(self._sysfs, path):
                yield Devnode(type="link", path=link)

    def _system(self) -> System:
        def dmi(name: str) -> str | None:
            return self._sysfs.text(f"/class/dmi/id/{name}")

        uuid = (dmi("product_uuid") or _NO_UUID).lower()
        return System(
            product=dmi("product_name"),
            hardware=Hardware(
                vendor=dmi("sys_vendor"), version=dmi("product_version"), serial=dmi("product_serial"), uuid=uuid
            ),
            firmware=Firmware(vendor=dmi("bios_vendor"), version=dmi("bios_version"), release_date=dmi("bios_date")),
        )

    # -- PCI

    def _pci(self, found: Found) -> Pci:
        sysfs, path = self._sysfs, found.path
        address = _pci_address(found.leaf)
        vendor, product = (sysfs.text(f"{path}/{name}") or "0x0000" for name in ("vendor", "device"))
        vendor_name, product_name = self._names(vendor[2:], product[2:])
        numa = sysfs.number(f"{path}/numa_node")
        config = sysfs.raw(f"{path}/config")
        return Pci(
            class_=sysfs.text(f"{path}/class"),
            domain=address.domain,
            bus=address.bus,
            slot=address.slot,
            function=address.function,
            product=Identified(id=product, name=product_name),
            vendor=Identified(id=vendor, name=vendor_name),
            details=list(self._pci_details(path, config)),
            iommu_group=self._iommu_group(path),
            numa=Numa(cell=numa) if numa is not None and numa >= 0 else None,
            pci_express=_pci_express(config),
        )

    def _pci_details(self, path: str, config: bytes) -> Iterator[Detail]:
        sysfs = self._sysfs
        if physical := sysfs.target(f"{path}/physfn"):
            yield Detail(type="phys_function", addresses=[_pci_address(physical.rpartition("/")[2])])
        count = sysfs.number(f"{path}/sriov_totalvfs")
        virtual = [name for name in sysfs.names(path) if name.startswith("virtfn")]
        if count or virtual:
            virtual.sort(key=lambda name: int(name.removeprefix("virtfn") or 0))
            targets = (sysfs.target(f"{path}/{name}") or "" for name in virtual)
            addresses = [_pci_address(target.rpartition("/")[2]) for target in targets if target]
            yield Detail(type="virt_functions", max_count=count, addresses=addresses)
        header = _HEADERS.get(config[0x0E] & 0x7F) if len(config) > 0x0E else None
        if header:
            yield Detail(type=header)
        types = list(self._mdev_types(path))
        if types:
            yield Detail(type="mdev_types", mdev_types=types)

    def _mdev_types(self, path: str) -> Iterator[MdevType]:
        folder = f"{path}/mdev_supported_types"
        for name in self._sysfs.names(folder):
            yield MdevType(
                id=name,
                name=self._sysfs.text(f"{folder}/{name}/name"),
                device_api=self._sysfs.text(f"{folder}/{name}/device_api"),
                available=self._sysfs.number(f"{folder}/{name}/available_instances") or 0,
            )

    def _iommu_group(self, path: str, *, members: bool = True) -> IommuGroup | None:
        group = self._sysfs.target(f"{path}/iommu_group")
        if group is None:
            return None
        names = self._sysfs.names(f"{group}/devices") if members else []
        return IommuGroup(
            number=int(group.rpartition("/")[2]), addresses=[_pci_address(name) for name in names if ":" in name]
        )

    def _names(self, vendor: str, product: str) -> tuple[str | None, str | None]:
        """What the list of PCI ids calls a maker and its product."""
        key = vendor, product
        if key not in self._pci_names:
            self._pci_names[key] = _look_up(self._sysfs.root, vendor, product)
        return self._pci_names[key]

    # -- USB

    def _usb_device(self, found: Found) -> UsbDevice:
        def text(name: str) -> str | None:
            return self._sysfs.text(f"{found.path}/{name}")

        udev = udev_properties(self._sysfs, found.path)
        product, vendor = text("idProduct") or "0000", text("idVendor") or "0000"
        return UsbDevice(
            bus=self._sysfs.number(f"{found.path}/busnum"),
            device=self._sysfs.number(f"{found.path}/devnum"),
            product=Identified(id=f"0x{product}", name=udev.get("ID_MODEL_FROM_DATABASE") or text("product")),
            vendor=Identified(id=f"0x{vendor}", name=udev.get("ID_VENDOR_FROM_DATABASE") or text("manufacturer")),
        )

    def _usb(self, found: Found) -> UsbInterface:
        def hexadecimal(name: str) -> int | None:
            return self._sysfs.number(f"{found.path}/{name}", 16)

        return UsbInterface(
            number=hexadecimal("bInterfaceNumber"),
            class_=hexadecimal("bInterfaceClass"),
            subclass=hexadecimal("bInterfaceSubClass"),
            protocol=hexadecimal("bInterfaceProtocol"),
        )

    # -- network

    def _net(self, found: Found) -> Net:
        path = found.path
        wireless = self._sysfs.properties(path).get("DEVTYPE") == "wlan"
        return Net(
            interface=found.leaf,
            address=self._sysfs.text(f"{path}/address"),
            link=link_of(self._sysfs, path),
            features=[Feature(name=name) for name in ethtool.features(found.leaf)] if not self._sysfs.root else [],
            details=[Detail(type="80211" if wireless else "80203")],
        )

    # -- SCSI and disks

    def _scsi_host(self, found: Found) -> ScsiHost:
        number = int(found.leaf.removeprefix("host"))
        fibre = f"/class/fc_host/{found.leaf}"
        details = []
        if "fc_host" in found.kinds:
            names = (self._sysfs.text(f"{fibre}/{name}") for name in ("node_name", "port_name", "fabric_name"))
            wwnn, wwpn, fabric = (name.removeprefix("0x") if name else None for name in names)
            details.append(Detail(type="fc_host", wwnn=wwnn, wwpn=wwpn, fabric_wwn=fabric))
        if "vports" in found.kinds:
            most, now = (self._sysfs.number(f"{fibre}/{name}") for name in ("max_npiv_vports", "npiv_vports_inuse"))
            details.append(Detail(type="vport_ops", max_vports=most or 0, vports=now or 0))
        unique = self._sysfs.number(f"/class/scsi_host/{found.leaf}/unique_id")
        return ScsiHost(host=number, unique_id=unique, details=details)

    def _scsi_target(self, found: Found) -> ScsiTarget:
        port = found.path.split("/")[-2]
        details = []
        if port.startswith("rport-"):
            name = self._sysfs.text(f"/class/fc_remote_ports/{port}/port_name")
            details.append(RemotePort(type="fc_remote_port", rport=port, wwpn=name))
        return ScsiTarget(target=found.leaf, details=details)

    def _scsi(self, found: Found) -> Scsi:
        host, bus, target, lun = (int(part) for part in found.leaf.split(":"))
        number = self._sysfs.number(f"{found.path}/type")
        kind = None if number is None else _SCSI_TYPES.get(number)
        return Scsi(host=host, bus=bus, target=target, lun=lun, kind=kind)

    def _scsi_generic(self, found: Found) -> ScsiGeneric:
        return ScsiGeneric(char=f"/dev/{found.leaf}")

    def _storage(self, found: Found) -> Storage:
        sysfs, path = self._sysfs, found.path
        udev = udev_properties(sysfs, path)
        kind = drive_type(sysfs, path, udev)
        storage = Storage(
            block=f"/dev/{found.leaf.replace('!', '/')}",
            bus=udev.get("ID_BUS"),
            drive_type=kind,
            model=sysfs.text(f"{path}/device/model"),
            vendor=sysfs.text(f"{path}/device/vendor"),
            serial=udev.get("ID_SERIAL"),
        )
        size = (sysfs.number(f"{path}/size") or 0) * 512  # the kernel counts so, whatever the device's blocks
        block = sysfs.number(f"{path}/queue/logical_block_size") or 512
        if kind in ("cdrom", "floppy"):
            inside = "ID_CDROM_MEDIA" in udev
            medium = Detail(type="removable", media_available=int(inside), media_size=size if inside else 0)
            if inside:
                medium.media_label = udev.get("ID_FS_LABEL")
                medium.logical_block_size, medium.num_blocks = block, size // block
            storage.details.append(medium)
        else:
            storage.size, storage.logical_block_size, storage.num_blocks = size, block, size // block
        return storage

    # -- others

    def _drm(self, found: Found) -> Drm:
        return Drm(kind=next((kind for start, kind in _DRM_TYPES if found.leaf.startswith(start)), None))

    def _mdev(self, found: Found) -> Mdev:
        kind = self._sysfs.target(f"{found.path}/mdev_type") or ""
        return Mdev(
            kind=MdevKind(id=kind.rpartition("/")[2]),
            uuid=found.leaf,
            parent_addr=found.path.split("/")[-2],
            iommu_group=self._iommu_group(found.path, members=False),
        )


def link_of(sysfs: Sysfs, path: str) -> Link:
    """The state of a network device's link, with its speed where it is up and has one."""
    state = sysfs.text(f"{path}/operstate") or "unknown"
    speed = sysfs.number(f"{path}/speed") if state == "up" else None
    # a driver that does not know says -1, and libvirt reads that as an unsigned number
    return Link(speed=None if speed is None else speed & 0xFFFFFFFF, state=state)


def _pci_address(text: str) -> PciAddress:
    """Of "0000:00:1f.2"."""
    domain, bus, rest = text.split(":")
    slot, function = rest.split(".")
    return PciAddress(domain=int(domain, 16), bus=int(bus, 16), slot=int(slot, 16), function=int(function, 16))


def _pci_express(config: bytes) -> PciExpress | None:
    """What the PCI Express capability in a configuration space says; None where the function is not PCI Express: then
    its space is short, too."""
    seen = set()
    at = config[0x34] & ~3 if len(config) >= 0x40 and config[0x06] & 0x10 else 0
    while at >= 0x40 and at + 0x14 <= len(config) and at not in seen:
        seen.add(at)
        if config[at] == _PCIE_CAPABILITY:
            (flags,) = struct.unpack_from("<H", config, at + 2)
            if flags >> 4 & 0xF in _INTEGRATED:
                return PciExpress()
            (can,) = struct.unpack_from("<I", config, at + 0x0C)
            (does,) = struct.unpack_from("<H", config, at + 0x12)
            port = PcieLink(validity="cap", port=can >> 24, speed=_speed(can), width=can >> 4 & 0x3F)
            return PciExpress(links=[port, PcieLink(validity="sta", speed=_speed(does), width=does >> 4 & 0x3F)])
        at = config[at + 1] & ~3
    return PciExpress() if len(config) > _SHORT_SPACE else None


def _speed(word: int) -> str | None:
    number = word & 0xF
    return (_SPEEDS[number] or None) if number < len(_SPEEDS) else None


def _look_up(root: str, vendor: str, product: str) -> tuple[str | None, str | None]:
    for file in _IDS:
        try:
            lines = open(f"{root}{file}", encoding="utf-8", errors="replace")  # noqa: SIM115
        except OSError:
            continue
        with lines:
            maker = None
            for line in lines:
                if maker is None:
                    if line.startswith(f"{vendor}  "):
                        maker = line[6:].strip()
                elif not line.startswith(("\t", "#")):
                    break
                elif line.startswith(f"\t{product}  "):
                    return maker, line[7:].strip()
            if maker is not None:
                return maker, None
    return None, None
