"""Where a device sits in the guest, and its alias: parts that every device may have."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Bool, Child, Choice, Element, Hex, OnOff, Positive, Text, UInt


class Alias(Element, tag="alias"):
    """The device's id in QEMU; in live documents, or the user's own ("ua-...")."""

    name: str | None = Attr("name")


class Address(Element, tag="address"):
    """An address of any type; which fields count depends on ``type``. PCI numbers are integers."""

    type: str | None = Attr(
        "type",
        Choice(
            *("pci", "drive", "virtio-serial", "ccid", "usb", "spapr-vio", "virtio-mmio", "isa", "dimm", "ccw", "none"),
            "unassigned",
        ),
    )
    domain: int | None = Attr("domain", Hex(4))
    controller: int | None = Attr("controller", UInt)
    bus: int | None = Attr("bus", Hex(2))
    slot: int | None = Attr("slot", Hex(2))
    function: int | None = Attr("function", Hex(1))
    target: int | None = Attr("target", UInt)
    unit: int | None = Attr("unit", UInt)
    port: str | None = Attr("port")
    multifunction: bool | None = Attr("multifunction", OnOff)
    base: int | None = Attr("base", Hex(1))
    iobase: str | None = Attr("iobase")
    irq: str | None = Attr("irq")

    @classmethod
    def pci(cls, bus: int, slot: int, function: int = 0, multifunction: bool | None = None) -> Address:
        """A PCI address in domain 0."""
        return cls(type="pci", domain=0, bus=bus, slot=slot, function=function, multifunction=multifunction)

    @property
    def is_pci(self) -> bool:
        """Whether this is a PCI address that says where; one of zeros alone does not."""
        return self.type == "pci" and bool(self.domain or self.bus or self.slot)

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        # of each type what it has, in its own numbers: bus and slot are hexadecimal in PCI's alone
        names = _PARTS.get(self.type or "")
        if names is None:
            super()._write(out, indent, tag, secrets)
            return
        own = _WRITTEN[self.type == "pci"](type=self.type)
        if self.type != "pci" or self.bus or self.slot or self.domain:
            for name in names:
                setattr(own, name, getattr(self, name))
        own.multifunction = self.multifunction if self.type == "pci" else None
        own.extra_attributes.update(self.extra_attributes)
        own.extra_nodes.extend(self.extra_nodes)
        own._write(out, indent, tag, secrets)


class PciAddress(Element, tag="address"):
    """How PCI addresses are written."""

    type: str | None = Attr("type")
    domain: int | None = Attr("domain", Hex(4))
    bus: int | None = Attr("bus", Hex(2))
    slot: int | None = Attr("slot", Hex(2))
    function: int | None = Attr("function", Hex(1))
    multifunction: bool | None = Attr("multifunction", OnOff)


class PlainAddress(Element, tag="address"):
    """How the others are."""

    type: str | None = Attr("type")
    controller: int | None = Attr("controller", UInt)
    bus: int | None = Attr("bus", UInt)
    slot: int | None = Attr("slot", UInt)
    base: int | None = Attr("base", Hex(1))
    target: int | None = Attr("target", UInt)
    unit: int | None = Attr("unit", UInt)
    port: str | None = Attr("port")
    iobase: str | None = Attr("iobase")
    irq: str | None = Attr("irq")
    multifunction: bool | None = Attr("multifunction", OnOff)


_WRITTEN: tuple[type[PlainAddress], type[PciAddress]] = (PlainAddress, PciAddress)
_PARTS: dict[str, tuple[str, ...]] = {
    "pci": ("domain", "bus", "slot", "function"),
    "drive": ("controller", "bus", "target", "unit"),
    "virtio-serial": ("controller", "bus", "port"),
    "ccid": ("controller", "slot"),
    "usb": ("bus", "port"),
    "isa": ("iobase", "irq"),
    "dimm": ("slot", "base"),
    "virtio-mmio": (),
    "unassigned": (),
}


class AcpiIndex(Element, tag="acpi", hollow=True):
    """The number that the guest's firmware gives a device: a network card of number 1 becomes eno1 there."""

    index: int | None = Attr("index", Positive)


class Boot(Element, tag="boot"):
    """A device's place in the boot order."""

    order: int | None = Attr("order", UInt, alias=("boot_order",))
    loadparm: str | None = Attr("loadparm")


class VirtioOptions(Element, tag="driver", hollow=True):
    """The <driver> of virtio devices that have nothing else to say in it."""

    iommu: bool | None = Attr("iommu", OnOff)
    ats: bool | None = Attr("ats", OnOff)
    packed: bool | None = Attr("packed", OnOff)
    page_per_vq: bool | None = Attr("page_per_vq", OnOff)


class Device(Element):
    """What all devices have; concrete classes declare alias and address themselves, where libvirt prints them."""

    alias: Alias | None = Child(Alias)
    address: Address | None = Child(Address)


class DeviceSeclabel(Element, tag="seclabel"):
    """How a disk's or a character device's file is labelled."""

    model: str | None = Attr("model")
    relabel: bool | None = Attr("relabel", Bool)
    label: str | None = Text("label")
