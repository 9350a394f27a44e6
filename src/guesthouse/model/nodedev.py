"""``<device>``: a device of the host, in libvirt 9.0's vocabulary and element order.

What a device is stands in its ``<capability>``, whose type decides what else it has; so each type is a class.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, Domain, InternalError, XMLError
from guesthouse.model.fields import (
    Attr,
    BadValue,
    Child,
    Children,
    Content,
    Element,
    Hex,
    Int,
    Text,
    UInt,
    parse_document,
)


class Devnode(Element, tag="devnode"):
    """A file below /dev: type "dev", or "link" for a link to it."""

    type: str | None = Attr("type")
    path: str | None = Content()


class Driver(Element, tag="driver"):
    name: str | None = Text("name")


class PciAddress(Element, tag="address"):
    domain: int | None = Attr("domain", Hex(4))
    bus: int | None = Attr("bus", Hex(2))
    slot: int | None = Attr("slot", Hex(2))
    function: int | None = Attr("function", Hex(1))


class Identified(Element, tag="product"):
    """A maker or a product: its number, and its name where one is known."""

    id: str | None = Attr("id")
    name: str | None = Content()


class IommuGroup(Element, tag="iommuGroup"):
    number: int | None = Attr("number", Int)
    addresses: list[PciAddress] = Children(PciAddress)


class Numa(Element, tag="numa"):
    cell: int | None = Attr("node", Int)


class PcieLink(Element, tag="link"):
    """What a link can do ("cap"), or does ("sta"); the speed in GT/s."""

    validity: str | None = Attr("validity")
    port: int | None = Attr("port", UInt)
    speed: str | None = Attr("speed")
    width: int | None = Attr("width", UInt)


class PciExpress(Element, tag="pci-express"):
    links: list[PcieLink] = Children(PcieLink)


class Link(Element, tag="link"):
    """A network device's; the speed in Mbit/s."""

    speed: int | None = Attr("speed", UInt)
    state: str | None = Attr("state")


class Feature(Element, tag="feature"):
    name: str | None = Attr("name")


class MdevType(Element, tag="type"):
    id: str | None = Attr("id")
    name: str | None = Text("name")
    device_api: str | None = Text("deviceAPI")
    available: int | None = Text("availableInstances", UInt)


class Detail(Element, tag="capability"):
    """A capability within one: of a PCI function, a disk, a SCSI host, a network device."""

    type: str | None = Attr("type")
    max_count: int | None = Attr("maxCount", UInt)
    addresses: list[PciAddress] = Children(PciAddress)
    mdev_types: list[MdevType] = Children(MdevType)
    media_available: int | None = Text("media_available", UInt)
    media_size: int | None = Text("media_size", UInt)
    media_label: str | None = Text("media_label")
    logical_block_size: int | None = Text("logical_block_size", UInt)
    num_blocks: int | None = Text("num_blocks", UInt)
    wwnn: str | None = Text("wwnn")
    wwpn: str | None = Text("wwpn")
    fabric_wwn: str | None = Text("fabric_wwn")
    max_vports: int | None = Text("max_vports", UInt)
    vports: int | None = Text("vports", UInt)


class RemotePort(Element, tag="capability"):
    """Of a Fibre Channel target."""

    type: str | None = Attr("type")
    rport: str | None = Text("rport")
    wwpn: str | None = Text("wwpn")


#: Type of a capability -> its class.
KINDS: dict[str, type[Capability]] = {}


class Capability(Element, tag="capability"):
    """What a device is; of a type that is not declared here everything is kept as it came."""

    type: str | None = Attr("type", required=True)

    KIND: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.KIND = kind
        KINDS[kind] = cls

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"type": self.KIND or None, **values})

    @classmethod
    def _parse(cls, node: Any) -> Self:
        kind = node.get("type")
        if cls is Capability and kind is not None:
            if kind not in KINDS and kind not in _OTHER_KINDS:
                bad = BadValue(f"Invalid value for attribute 'type' in element 'capability': '{kind}'.")
                bad.path.append("@type")
                raise bad
            chosen: Any = KINDS.get(kind)
            if chosen is not None:
                parsed: Self = chosen._parse(node)
                return parsed
        return super()._parse(node)


# types that have no class of their own
_OTHER_KINDS = ("vport", "ccw", "ap_card", "vdpa")


class Hardware(Element, tag="hardware", paired=True):
    vendor: str | None = Text("vendor")
    version: str | None = Text("version")
    serial: str | None = Text("serial")
    uuid: str | None = Text("uuid")


class Firmware(Element, tag="firmware", paired=True):
    vendor: str | None = Text("vendor")
    version: str | None = Text("version")
    release_date: str | None = Text("release_date")


class System(Capability, kind="system"):
    product: str | None = Text("product")
    hardware: Hardware | None = Child(Hardware)
    firmware: Firmware | None = Child(Firmware)


