"""Devices of the board itself: memory modules, the IOMMU, what tells the host of a guest's panic."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias
from guesthouse.model.fields import Attr, Bool, Child, Choice, Element, Flag, OnOff, Size, Text, UInt, Uuid
from guesthouse.model.memory import ACCESS


class MemoryModuleSource(Element, tag="source"):
    """Sizes are KiB."""

    nodemask: str | None = Text("nodemask")
    pagesize: int | None = Size("pagesize")
    path: str | None = Text("path")
    alignsize: int | None = Size("alignsize")
    pmem: bool = Flag("pmem")


class MemoryLabel(Element, tag="label"):
    size: int | None = Size("size")


class MemoryModuleTarget(Element, tag="target"):
    """Sizes are KiB."""

    size: int | None = Size("size")
    cell: int | None = Text("node", UInt)
    label: MemoryLabel | None = Child(MemoryLabel)
    readonly: bool = Flag("readonly")
    block: int | None = Size("block")
    requested: int | None = Size("requested")
    current: int | None = Size("current")


class Memory(Element, tag="memory"):
    """A memory module."""

    model: str | None = Attr("model", Choice("dimm", "nvdimm", "virtio-pmem", "virtio-mem", "sgx-epc"), required=True)
    access: str | None = Attr("access", ACCESS)
    discard: bool | None = Attr("discard", Bool)
    uuid: str | None = Text("uuid", Uuid)
    source: MemoryModuleSource | None = Child(MemoryModuleSource)
    target: MemoryModuleTarget | None = Child(MemoryModuleTarget)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)

    @property
    def size(self) -> int:
        """KiB."""
        return (self.target and self.target.size) or 0

    @property
    def cell(self) -> int | None:
        """The guest's own node that it belongs to."""
        return self.target.cell if self.target is not None else None

    @property
    def path(self) -> str | None:
        """The file or device that holds what a persistent module holds."""
        return self.source.path if self.source is not None else None


class IommuDriver(Element, tag="driver", hollow=True):
    intremap: bool | None = Attr("intremap", OnOff)
    caching_mode: bool | None = Attr("caching_mode", OnOff)
    eim: bool | None = Attr("eim", OnOff)
    iotlb: bool | None = Attr("iotlb", OnOff)
    aw_bits: int | None = Attr("aw_bits", UInt)


class Iommu(Element, tag="iommu"):
    model: str | None = Attr("model", Choice("intel", "smmuv3", "virtio"), required=True)
    driver: IommuDriver | None = Child(IommuDriver)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)


class Panic(Element, tag="panic"):
    """How a guest says that its kernel crashed."""

    model: str | None = Attr("model", Choice("isa", "pseries", "hyperv", "s390", "pvpanic"))
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)
