"""<numa> of <cpu>: the nodes that a guest sees."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Element, UInt
from guesthouse.model.memory import ACCESS

_LATENCIES = ("access", "read", "write")


class CellSibling(Element, tag="sibling"):
    id: int | None = Attr("id", UInt, required=True)
    value: int | None = Attr("value", UInt, required=True)


class CellDistances(Element, tag="distances"):
    siblings: list[CellSibling] = Children(CellSibling)


class CacheNumber(Element):
    value: int | None = Attr("value", UInt, required=True)
    unit: str | None = Attr("unit")


class CellCache(Element, tag="cache"):
    """A cache in front of a node's memory."""

    level: int | None = Attr("level", UInt, required=True)
    associativity: str | None = Attr("associativity", Choice("none", "direct", "full"))
    policy: str | None = Attr("policy", Choice("none", "writeback", "writethrough"))
    size: CacheNumber | None = Child(CacheNumber, "size", required=True)
    line: CacheNumber | None = Child(CacheNumber, "line", required=True)


class Cell(Element, tag="cell"):
    """A node: its processors and its memory (KiB once the document is prepared)."""

    id: int | None = Attr("id", UInt)
    cpus: str | None = Attr("cpus")
    memory: int | None = Attr("memory", UInt, required=True)
    unit: str | None = Attr("unit")
    mem_access: str | None = Attr("memAccess", ACCESS)
    discard: bool | None = Attr("discard", Bool)
    distances: CellDistances | None = Child(CellDistances)
    caches: list[CellCache] = Children(CellCache)


class Latency(Element, tag="latency"):
    """How long it takes from one node's processors to another's memory or cache, in nanoseconds."""

    initiator: int | None = Attr("initiator", UInt, required=True)
    target: int | None = Attr("target", UInt, required=True)
    cache: int | None = Attr("cache", UInt)
    type: str | None = Attr("type", Choice(*_LATENCIES), required=True)
    value: int | None = Attr("value", UInt, required=True)


class Bandwidth(Element, tag="bandwidth"):
    """How much goes from there in a second (KiB once the document is prepared)."""

    initiator: int | None = Attr("initiator", UInt, required=True)
    target: int | None = Attr("target", UInt, required=True)
    cache: int | None = Attr("cache", UInt)
    type: str | None = Attr("type", Choice(*_LATENCIES), required=True)
    value: int | None = Attr("value", UInt, required=True)
    unit: str | None = Attr("unit")


class Interconnects(Element, tag="interconnects", hollow=True):
    latencies: list[Latency] = Children(Latency)
    bandwidths: list[Bandwidth] = Children(Bandwidth)


class Numa(Element, tag="numa"):
    """Nodes are in the order of their numbers once the document is prepared."""

    cells: list[Cell] = Children(Cell)
    interconnects: Interconnects | None = Child(Interconnects)

    @property
    def _interconnected(self) -> bool:
        return self.interconnects is not None and bool(self.interconnects.latencies or self.interconnects.bandwidths)

    @property
    def has_hmat(self) -> bool:
        """Whether the guest is told of caches, latencies or bandwidths."""
        return self._interconnected or any(cell.caches for cell in self.cells)