class Pci(Capability, kind="pci"):
    class_: str | None = Text("class")
    domain: int | None = Text("domain", Int)
    bus: int | None = Text("bus", Int)
    slot: int | None = Text("slot", Int)
    function: int | None = Text("function", Int)
    product: Identified | None = Child(Identified, "product")
    vendor: Identified | None = Child(Identified, "vendor")
    details: list[Detail] = Children(Detail)
    iommu_group: IommuGroup | None = Child(IommuGroup)
    numa: Numa | None = Child(Numa)
    pci_express: PciExpress | None = Child(PciExpress)


class UsbDevice(Capability, kind="usb_device"):
    bus: int | None = Text("bus", Int)
    device: int | None = Text("device", Int)
    product: Identified | None = Child(Identified, "product")
    vendor: Identified | None = Child(Identified, "vendor")


class UsbInterface(Capability, kind="usb"):
    number: int | None = Text("number", Int)
    class_: int | None = Text("class", Int)
    subclass: int | None = Text("subclass", Int)
    protocol: int | None = Text("protocol", Int)
    description: str | None = Text("description")


class Net(Capability, kind="net"):
    interface: str | None = Text("interface")
    address: str | None = Text("address")
    link: Link | None = Child(Link)
    features: list[Feature] = Children(Feature)
    details: list[Detail] = Children(Detail)


class ScsiHost(Capability, kind="scsi_host"):
    host: int | None = Text("host", UInt)
    unique_id: int | None = Text("unique_id", Int)
    details: list[Detail] = Children(Detail)


class ScsiTarget(Capability, kind="scsi_target"):
    target: str | None = Text("target")
    details: list[RemotePort] = Children(RemotePort)


class Scsi(Capability, kind="scsi"):
    host: int | None = Text("host", UInt)
    bus: int | None = Text("bus", UInt)
    target: int | None = Text("target", UInt)
    lun: int | None = Text("lun", UInt)
    kind: str | None = Text("type")


class ScsiGeneric(Capability, kind="scsi_generic"):
    char: str | None = Text("char")


class Storage(Capability, kind="storage"):
    block: str | None = Text("block")
    bus: str | None = Text("bus")
    drive_type: str | None = Text("drive_type")
    model: str | None = Text("model")
    vendor: str | None = Text("vendor")
    serial: str | None = Text("serial")
    details: list[Detail] = Children(Detail)
    size: int | None = Text("size", UInt)
    logical_block_size: int | None = Text("logical_block_size", UInt)
    num_blocks: int | None = Text("num_blocks", UInt)


class Drm(Capability, kind="drm"):
    kind: str | None = Text("type")


class MdevKind(Element, tag="type"):
    id: str | None = Attr("id")


class MdevAttribute(Element, tag="attr"):
    name: str | None = Attr("name")
    value: str | None = Attr("value")


class Mdev(Capability, kind="mdev"):
    kind: MdevKind | None = Child(MdevKind)
    uuid: str | None = Text("uuid")
    parent_addr: str | None = Text("parent_addr")
    iommu_group: IommuGroup | None = Child(IommuGroup)
    attributes: list[MdevAttribute] = Children(MdevAttribute)


class ApQueue(Capability, kind="ap_queue"):
    adapter: str | None = Text("ap-adapter")
    domain: str | None = Text("ap-domain")


class ApMatrix(Capability, kind="ap_matrix"):
    details: list[Detail] = Children(Detail)


class ChannelDevice(Element, tag="channel_dev_addr"):
    cssid: str | None = Text("cssid")
    ssid: str | None = Text("ssid")
    devno: str | None = Text("devno")


class Css(Capability, kind="css"):
    cssid: str | None = Text("cssid")
    ssid: str | None = Text("ssid")
    devno: str | None = Text("devno")
    channel: ChannelDevice | None = Child(ChannelDevice)
    details: list[Detail] = Children(Detail)


class Device(Element, tag="device"):
    name: str | None = Text("name")
    path: str | None = Text("path")
    devnodes: list[Devnode] = Children(Devnode)
    parent: str | None = Text("parent")
    driver: Driver | None = Child(Driver)
    capability: Capability | None = Child(Capability)


def parse_new_device(text: str) -> Device:
    """A document of a device that is to be made. Raises libvirt's errors; which kinds can be made, is not judged."""
    node = parse_document(text, "(node_device_definition)")
    if node.tag != Device.TAG:
        raise XMLError(f"expecting root element of 'device', not '{node.tag}'", domain=Domain.NODEDEV)
    device = Device.parse(node)
    device.name = "new device"  # whatever it says: the kernel names devices
    capability = device.capability
    if capability is None:
        raise InternalError("no device capabilities for 'new device'", domain=Domain.NODEDEV)
    if isinstance(capability, Mdev):
        if capability.kind is None or not capability.kind.id:
            text = "missing type id attribute for 'new device'"
            raise ConfigUnsupported(text, domain=Domain.NODEDEV)
        if capability.uuid is not None:
            capability.uuid = units.parse_uuid(capability.uuid)
    return device
