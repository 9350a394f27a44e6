"""What this machine is made of: processors, memory and NUMA cells, from /proc and sysfs.

A :class:`Node` reads below a root folder, so that tests show it machines that do not exist. Files that a kernel or a
container does not show count as empty: the answer is then the simplest machine that fits what is known.
"""

from __future__ import annotations

import mmap
import os
import platform
import uuid
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from guesthouse.host import cpuid
from guesthouse.host.cpu import HostCpu
from guesthouse.host.cpu import read as read_cpu
from guesthouse.host.x86 import ordered

_NANOSECONDS = 1_000_000_000
_CPU_TIMES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq")
_LOCAL, _REMOTE = 10, 20
_ROOT = Path("/")


class NodeInfo(NamedTuple):
    """Memory in KiB. ``sockets`` of one node, ``cores`` of one socket, ``threads`` of one core: multiplied they give
    the processors; where that cannot be (uneven machines), all are cores of one socket."""

    model: str
    memory: int
    cpus: int
    mhz: int
    nodes: int
    sockets: int
    cores: int
    threads: int


@dataclass(frozen=True)
class Cpu:
    """An online processor and where it sits; ``siblings`` are the threads of its core."""

    id: int
    socket: int
    die: int
    core: int
    siblings: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """A NUMA cell: KiB of memory, how many pages of each size (KiB) it has, how far the cells are, its processors."""

    id: int
    memory: int
    pages: dict[int, int]
    distances: dict[int, int]
    cpus: tuple[Cpu, ...]


@dataclass(frozen=True)
class Bank:
    """A cache that several processors share; ``size`` in KiB, ``type`` "both", "data" or "code"."""

    id: int
    level: int
    type: str
    size: int
    cpus: tuple[int, ...]


