"""Devices whose other end is a character device: <redirdev>, <smartcard>; who may redirect what; <shmem>."""

from __future__ import annotations

from guesthouse import units
from guesthouse.model.devices.address import AcpiIndex, Address, Alias, Boot
from guesthouse.model.devices.chardev import TYPES, CharEnd, CharLog, CharProtocol, CharSource
from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Content, Element, Kind, OnOff, Text, UInt


def _id(width: int) -> Kind:
    """A number in capital hexadecimal digits; -1 stands for any."""
    return Kind(lambda text: int(text, 0), lambda value: f"0x{value:0{width}X}" if value >= 0 else "-1", "a number")


def _version(text: str) -> int:
    """2.10 -> 0x0210, as USB devices write it."""
    if text == "-1":
        return -1
    major, _, minor = text.partition(".")
    return int(f"{int(major):02d}{int(minor or 0):02d}"[:4], 16)


def _format_version(value: int) -> str:
    return f"{value >> 8:x}.{value & 0xFF:02x}" if value >= 0 else "-1"


class RedirFilterRule(Element, tag="usbdev"):
    """USB devices of a class, vendor, product and version; what it does not name is any."""

    usb_class: int | None = Attr("class", _id(2))
    vendor: int | None = Attr("vendor", _id(4))
    product: int | None = Attr("product", _id(4))
    version: int | None = Attr("version", Kind(_version, _format_version, "a version, such as 1.10"))
    allow: bool | None = Attr("allow", Bool, required=True)


class RedirFilter(Element, tag="redirfilter"):
    """Which devices a viewer may bring; the first rule that fits counts."""

    rules: list[RedirFilterRule] = Children(RedirFilterRule)


class Redirdev(CharEnd, tag="redirdev"):
    """A USB socket in the guest for a device of the viewer's."""

    bus: str | None = Attr("bus", Choice("usb"))
    type: str | None = Attr("type", Choice(*TYPES))
    sources: list[CharSource] = Children(CharSource)
    protocol: CharProtocol | None = Child(CharProtocol)
    log: CharLog | None = Child(CharLog)
    boot: Boot | None = Child(Boot)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)


class Certificate(Element, tag="certificate"):
    name: str | None = Content()


class Smartcard(CharEnd, tag="smartcard"):
    """A card reader: with a card of the host's, one made of three certificates, or one at a character device's end."""

    mode: str | None = Attr("mode", Choice("host", "host-certificates", "passthrough"), required=True)
    type: str | None = Attr("type", Choice(*TYPES))
    sources: list[CharSource] = Children(CharSource)
    protocol: CharProtocol | None = Child(CharProtocol)
    log: CharLog | None = Child(CharLog)
    certificates: list[Certificate] = Children(Certificate)
    database: str | None = Text("database")
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)


class ShmemModel(Element, tag="model"):
    type: str | None = Attr("type", Choice("ivshmem", "ivshmem-plain", "ivshmem-doorbell"))


class ShmemServer(Element, tag="server"):
    """The socket of the process that tells guests of each other."""

    path: str | None = Attr("path")


class Msi(Element, tag="msi"):
    """Interrupts between the guests."""

    vectors: int | None = Attr("vectors", UInt)
    ioeventfd: bool | None = Attr("ioeventfd", OnOff)


class ShmemSize(Element, tag="size"):
    """Written in MiB, whatever it was given in."""

    unit: str | None = Attr("unit")
    value: int | None = Content(UInt)

    @property
    def bytes(self) -> int:
        return units.scale(self.value or 0, self.unit or "bytes")


class Shmem(Element, tag="shmem"):
    """Memory that guests share, by its name below /dev/shm or through a server. ``size`` is in bytes."""

    name: str | None = Attr("name", required=True)
    role: str | None = Attr("role", Choice("master", "peer"))
    model: ShmemModel | None = Child(ShmemModel)
    asked_size: ShmemSize | None = Child(ShmemSize, "size")
    server: ShmemServer | None = Child(ShmemServer)
    msi: Msi | None = Child(Msi)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)

    @property
    def size(self) -> int:
        """Bytes; 0 where the document does not say."""
        return self.asked_size.bytes if self.asked_size is not None else 0

    def set_size(self, size: int) -> None:
        """``size``: bytes, whole MiB."""
        self.asked_size = ShmemSize(unit="M", value=size >> 20)
