"""Pools of type "logical": an LVM volume group, its logical volumes. LVM's own programs do the work.

A volume is a block device of fixed size, or, with less allocation than capacity or with a backing volume, a snapshot.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from typing import Any

from guesthouse.errors import ConfigUnsupported, Domain, GuesthouseError, InternalError, OperationInvalid
from guesthouse.model.storage import (
    Extent,
    ExtentDevice,
    Pool,
    PoolSource,
    SourceDevice,
    SourceFormat,
    Sources,
    Volume,
    VolumeSource,
    VolumeTarget,
)
from guesthouse.storage import block, directory
from guesthouse.storage.backend import BUILD_OVERWRITE, check_build_flags, check_flags
from guesthouse.storage.block import BlockPool
from guesthouse.storage.probe import check_empty, clear_ends, settle
from guesthouse.storage.work import in_thread, output, run

_log = logging.getLogger(__name__)
_FIELDS = "lv_name,origin,lv_uuid,devices,segtype,stripes,seg_size,vg_extent_size,lv_size,lv_attr"
_JSON = ("--reportformat", "json")
_BYTES = ("--units", "b", "--nosuffix")
_STRIPED = ("striped", "mirror", "raid")

Row = dict[str, str]


class Logical(BlockPool):
    """See :class:`guesthouse.storage.backend.Backend`."""

    programs: tuple[str, ...] = ("/sbin/vgcreate", "/sbin/lvs")
    package = "lvm2"

    async def build(self, pool: Pool, flags: int) -> None:
        """Make the volume group on the pool's devices. Without the flag for it none may have anything on it."""
        check_build_flags(flags, "virStorageBackendLogicalBuildPool")
        devices = _devices(pool)
        made = []
        try:
            for device in devices:
                if flags & BUILD_OVERWRITE:
                    await in_thread(lambda check, device=device: clear_ends(device))  # type: ignore[misc]
                else:
                    await check_empty(device, "LVM2_member")
                await run("/sbin/pvcreate", device)
                made.append(device)
            await run("/sbin/vgcreate", _group(pool), *devices)
        except BaseException:
            for device in made:
                await _forget(device)
            raise

    async def start(self, pool: Pool) -> None:
        """Raises ConfigUnsupported where there is no such group, or it is on none of the devices."""
        found = next((source for source in (await _sources()).sources if source.name == _group(pool)), None)
        if found is None:
            text = f"cannot find logical volume group name '{_group(pool)}'"
            raise ConfigUnsupported(text, domain=Domain.STORAGE)
        wanted, present = set(_devices(pool)), {device.path for device in found.devices}
        if wanted and not wanted & present:
            text = f"cannot find any matching source devices for logical volume group '{_group(pool)}'"
            raise ConfigUnsupported(text, domain=Domain.STORAGE)
        await run("/sbin/vgchange", "-aly", _group(pool))

    async def started(self, pool: Pool) -> bool:
        return any(source.name == _group(pool) for source in (await _sources()).sources)

    async def stop(self, pool: Pool) -> None:
        await run("/sbin/vgchange", "-aln", _group(pool))

    async def delete(self, pool: Pool, flags: int) -> None:
        """Remove the group, and the labels of its devices. What was in its volumes is lost."""
        check_flags(flags, 0, "virStorageBackendLogicalDeletePool")
        await run("/sbin/vgremove", "-f", _group(pool))
        for device in _devices(pool):
            await _forget(device)

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        await settle()
        rows = await _report("lv", "/sbin/lvs", *_BYTES, "--options", _FIELDS, _group(pool))
        volumes = {}
        for name, volume in volumes_of(rows, pool.path).items():
            allocation = volume.allocation
            try:
                await self.update(pool, volume)
            except GuesthouseError as error:
                _log.warning("%s in the volume group %s is left out: %s", name, _group(pool), error)
                continue
            volume.allocation = allocation
            volumes[name] = volume
        group = (await _report("vg", "/sbin/vgs", *_BYTES, "--options", "vg_size,vg_free", _group(pool)))[0]
        pool.capacity, pool.available = int(group["vg_size"]), int(group["vg_free"])
        pool.allocation = pool.capacity - pool.available
        return volumes

    async def find_sources(self, spec: str | None) -> str:
        """All volume groups of the host, and the devices that they are on."""
        with contextlib.suppress(InternalError):
            await run("/sbin/vgscan")
        return (await _sources()).to_xml()

    async def place(self, pool: Pool, volume: Volume) -> None:
        volume.type = "block"
        volume.target.path, volume.key = f"{pool.path}/{volume.name}", None
        path = volume.path
        if await in_thread(lambda check: directory.exists(path)):
            raise OperationInvalid(f"volume target path '{path}' already exists", domain=Domain.STORAGE)

    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None:
        block.refuse_encryption(volume)
        await run("/sbin/lvcreate", *create_words(_group(pool), volume))
        try:
            await settle()
            await in_thread(lambda check: block.give(volume))
        except BaseException:
            await self.remove(pool, volume)
            raise

    async def remove(self, pool: Pool, volume: Volume) -> None:
        await run("/sbin/lvremove", "-f", volume.path)


