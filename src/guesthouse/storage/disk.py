"""Pools of type "disk": a disk with a partition table, its partitions as volumes. parted reads and writes the table.

Partitions have the names that Linux gives them: whoever makes one must name it so. With a table of type "dos" they
begin and end where cylinders do, and once there are four, the extended one is divided.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from guesthouse.errors import Domain, GuesthouseError, InternalError, InvalidArg, NoSupport
from guesthouse.model.storage import (
    Extent,
    ExtentDevice,
    FreeExtent,
    Pool,
    SourceDevice,
    SourceFormat,
    Volume,
    VolumeFormat,
    VolumeSource,
    VolumeTarget,
)
from guesthouse.storage import block, directory
from guesthouse.storage.backend import BUILD_OVERWRITE, check_build_flags, check_flags
from guesthouse.storage.block import BlockPool
from guesthouse.storage.folder import no_discovery
from guesthouse.storage.probe import check_empty, check_label, clear_ends, settle
from guesthouse.storage.work import in_thread, output, run

_log = logging.getLogger(__name__)
_SECTOR = 512
# libvirt's formats of partitions -> what parted calls such a file system
_PARTED = {"fat16": "fat16", "fat32": "fat32", "linux-swap": "linux-swap", "extended": "extended"}
_EXTENDED_TYPES = (0x05, 0x0F, 0x85)


@dataclass
class Partition:
    """``end`` is the first byte behind it; ``kind`` is "primary", "extended" or "logical"."""

    number: int
    start: int
    end: int
    kind: str = "primary"


@dataclass
class Free:
    """Free space, of the extended partition where ``logical``."""

    start: int
    end: int
    logical: bool = False


@dataclass
class Table:
    """A partition table: ``cylinder`` and ``usable`` are bytes, of a cylinder and of all whole ones."""

    label: str
    cylinder: int
    usable: int
    partitions: list[Partition] = field(default_factory=list)
    free: list[Free] = field(default_factory=list)

    @property
    def extended(self) -> Partition | None:
        return next((part for part in self.partitions if part.kind == "extended"), None)

    @property
    def next_kind(self) -> str:
        """Of what kind the next partition is."""
        taken = sum(part.kind != "logical" for part in self.partitions)
        return "logical" if self.label == "msdos" and taken >= 4 else "primary"

    @property
    def next_number(self) -> int:
        """What parted numbers the next partition."""
        taken = {part.number for part in self.partitions}
        number = 5 if self.next_kind == "logical" else 1
        while number in taken:
            number += 1
        return number


class Disk(BlockPool):
    """See :class:`guesthouse.storage.backend.Backend`."""

    programs: tuple[str, ...] = ("parted",)
    package = "parted"

    async def build(self, pool: Pool, flags: int) -> None:
        """Write an empty partition table. Without the flag for it, the disk must have nothing on it."""
        check_build_flags(flags, "virStorageBackendDiskBuildPool")
        device, format_ = _device(pool), _format(pool)
        if flags & BUILD_OVERWRITE:
            await in_thread(lambda check: clear_ends(device))
        else:
            await check_empty(device, format_)
        await run("parted", device, "mklabel", "--script", "msdos" if format_ == "dos" else format_)

    async def start(self, pool: Pool) -> None:
        await settle()
        await self._need_device(pool)
        await check_label(_device(pool), _format(pool))

    async def _need_device(self, pool: Pool) -> None:
        if not await in_thread(lambda check: directory.exists(_device(pool))):
            raise InvalidArg(f"device path '{_device(pool)}' doesn't exist", domain=Domain.STORAGE)

    async def started(self, pool: Pool) -> bool:
        return await in_thread(lambda check: directory.exists(_device(pool)))

    async def stop(self, pool: Pool) -> None:
        pass

    async def delete(self, pool: Pool, flags: int) -> None:
        """Overwrite the partition table."""
        check_flags(flags, 0, "virStorageBackendDiskDeletePool")
        await in_thread(lambda check: clear_ends(_device(pool)))

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        await settle()
        await self._need_device(pool)
        table = await _read(pool)
        source = _source(pool)
        source.free_extents = [FreeExtent(start=free.start, end=free.end) for free in table.free]
        volumes: dict[str, Volume] = {}
        whole: Volume | None = None
        pool.allocation = 0
        for part in table.partitions:
            volume = await in_thread(lambda check, part=part: _volume(pool, part))  # type: ignore[misc]
            try:
                await self.update(pool, volume)
            except GuesthouseError as error:
                _log.warning("%s of the disk %s is left out: %s", volume.name, _device(pool), error)
                continue
            volumes[volume.name or ""] = volume
            if part.kind == "extended":
                whole, volume.capacity, volume.allocation = volume, part.end - part.start, 0
                continue
            pool.allocation += volume.allocation or 0
            if part.kind == "logical" and whole is not None:
                whole.allocation = (whole.allocation or 0) + (volume.allocation or 0)
        pool.available = sum(free.end - free.start for free in table.free)
        ends = [part.end for part in table.partitions] + [free.end for free in table.free]
        pool.capacity = max(ends, default=0)
        return volumes

    async def update(self, pool: Pool, volume: Volume) -> None:
        # Linux shows a page or less of an extended partition
        capacity, allocation = volume.capacity, volume.allocation
        await super().update(pool, volume)
        if capacity is not None and (volume.physical or 0) <= 2 * _SECTOR < capacity:
            volume.capacity, volume.allocation = capacity, allocation

    async def find_sources(self, spec: str | None) -> str:
        raise no_discovery("disk")

    async def place(self, pool: Pool, volume: Volume) -> None:
        volume.type = "block"
        volume.target.path = volume.key = str(Path(_device(pool)).with_name(volume.name or ""))

    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None:
        """Make a partition in the smallest free space that fits. Raises InternalError where none does, InvalidArg
        where the name is not the one that it will have."""
        block.refuse_encryption(volume)
        table = await _read(pool)
        words = partition_words(table, volume.target.format_name)
        start, end = place(table, volume.capacity or 0)
        expected = _name(pool, table.next_number)
        if volume.name != expected:
            text = f"invalid partition name '{volume.name}', expected '{expected}'"
            raise InvalidArg(text, domain=Domain.STORAGE)
        await run("parted", _device(pool), "mkpart", "--script", words, f"{start}B", f"{end}B")
        try:
            await settle()
            await in_thread(lambda check: block.give(volume))
        except BaseException:
            await self.remove(pool, volume)
            raise

    async def remove(self, pool: Pool, volume: Volume) -> None:
        name = volume.name or ""
        number = name.removeprefix(_prefix(pool))
        if not name.startswith(_prefix(pool)) or not number.isdecimal():
            text = f"cannot parse partition number from target '{name}'"
            raise InternalError(text, domain=Domain.STORAGE)
        await run("parted", _device(pool), "rm", "--script", number)

    async def wipe(self, pool: Pool, volume: Volume, algorithm: int) -> None:
        if (volume.physical or 0) <= 2 * _SECTOR < (volume.capacity or 0):
            text = f"cannot wipe extended partition '{volume.path}'"
            raise NoSupport(text, domain=Domain.STORAGE)
        await super().wipe(pool, volume, algorithm)


def _source(pool: Pool) -> SourceDevice:
    assert pool.source is not None
    return pool.source.devices[0]


def _device(pool: Pool) -> str:
    return _source(pool).path or ""


def _format(pool: Pool) -> str:
    """The kind of table; a pool that leaves it open has "dos" from now on."""
    assert pool.source is not None
    pool.source.format = pool.source.format or SourceFormat()
    if pool.source.format.type in (None, "unknown"):
        pool.source.format.type = "dos"
    return pool.source.format.type or "dos"


def _prefix(pool: Pool) -> str:
    """What the names of partitions begin with: Linux sets a "p" apart from a digit, and device mapper's names have
    one as well unless the pool says no."""
    device = _device(pool)
    mapped = device.startswith("/dev/mapper/") and _source(pool).part_separator is not False
    return Path(device).name + ("p" if device[-1:].isdigit() or mapped else "")


def _name(pool: Pool, number: int) -> str:
    return f"{_prefix(pool)}{number}"


def _volume(pool: Pool, part: Partition) -> Volume:
    name = _name(pool, part.number)
    node = str(Path(_device(pool)).with_name(name))
    path = stable_path(pool.path, node)
    extent = ExtentDevice(path=_device(pool), extents=[Extent(start=part.start, end=part.end)])
    target = VolumeTarget(path=path, format=VolumeFormat(type="none"))
    return Volume(type="block", name=name, key=path, source=VolumeSource(devices=[extent]), target=target)


def stable_path(folder: str, node: str) -> str:
    """The link in the pool's folder that leads to ``node``; the node itself where there is none."""
    if not folder.startswith("/dev/"):
        return node
    try:
        for link in sorted(Path(folder).iterdir()):
            if os.path.realpath(link) == node:
                return str(link)
    except OSError:
        pass
    return node


