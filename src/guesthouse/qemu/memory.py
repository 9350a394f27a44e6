"""A guest's memory as QEMU's memory objects: all of it, its nodes', and its modules'."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, InternalError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import board
from guesthouse.model.devices.platform import Memory
from guesthouse.model.domain import Domain
from guesthouse.model.numa import Cell
from guesthouse.qemu.devices import common
from guesthouse.qemu.parts import Parts, Props, compact

#: Where files for memory are made, unless it is said.
RAM_FOLDER = "/var/lib/libvirt/qemu/ram"
# a module's size is rounded up to this (KiB), as libvirt rounds
_MODULE_STEP = 2048
_PAGE = 4
_POLICIES = {"strict": "bind", "preferred": "preferred", "interleave": "interleave"}
_HIERARCHY = ("memory", "first-level", "second-level", "third-level")
_DRIVERS = {
    "dimm": "pc-dimm",
    "nvdimm": "nvdimm",
    "virtio-pmem": "virtio-pmem-pci",
    "virtio-mem": "virtio-mem-pci",
}
_CACHE_POLICIES = {"none": "none", "writeback": "write-back", "writethrough": "write-through"}
_MODULE_KEYS = ("label-size", "block-size", "requested-size")


@dataclass
class Places:
    """Where a guest's memory may be: its own ``folder`` for files, and the host's file systems of huge pages by their
    size in KiB, of which one is the ``usual``."""

    folder: str
    huge: dict[int, str] = field(default_factory=dict)
    usual: int = 0
    #: The host's nodes; None where nobody asked it.
    nodes: frozenset[int] | None = None
    #: Folders that a command has named: they must be there before QEMU is.
    named: set[str] = field(default_factory=set)

    @classmethod
    def on_this_host(cls, folder: str) -> Places:
        usual = 0
        for line in _read("/proc/meminfo").splitlines():
            if line.startswith("Hugepagesize:"):
                usual = int(line.split()[1])
        found: dict[int, str] = {}
        for line in _read("/proc/mounts").splitlines():
            _, mount, kind, options, *_ = line.split()
            if kind == "hugetlbfs":
                words = [word for word in options.split(",") if word.startswith("pagesize=")]
                size = units.parse_size(f"{words[0].partition('=')[2]}iB") // 1024 if words else usual
                found.setdefault(size, mount)
        nodes = units.parse_cpus(_read("/sys/devices/system/node/online").strip() or "0")
        return cls(folder, found, usual if usual in found else next(iter(found), 0), frozenset(nodes))

    def check_nodes(self, numbers: Iterable[int]) -> None:
        """Raises ConfigUnsupported where the host has not all of these nodes."""
        for number in numbers if self.nodes is not None else ():
            if number not in (self.nodes or ()):
                raise ConfigUnsupported(f"NUMA node {number} is unavailable", domain=ErrorDomain.NONE)

    def usual_size(self) -> int:
        """Raises InternalError where the host has no huge pages."""
        if not self.huge:
            raise InternalError("hugetlbfs filesystem is not mounted or disabled by administrator config")
        return self.usual

    def huge_folder(self, size: int) -> str:
        """Raises InternalError where the host has no pages of ``size`` KiB."""
        if not self.huge:
            raise InternalError("hugetlbfs filesystem is not mounted or disabled by administrator config")
        if size not in self.huge:
            raise InternalError(f"Unable to find any usable hugetlbfs mount for {size} KiB")
        folder = self._in(self.huge[size])
        self.named.add(folder)
        return folder

    def _in(self, mount: str) -> str:
        return f"{mount}/libvirt/qemu/{Path(self.folder).name}"

    def all(self) -> list[str]:
        """Every folder that the guest's memory may be in."""
        return [self.folder, *(self._in(mount) for mount in self.huge.values())]

    def file(self, name: str) -> str:
        self.named.add(self.folder)
        return f"{self.folder}/{name}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _mib(kib: int) -> int:
    """Rounded up to whole MiB, in KiB."""
    return -(-kib // 1024) * 1024


def ram_id(domain: Domain) -> str:
    """What QEMU calls the memory of a machine of that kind."""
    return "microvm.ram" if domain.machine == "microvm" else "pc.ram"


def memory_arguments(domain: Domain, places: Places) -> list[str]:
    """-m, the memory objects and how they are kept. ``places`` is where it may be."""
    backing = domain.memory_backing
    cells = domain.cells
    size = sum(_mib(cell.memory or 0) for cell in cells) or _mib(domain.initial_memory)
    argument = f"size={size}k"
    if domain.max_memory is not None:
        argument += f",slots={domain.max_memory.slots},maxmem={_mib(domain.max_memory.value or 0)}k"
    out = ["-m", argument]
    if not cells:
        whole = Backend(domain, places)
        out += _objects(whole.objects(ram_id(domain), size, system=True))
    lock = "on" if backing is not None and backing.locked else "off"
    return [*out, "-overcommit", f"mem-lock={lock}"]


def _objects(objects: list[Props]) -> list[str]:
    return [word for props in objects for word in ("-object", compact(props))]


class Backend:
    """Makes memory objects: for the whole guest, for a ``cell`` or for a ``module``."""

    def __init__(self, domain: Domain, places: Places, cell: Cell | None = None, module: Memory | None = None) -> None:
        self.domain, self.places, self.cell, self.module = domain, places, cell, module
        if module is not None and module.cell is not None and module.cell < len(domain.cells):
            self.cell = domain.cells[module.cell]
        backing = domain.memory_backing
        self.kind = (backing is not None and backing.source is not None and backing.source.type) or None
        self.path = module.path if module is not None else None
        self.pagesize, self.by_node = self._pages()

    def _pages(self) -> tuple[int, bool]:
        """Size of the huge pages in KiB (0: none), and whether just this node has them."""
        module, backing = self.module, self.domain.memory_backing
        if module is not None and module.source is not None and module.source.pagesize:
            size = module.source.pagesize
            return (0, False) if size == _PAGE else (size, True)
        huge = backing.hugepages if backing is not None else None
        if huge is None:
            return 0, False
        node = self.cell.id if self.cell is not None else None
        found = next(
            (p for p in huge.pages if p.nodeset and node is not None and node in units.parse_cpus(p.nodeset)), None
        )
        whole = next((p for p in reversed(huge.pages) if p.nodeset is None), None)
        page = found or whole
        if page is None and huge.pages:
            return 0, False
        size = (page.size or 0) if page is not None else self.places.usual_size()
        return (0, False) if size == _PAGE else (size, found is not None)

    @property
    def access(self) -> str | None:
        backing = self.domain.memory_backing
        return (
            (self.module is not None and self.module.access)
            or (self.cell is not None and self.cell.mem_access)
            or (backing is not None and backing.access is not None and backing.access.mode)
            or None
        )

    @property
    def discard(self) -> bool | None:
        backing = self.domain.memory_backing
        for holder in (self.module, self.cell):
            if holder is not None and holder.discard is not None:
                return holder.discard
        return True if backing is not None and backing.discard else None

    @property
    def preallocated(self) -> bool:
        module, backing = self.module, self.domain.memory_backing
        allocation = backing.allocation if backing is not None else None
        if allocation is not None and allocation.mode == "immediate":
            return True
        if self.path is not None:
            pmem = module is not None and module.source is not None and module.source.pmem
            return not pmem and module is not None and module.model != "virtio-pmem"
        return bool(self.pagesize)

    def _nodes(self) -> tuple[str | None, str | None]:
        """The host's nodes that it may lie on, and how strictly."""
        tune = self.domain.numatune
        own = None
        if tune is not None and self.cell is not None:
            own = next((node for node in tune.nodes if node.cellid == self.cell.id), None)
        whole = tune.memory if tune is not None else None
        mode = (own and own.mode) or (whole and whole.mode) or "strict"
        if self.module is not None and self.module.source is not None and self.module.source.nodemask:
            return self.module.source.nodemask, mode
        nodes = own.nodeset if own is not None else whole.nodeset if whole is not None else None
        return nodes, mode

    @property
    def needed(self) -> bool:
        """Whether plain memory will not do."""
        tune = self.domain.numatune
        own = tune is not None and self.cell is not None and any(n.cellid == self.cell.id for n in tune.nodes)
        return self.by_node or own or self.access is not None or self.kind in ("file", "memfd")

    def objects(self, name: str, size: int, *, system: bool = False) -> list[Props]:
        """The object ``name`` of ``size`` KiB, behind what it needs. ``system``: it is all memory of the guest."""
        module, backing = self.module, self.domain.memory_backing
        model = module.model if module is not None else None
        props: Props = {"qom-type": "memory-backend-ram", "id": name}
        named = False
        share = {"shared": True, "private": False}.get(self.access or "")
        if model == "sgx-epc":
            props["qom-type"] = "memory-backend-epc"
        elif self.path is None and self.kind == "memfd":
            props["qom-type"] = "memory-backend-memfd"
            if self.pagesize:
                props |= {"hugetlb": True, "hugetlbsize": self.pagesize * 1024}
            named = True
        elif self.pagesize or self.path is not None or self.access is not None or self.kind == "file":
            props["qom-type"] = "memory-backend-file"
            props["mem-path"] = self.path or self._file(name)
            if self.path is None and self.discard is not None:
                props["discard-data"] = self.discard
            named = True
        if named and share is not None:
            props["share"] = share
        if named and system:
            # saved guests know it by its short name
            props["x-use-canonical-path-for-ramblock-id"] = False
        threads = backing.allocation.threads if backing is not None and backing.allocation is not None else None
        if model == "virtio-mem":
            props["reserve"] = False
        else:
            if self.preallocated or model == "sgx-epc":
                props["prealloc"] = True
            if threads:
                props["prealloc-threads"] = threads
        props["size"] = size * 1024
        source = module.source if module is not None else None
        if source is not None and source.alignsize:
            props["align"] = source.alignsize * 1024
        if source is not None and source.pmem:
            props["pmem"] = True
        nodes, mode = self._nodes()
        if not nodes or mode == "restrictive":
            return [props]
        numbers = sorted(units.parse_cpus(nodes))
        self.places.check_nodes(numbers)
        props |= {"host-nodes": numbers, "policy": _POLICIES[mode or "strict"]}
        if not props.get("prealloc"):
            return [props]
        context = {"qom-type": "thread-context", "id": f"tc-{name}", "node-affinity": numbers}
        return [context, {**props, "prealloc-context": f"tc-{name}"}]

    def _file(self, name: str) -> str:
        if self.pagesize:
            return self.places.huge_folder(self.pagesize)
        return self.places.file(name.removeprefix("mem") if self.module is not None else name)


# -- nodes


def numa_arguments(domain: Domain, places: Places) -> list[str]:
    """The guest's nodes, from where to where it takes how long, and the caches between."""
    cells = domain.cells
    if not cells:
        return []
    numa = domain.cpu.numa if domain.cpu is not None else None
    hmat = numa is not None and numa.has_hmat
    first = next((cell for cell in cells if cell.cpus), None)
    if first is None:
        raise ConfigUnsupported("At least one NUMA node has to have CPUs")
    out: list[str] = []
    for cell in cells:
        name = f"ram-node{cell.id}"
        out += _objects(Backend(domain, places, cell).objects(name, _mib(cell.memory or 0)))
        words = ["node", f"nodeid={cell.id}"]
        if cell.cpus:
            words += [f"cpus={part}" for part in cell.cpus.split(",")]
        if hmat:
            words.append(f"initiator={cell.id if cell.cpus else first.id}")
        out += ["-numa", ",".join([*words, f"memdev={name}"])]
    if any(cell.distances is not None for cell in cells):
        for cell in cells:
            for other in cells:
                value = board.distance(cell, other.id or 0)
                out += ["-numa", f"dist,src={cell.id},dst={other.id},val={value}"]
    return [*out, *(_hmat(domain) if hmat else [])]


def _hmat(domain: Domain) -> list[str]:
    assert domain.cpu is not None and domain.cpu.numa is not None
    out: list[str] = []
    ways = domain.cpu.numa.interconnects
    for latency in ways.latencies if ways is not None else []:
        head = (
            f"hmat-lb,initiator={latency.initiator},target={latency.target},hierarchy={_HIERARCHY[latency.cache or 0]}"
        )
        out += ["-numa", f"{head},data-type={latency.type}-latency,latency={latency.value}"]
    for width in ways.bandwidths if ways is not None else []:
        head = f"hmat-lb,initiator={width.initiator},target={width.target},hierarchy={_HIERARCHY[width.cache or 0]}"
        out += ["-numa", f"{head},data-type={width.type}-bandwidth,bandwidth={width.value}K"]
    for cell in domain.cells:
        for cache in cell.caches:
            associativity = {"full": "complex"}.get(cache.associativity or "none", cache.associativity or "none")
            policy = _CACHE_POLICIES[cache.policy or "none"]
            line = f",line={cache.line.value}" if cache.line is not None and cache.line.value else ""
            size = cache.size.value if cache.size is not None else 0
            out += [
                "-numa",
                f"hmat-cache,node-id={cell.id},size={size}K,level={cache.level},associativity={associativity}"
                f",policy={policy}{line}",
            ]
    return out


# -- modules


def module(domain: Domain, device: Memory, places: Places) -> Parts:
    """A memory module and the object that its memory is."""
    parts = Parts()
    alias = (device.alias and device.alias.name) or ""
    name = f"mem{alias}"
    size = -(-device.size // _MODULE_STEP) * _MODULE_STEP
    backend = Backend(domain, places, module=device)
    parts.objects += backend.objects(name, size)
    if device.model == "sgx-epc":
        return parts
    target = device.target
    assert target is not None
    props: Props = {"driver": _DRIVERS[device.model or ""]}
    if device.cell is not None:
        props["node"] = device.cell
    sizes = (target.label.size if target.label is not None else None, target.block, target.requested)
    props |= {key: kib * 1024 for key, kib in zip(_MODULE_KEYS, sizes, strict=True) if kib}
    if device.uuid:
        props["uuid"] = device.uuid
    if target.readonly:
        props["unarmed"] = True
    props["memdev"] = name
    if device.model == "virtio-mem" and backend.preallocated:
        props["prealloc"] = True
    props["id"] = alias
    place = device.address
    if place is not None and place.type == "dimm":
        props["slot"] = place.slot or 0
        if place.base:
            props["addr"] = place.base
    elif place is not None:
        props |= common.pci(domain, place)
    parts.devices.append(props)
    return parts
