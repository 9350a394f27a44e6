"""What a guest's memory is made of: <memoryBacking>, <maxMemory>, and on which of the host's nodes it lies."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Child, Children, Choice, Content, Element, Flag, UInt

ACCESS = Choice("shared", "private")
NUMA_MODES = ("strict", "preferred", "interleave", "restrictive")


class MaxMemory(Element, tag="maxMemory"):
    """How much may be plugged in, in so many slots. KiB once the document is prepared."""

    slots: int | None = Attr("slots", UInt)
    unit: str | None = Attr("unit")
    value: int | None = Content(UInt)


class Page(Element, tag="page"):
    """Pages of a size, for the guest's own nodes of ``nodeset`` or for all. KiB once the document is prepared."""

    size: int | None = Attr("size", UInt, required=True)
    unit: str | None = Attr("unit")
    nodeset: str | None = Attr("nodeset")


class HugePages(Element, tag="hugepages"):
    pages: list[Page] = Children(Page)


class MemorySource(Element, tag="source"):
    type: str | None = Attr("type", Choice("file", "anonymous", "memfd"), required=True)


class MemoryAccess(Element, tag="access"):
    mode: str | None = Attr("mode", ACCESS, required=True)


class Allocation(Element, tag="allocation", hollow=True):
    mode: str | None = Attr("mode", Choice("immediate", "ondemand"))
    threads: int | None = Attr("threads", UInt)


class MemoryBacking(Element, tag="memoryBacking", hollow=True):
    """Where the host takes the guest's memory from."""

    hugepages: HugePages | None = Child(HugePages)
    nosharepages: bool = Flag("nosharepages")
    locked: bool = Flag("locked")
    source: MemorySource | None = Child(MemorySource)
    access: MemoryAccess | None = Child(MemoryAccess)
    allocation: Allocation | None = Child(Allocation)
    discard: bool = Flag("discard")


class NumaMemory(Element, tag="memory"):
    mode: str | None = Attr("mode", Choice(*NUMA_MODES))
    nodeset: str | None = Attr("nodeset")
    placement: str | None = Attr("placement", Choice("static", "auto"))


class NumaNode(Element, tag="memnode"):
    """Where the memory of one of the guest's own nodes lies."""

    cellid: int | None = Attr("cellid", UInt, required=True)
    mode: str | None = Attr("mode", Choice(*NUMA_MODES))
    nodeset: str | None = Attr("nodeset", required=True)


class Numatune(Element, tag="numatune", hollow=True):
    """The host's nodes that a guest's memory may lie on."""

    memory: NumaMemory | None = Child(NumaMemory)
    nodes: list[NumaNode] = Children(NumaNode)