async def _read(pool: Pool) -> Table:
    device = _device(pool)
    text = await output("parted", "-m", "-s", device, "unit", "chs", "print", "unit", "B", "print", "free")
    return parse_table(text, await in_thread(lambda check: _extended(device)))


def _extended(device: str) -> set[int]:
    """Which of the first four partitions of a table of type "dos" are extended ones; parted does not say."""
    try:
        with open(device, "rb") as file:
            sector = file.read(_SECTOR)
    except OSError as error:
        raise directory.system_failure(error, f"cannot open volume '{device}'") from None
    return {slot + 1 for slot in range(4) if sector[450 + 16 * slot : 451 + 16 * slot] in map(_byte, _EXTENDED_TYPES)}


def _byte(value: int) -> bytes:
    return bytes([value])


def parse_table(text: str, extended: set[int]) -> Table:
    """What parted prints for machines: with cylinders, heads and sectors first, then with bytes and free space.

    Raises InternalError for anything else.
    """
    try:
        shape, _, rest = text.partition("BYT;\n")
        cylinders, heads, sectors = (int(number) for number in shape.splitlines()[2].split(":")[:3])
        lines = rest.splitlines()
        label = lines[0].split(":")[5]
        cylinder = heads * sectors * _SECTOR
        table = Table(label, cylinder, cylinders * cylinder)
        for line in lines[1:]:
            number, start, end, _, *more = line.rstrip(";").split(":")
            first, behind = int(start.rstrip("B")), int(end.rstrip("B")) + 1
            if more[:1] == ["free"]:
                table.free.append(Free(first, behind))
            else:
                table.partitions.append(Partition(int(number), first, behind))
    except (ValueError, IndexError):
        raise InternalError(f"cannot read what parted prints: {text!r}", domain=Domain.STORAGE) from None
    if label == "msdos":
        _sort_out(table, extended)
    return table