class Node:
    """The machine as seen below ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._cpu = root / "sys/devices/system/cpu"
        self._cells = root / "sys/devices/system/node"

    # -- processors

    def present(self) -> list[int]:
        """The processors that the machine has, online or not."""
        return sorted(parse_list(_text(self._cpu / "present"))) or self.online()

    def online(self) -> list[int]:
        """The processors that run."""
        cpus = parse_list(_text(self._cpu / "online"))
        if not cpus:
            rows = self._stat()
            cpus = [int(name[3:]) for name in rows if name != "cpu"]
        return sorted(cpus) or list(range(os.cpu_count() or 1))

    def info(self) -> NodeInfo:
        online = self.online()
        cells = self.cells()
        sockets = max(len({cpu.socket for cpu in cell.cpus}) for cell in cells) or 1
        cores = threads = 1
        for cell in cells:
            for socket in {cpu.socket for cpu in cell.cpus}:
                members = [cpu for cpu in cell.cpus if cpu.socket == socket]
                cores = max(cores, len({(cpu.die, cpu.core) for cpu in members}))
                threads = max(threads, *(len(member.siblings) for member in members))
        nodes = len(cells)
        if nodes * sockets * cores * threads != len(self.present()):
            nodes, sockets, cores, threads = 1, 1, len(self.present()), 1
        memory = sum(cell.memory for cell in cells)
        return NodeInfo(platform.machine(), memory, len(online), self._mhz(), nodes, sockets, cores, threads)

    def _mhz(self) -> int:
        for line in _text(self._root / "proc/cpuinfo").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("cpu MHz", "clock"):
                return int(float(value.strip().removesuffix("MHz")))
        return 0

    def _where(self, number: int) -> Cpu:
        folder = self._cpu / f"cpu{number}" / "topology"
        siblings = parse_list(_text(folder / "thread_siblings_list"))
        return Cpu(
            id=number,
            socket=_number(folder / "physical_package_id"),
            die=_number(folder / "die_id"),
            # without a topology every processor is a core of its own
            core=_number(folder / "core_id", number),
            siblings=tuple(sorted(siblings)) or (number,),
        )

    def cpu_times(self, number: int | None = None) -> dict[str, int] | None:
        """Nanoseconds since boot that a processor (None: all together) was busy and idle; None where there is no such
        processor."""
        row = self._stat().get("cpu" if number is None else f"cpu{number}")
        if row is None:
            return None
        ticks = dict(zip(_CPU_TIMES, row, strict=False))
        unit = _NANOSECONDS // os.sysconf("SC_CLK_TCK")
        return {
            "kernel": (ticks["system"] + ticks.get("irq", 0) + ticks.get("softirq", 0)) * unit,
            "user": (ticks["user"] + ticks["nice"]) * unit,
            "idle": ticks["idle"] * unit,
            "iowait": ticks.get("iowait", 0) * unit,
        }

    def _stat(self) -> dict[str, list[int]]:
        rows = (line.split() for line in _text(self._root / "proc/stat").splitlines() if line.startswith("cpu"))
        return {row[0]: [int(word) for word in row[1:]] for row in rows}

    def banks(self) -> list[Bank]:
        """The caches of level 3, or of the last level where there is none so high; each once."""
        found: dict[tuple[int, int, str], Bank] = {}
        for number in self.online():
            for folder in sorted((self._cpu / f"cpu{number}" / "cache").glob("index*")):
                kind = {"Unified": "both", "Data": "data", "Instruction": "code"}.get(_text(folder / "type").strip())
                cpus = tuple(sorted(parse_list(_text(folder / "shared_cpu_list"))))
                size = _text(folder / "size").strip()
                if kind is None or not cpus or not size.endswith("K"):
                    continue
                bank = Bank(_number(folder / "id", cpus[0]), _number(folder / "level"), kind, int(size[:-1]), cpus)
                found.setdefault((bank.level, bank.id, bank.type), bank)
        level = min(3, max((bank.level for bank in found.values()), default=0))
        return [bank for bank in found.values() if bank.level >= level]

    # -- memory

    def memory_stats(self, cell: int | None = None) -> dict[str, int]:
        """KiB: of a cell "total" and "free", of the whole machine "buffers" and "cached" as well."""
        if cell is None:
            rows = _meminfo(_text(self._root / "proc/meminfo"))
            names = {"total": "MemTotal", "free": "MemFree", "buffers": "Buffers", "cached": "Cached"}
        else:
            rows = _meminfo(_text(self._cells / f"node{cell}" / "meminfo"))
            if not rows:
                rows = _meminfo(_text(self._root / "proc/meminfo"))
            names = {"total": "MemTotal", "free": "MemFree"}
        return {name: rows.get(key, 0) for name, key in names.items()}

    def free_memory(self) -> int:
        """Bytes that nobody uses, in all cells."""
        return sum(self.memory_stats(number)["free"] for number in self.cell_numbers()) * 1024

    # -- NUMA

    def cell_numbers(self) -> list[int]:
        """The NUMA cells that are online; one where the kernel shows none."""
        return sorted(parse_list(_text(self._cells / "online"))) or self._cell_folders() or [0]

    def _cell_folders(self) -> list[int]:
        return sorted(int(path.name[4:]) for path in self._cells.glob("node[0-9]*"))

    def cells(self) -> list[Cell]:
        numbers = self.cell_numbers()
        online = set(self.online())
        cells = []
        for index, number in enumerate(numbers):
            folder = self._cells / f"node{number}"
            listed = _text(folder / "cpulist")
            if not folder.is_dir():
                listed = ",".join(map(str, online))
            cpus = tuple(self._where(cpu) for cpu in sorted(online.intersection(parse_list(listed))))
            memory = self.memory_stats(number)["total"]
            values = [int(word) for word in _text(folder / "distance").split()]
            if len(values) != len(numbers):
                values = [_LOCAL if i == index else _REMOTE for i in range(len(numbers))]
            cells.append(
                Cell(number, memory, self._pages(number, memory), dict(zip(numbers, values, strict=True)), cpus)
            )
        return cells

    def _pages(self, number: int, memory: int) -> dict[int, int]:
        """Huge pages lie in the same memory: the small ones are what remains."""
        huge = {}
        for size in self.page_sizes()[1:]:
            name = f"hugepages/hugepages-{size}kB/nr_hugepages"
            path = self._cells / f"node{number}" / name
            if not path.exists():
                path = self._root / "sys/kernel/mm" / name
            huge[size] = _number(path)
        small = mmap.PAGESIZE // 1024
        used = sum(size * count for size, count in huge.items())
        return {small: max(0, memory - used) // small, **huge}

    def page_sizes(self) -> list[int]:
        """KiB, the ordinary page first."""
        folders = (self._root / "sys/kernel/mm/hugepages").glob("hugepages-*kB")
        return [mmap.PAGESIZE // 1024, *sorted(int(path.name[10:-2]) for path in folders)]

    # -- the machine as a whole

    def cpu(self) -> HostCpu:
        """The processor, of which all are alike."""
        told = read_cpu(_text(self._root / "proc/cpuinfo"))
        shown = _shown() if self._root == _ROOT else None
        return told if shown is None else replace(told, features=shown)

    def fingerprint(self) -> tuple[object, ...]:
        """Equal as long as processors, cells, memory and huge pages stay as they are. Cheap."""
        pages = self._root / "sys/kernel/mm/hugepages"
        return (
            *(self.online(), self.iommu(), self.sleep_states(), _text(self._root / "proc/version")),
            *((number, self.memory_stats(number)["total"]) for number in self.cell_numbers()),
            *(_text(path) for path in sorted(pages.glob("*/nr_hugepages"))),
        )

    def iommu(self) -> bool:
        """Whether devices can be handed to guests."""
        try:
            return any((self._root / "sys/kernel/iommu_groups").iterdir())
        except OSError:
            return False

    def sleep_states(self) -> list[str]:
        """The sleeping states that the kernel offers, in libvirt's words."""
        states = _text(self._root / "sys/power/state").split()
        disk = _text(self._root / "sys/power/disk")
        found = []
        if "mem" in states:
            found.append("suspend_mem")
        if "disk" in states and disk.strip():
            found.append("suspend_disk")
        if {"mem", "disk"}.issubset(states) and "suspend" in disk:
            found.append("suspend_hybrid")
        return found

    def uuid(self, keep: Path) -> str:
        """The UUID of the machine's firmware; where it has none (or one that is all one digit, as makers leave it), one
        that is made up once and kept in the file ``keep``."""
        for text in (
            _text(self._root / "sys/devices/virtual/dmi/id/product_uuid"),
            _text(self._root / "proc/device-tree/vm,uuid").rstrip("\0"),
            _text(keep),
        ):
            if (found := _uuid(text)) is not None:
                return found
        fresh = str(uuid.uuid4())
        try:
            keep.parent.mkdir(parents=True, exist_ok=True)
            keep.write_text(f"{fresh}\n")
        except OSError:
            pass  # then the next daemon makes another
        return fresh


def _uuid(text: str) -> str | None:
    try:
        value = uuid.UUID(text.strip())
    except ValueError:
        return None
    return str(value) if len(set(value.hex)) > 1 else None


@cache
def _shown() -> tuple[str, ...] | None:
    """What this machine's processor itself says; None where it cannot be asked."""
    found = cpuid.native()
    return None if found is None else tuple(ordered(found))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(path: Path, default: int = 0) -> int:
    """A file's number; ``default`` where there is none, or -1, which is the kernel's word for unknown."""
    try:
        value = int(_text(path))
    except ValueError:
        return default
    return value if value >= 0 else default


def _meminfo(text: str) -> dict[str, int]:
    """ "MemTotal: 5 kB", before which a cell's file says "Node 0"."""
    rows = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        words = value.split()
        if colon and words and words[0].isdigit():
            rows[name.split()[-1]] = int(words[0])
    return rows


def parse_list(text: str) -> list[int]:
    """The kernel's "0-3,8" as numbers; what is none is left out."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            found.extend(range(int(first), int(last or first) + 1))
    return found


def format_list(numbers: tuple[int, ...]) -> str:
    """ "0-3,8" from sorted numbers."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