def create_words(group: str, volume: Volume) -> list[str]:
    """What lvcreate is told: sizes are whole KiB, and LVM makes whole extents of them."""
    capacity, allocation = volume.capacity or 0, volume.allocation or 0
    words = ["--name", volume.name or "", "-L"]
    if volume.backing_store is not None:
        words += [_kib(capacity), "-s", volume.backing_store.path or ""]
    elif allocation < capacity:
        words += [_kib(allocation or 1024), "--type", "snapshot", "--virtualsize", _kib(capacity), group]
    else:
        words += [_kib(capacity), group]
    return [*words, "--yes"]


def _kib(size: int) -> str:
    return f"{-(-size // 1024)}K"


def volumes_of(rows: list[Row], folder: str) -> dict[str, Volume]:
    """The active volumes that lvs names: a row a segment. Thin pools and what LVM keeps for itself are none.

    Raises InternalError for what lvs should not say.
    """
    volumes: dict[str, Volume] = {}
    for row in rows:
        name, attributes = row["lv_name"], row["lv_attr"]
        if attributes[0] == "t" or attributes[4:5] != "a" or name.startswith("["):
            continue
        volume = volumes.get(name)
        if volume is None:
            path = f"{folder}/{name}"
            volume = Volume(type="block", name=name, key=row["lv_uuid"], target=VolumeTarget(path=path))
            volume.allocation = volume.capacity = int(row["lv_size"])
            volume.source = VolumeSource()
            origin = row["origin"]
            if origin and not origin.startswith("["):
                volume.backing_store = VolumeTarget(path=f"{folder}/{origin}")
            volumes[name] = volume
        assert volume.source is not None
        volume.source.devices += _extents(row)
    return volumes


def _extents(row: Row) -> list[ExtentDevice]:
    places = re.findall(r"([^,]+)\((\d+)\)", row["devices"])
    size = int(row["vg_extent_size"])
    length = int(row["seg_size"])
    if row["segtype"].startswith(_STRIPED) and int(row["stripes"]) > 1:
        length //= int(row["stripes"])
    starts = [(path, int(number) * size) for path, number in places]
    return [ExtentDevice(path=path, extents=[Extent(start=at, end=at + length)]) for path, at in starts]


async def _report(section: str, program: str, *args: str) -> list[Row]:
    return parse_report(await output(program, *_JSON, *args), section)


def parse_report(text: str, section: str) -> list[Row]:
    """The rows of a report in JSON. Raises InternalError where it is none."""
    try:
        reports: list[dict[str, Any]] = json.loads(text)["report"]
        return [row for report in reports for row in report.get(section, [])]
    except (ValueError, KeyError, TypeError) as error:
        raise InternalError(f"cannot read what LVM reports: {error!r}", domain=Domain.STORAGE) from None


async def _sources() -> Sources:
    return sources_of(await _report("pv", "/sbin/pvs", "--options", "pv_name,vg_name"))


def sources_of(rows: list[Row]) -> Sources:
    """The volume groups that pvs names: a row a device."""
    groups: dict[str, PoolSource] = {}
    for row in rows:
        name = row["vg_name"]
        if name:
            group = groups.setdefault(name, PoolSource(name=name, format=SourceFormat(type="lvm2")))
            group.devices.append(SourceDevice(path=row["pv_name"]))
    return Sources(sources=list(groups.values()))


async def _forget(device: str) -> None:
    with contextlib.suppress(InternalError):
        await run("/sbin/pvremove", device)


def _group(pool: Pool) -> str:
    return (pool.source and pool.source.name) or ""


def _devices(pool: Pool) -> list[str]:
    return [device.path or "" for device in pool.source.devices] if pool.source else []