def _sort_out(table: Table, extended: set[int]) -> None:
    for part in table.partitions:
        part.kind = "logical" if part.number > 4 else "extended" if part.number in extended else "primary"
    whole = table.extended
    for free in table.free:
        free.logical = whole is not None and whole.start <= free.start and free.end <= whole.end
        if not free.logical:  # what is behind the last whole cylinder cannot be had
            free.end = min(free.end, table.usable)
    table.free = [free for free in table.free if free.start < free.end]


def partition_words(table: Table, format_: str) -> str:
    """What parted shall make, for a partition that holds ``format_``. Raises InternalError where there can be none."""
    if table.label != "msdos":
        return "primary"
    system = _PARTED.get(format_, "ext2")
    if format_ == "extended":
        if table.extended is not None:
            raise InternalError("extended partition already exists", domain=Domain.STORAGE)
        return system
    if table.next_kind == "logical" and table.extended is None:
        text = "no extended partition found and no primary partition available"
        raise InternalError(text, domain=Domain.STORAGE)
    return f"{table.next_kind} {system}"


def place(table: Table, size: int) -> tuple[int, int]:
    """First and last byte of a new partition with room for ``size`` bytes. Raises InternalError where there is none.

    Where cylinders count, it is made longer to end with one.
    """
    logical = table.next_kind == "logical"
    by_cylinder = table.label == "msdos" and table.cylinder > 0
    needed = size + table.cylinder - size % table.cylinder if by_cylinder else size
    gap = _SECTOR if logical else 0  # for the table of the next logical partition
    fitting = [free for free in table.free if free.logical == logical and free.end - free.start - gap > needed]
    if not fitting:
        raise InternalError("no large enough free extent", domain=Domain.STORAGE)
    start = min(fitting, key=lambda free: free.end - free.start).start + gap
    end = start + needed
    if by_cylinder:
        end -= start % table.cylinder
    return start, end - 1
