"""Devices with little to say: controllers, inputs, the balloon, random numbers, watchdogs, hubs."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias, VirtioOptions
from guesthouse.model.devices.chardev import TYPES, CharEnd, CharLog, CharProtocol, CharSource
from guesthouse.model.fields import Attr, Child, Children, Choice, Content, Element, Hex, Int, OnOff, Size, Text, UInt

GRAB_TOGGLES = ("ctrl-ctrl", "alt-alt", "shift-shift", "meta-meta", "scrolllock", "ctrl-scrolllock")


#: In any base that C knows, written in tens.
Number = UInt._replace(parse=Hex(1).parse)


class ControllerModel(Element, tag="model"):
    name: str | None = Attr("name")


class ControllerTarget(Element, tag="target", hollow=True):
    """Of PCI controllers: numbers of the slot and chassis."""

    chassis_nr: int | None = Attr("chassisNr", Number)
    chassis: int | None = Attr("chassis", Number)
    port: str | None = Attr("port")
    bus_nr: int | None = Attr("busNr", Number)
    index: int | None = Attr("index", Number)
    hotplug: bool | None = Attr("hotplug", OnOff)
    numa_node: int | None = Text("node", UInt)


class ControllerMaster(Element, tag="master"):
    startport: int | None = Attr("startport", UInt)


class ControllerDriver(Element, tag="driver", hollow=True):
    queues: int | None = Attr("queues", UInt)
    cmd_per_lun: int | None = Attr("cmd_per_lun", UInt)
    max_sectors: int | None = Attr("max_sectors", UInt)
    ioeventfd: bool | None = Attr("ioeventfd", OnOff)
    iothread: int | None = Attr("iothread", UInt)
    iommu: bool | None = Attr("iommu", OnOff)
    ats: bool | None = Attr("ats", OnOff)
    packed: bool | None = Attr("packed", OnOff)
    page_per_vq: bool | None = Attr("page_per_vq", OnOff)


class Controller(Element, tag="controller"):
    """A bus. ``index`` tells those of a type apart."""

    type: str = Attr(
        "type",
        Choice("ide", "fdc", "scsi", "sata", "virtio-serial", "ccid", "usb", "pci", "xenbus", "isa"),
        default="scsi",
    )
    index: int | None = Attr("index", UInt)
    model: str | None = Attr("model")
    ports: int | None = Attr("ports", UInt)
    vectors: int | None = Attr("vectors", Int)
    model_name: ControllerModel | None = Child(ControllerModel)
    target: ControllerTarget | None = Child(ControllerTarget)
    driver: ControllerDriver | None = Child(ControllerDriver)
    alias: Alias | None = Child(Alias)
    master: ControllerMaster | None = Child(ControllerMaster)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)
    pcihole64: int | None = Size("pcihole64")


class InputSource(Element, tag="source"):
    dev: str | None = Attr("dev")
    evdev: str | None = Attr("evdev")
    grab: str | None = Attr("grab", Choice("all"))
    grab_toggle: str | None = Attr("grabToggle", Choice(*GRAB_TOGGLES))
    repeat: bool | None = Attr("repeat", OnOff)


class Input(Element, tag="input"):
    """A keyboard, mouse or tablet."""

    type: str | None = Attr("type", Choice("mouse", "tablet", "keyboard", "passthrough", "evdev"), required=True)
    bus: str | None = Attr("bus", Choice("ps2", "usb", "xen", "parallels", "virtio", "none"))
    model: str | None = Attr("model")
    driver: VirtioOptions | None = Child(VirtioOptions)
    source: InputSource | None = Child(InputSource)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)


class BalloonStats(Element, tag="stats"):
    """Seconds between the guest's reports."""

    period: int | None = Attr("period", UInt)


class MemBalloon(Element, tag="memballoon"):
    """Takes memory back from the guest; model "none" says that there is none."""

    model: str | None = Attr(
        "model", Choice("virtio", "xen", "none", "virtio-transitional", "virtio-non-transitional"), required=True
    )
    autodeflate: bool | None = Attr("autodeflate", OnOff)
    free_page_reporting: bool | None = Attr("freePageReporting", OnOff)
    stats: BalloonStats | None = Child(BalloonStats)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)
    driver: VirtioOptions | None = Child(VirtioOptions)


class RngRate(Element, tag="rate"):
    bytes: int | None = Attr("bytes", UInt)
    period: int | None = Attr("period", UInt)


class RngBackend(CharEnd, tag="backend"):
    """Where they come from: a file, QEMU itself, or a daemon at the other end of a character device."""

    model: str | None = Attr("model", Choice("random", "egd", "builtin"))
    type: str | None = Attr("type", Choice(*TYPES))
    device: str | None = Content(alias=("device",))
    sources: list[CharSource] = Children(CharSource)
    protocol: CharProtocol | None = Child(CharProtocol)
    log: CharLog | None = Child(CharLog)

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        """libvirt closes that of a daemon in its own tag never."""
        super()._write(out, indent, tag, secrets)
        if self.model == "egd" and out[-1].endswith("/>\n"):
            out[-1] = out[-1].replace("/>", f">\n{indent}</{tag}>")


class Rng(Element, tag="rng"):
    """Random numbers for the guest."""

    model: str | None = Attr("model", Choice("virtio", "virtio-transitional", "virtio-non-transitional"))
    rate: RngRate | None = Child(RngRate)
    backend: RngBackend | None = Child(RngBackend)
    driver: VirtioOptions | None = Child(VirtioOptions)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)


class Watchdog(Element, tag="watchdog"):
    model: str | None = Attr("model", Choice("i6300esb", "ib700", "diag288", "itco"), required=True)
    action: str | None = Attr("action", Choice("reset", "shutdown", "poweroff", "pause", "none", "dump", "inject-nmi"))
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)


class Hub(Element, tag="hub"):
    type: str | None = Attr("type", Choice("usb"), required=True)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)


class Other(Element):
    """A device of a family that is not modelled: kept as it came; a guest with one does not start."""
