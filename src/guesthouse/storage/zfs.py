"""Pools of type "zfs": a ZFS pool or one of its file systems, its volumes. ZFS' own programs do the work."""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, Domain, InternalError, NoStorageVol
from guesthouse.model.storage import Pool, Volume, VolumeTarget
from guesthouse.storage import block, directory
from guesthouse.storage.backend import check_flags
from guesthouse.storage.block import BlockPool
from guesthouse.storage.folder import no_discovery
from guesthouse.storage.work import in_thread, output, run

_ZFS, _ZPOOL = "/sbin/zfs", "/sbin/zpool"


class Zfs(BlockPool):
    """See :class:`guesthouse.storage.backend.Backend`. ``<source><name>`` is "tank", or "tank/guests"."""

    programs: tuple[str, ...] = (_ZFS, _ZPOOL)
    package = "zfsutils-linux"

    async def build(self, pool: Pool, flags: int) -> None:
        """Make the ZFS pool on the source's devices, or the file system in one that is there."""
        check_flags(flags, 0, "virStorageBackendZFSBuildPool")
        if "/" in _name(pool):
            await run(_ZFS, "create", "-o", "mountpoint=none", _name(pool))
            return
        devices = [device.path or "" for device in pool.source.devices] if pool.source else []
        if not devices:
            raise ConfigUnsupported("missing source devices", domain=Domain.STORAGE)
        await run(_ZPOOL, "create", _name(pool), *devices)

    async def start(self, pool: Pool) -> None:
        pass

    async def started(self, pool: Pool) -> bool:
        return await in_thread(lambda check: directory.exists(f"/dev/zvol/{_name(pool)}"))

    async def stop(self, pool: Pool) -> None:
        pass

    async def delete(self, pool: Pool, flags: int) -> None:
        check_flags(flags, 0, "virStorageBackendZFSDeletePool")
        if "/" in _name(pool):
            await run(_ZFS, "destroy", "-r", _name(pool))
        else:
            await run(_ZPOOL, "destroy", _name(pool))

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        whole = _name(pool).partition("/")[0]
        facts = facts_of(await output(_ZPOOL, "get", "-Hp", "health,size,free,allocated", whole))
        pool.capacity, pool.available = facts.get("size", 0), facts.get("free", 0)
        pool.allocation = facts.get("allocated", 0)
        return await self._volumes(pool)

    async def _volumes(self, pool: Pool) -> dict[str, Volume]:
        columns = "name,volsize,refreservation"
        text = await output(_ZFS, "list", "-Hp", "-t", "volume", "-r", "-o", columns, _name(pool))
        return volumes_of(text, pool.path)

    async def find_sources(self, spec: str | None) -> str:
        raise no_discovery("zfs")

    async def place(self, pool: Pool, volume: Volume) -> None:
        volume.type = "block"
        volume.target.path = f"{pool.path}/{volume.name}"
        volume.key = f"{_name(pool)}/{volume.name}"

    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None:
        block.refuse_encryption(volume)
        await run(_ZFS, *create_words(_name(pool), volume))

    async def update(self, pool: Pool, volume: Volume) -> None:
        """Raises NoStorageVol where ZFS knows it no more."""
        found = (await self._volumes(pool)).get(volume.name or "")
        if found is None:
            raise NoStorageVol(f"no storage vol with matching name '{volume.name}'")
        volume.capacity, volume.allocation = found.capacity, found.allocation

    async def remove(self, pool: Pool, volume: Volume) -> None:
        await run(_ZFS, "destroy", f"{_name(pool)}/{volume.name}")


def create_words(pool: str, volume: Volume) -> list[str]:
    """What zfs is told: with less allocation than capacity the volume is sparse, and that much is reserved."""
    words = ["create"]
    if volume.capacity != volume.allocation:
        words.append("-s")
        if volume.allocation:
            words += ["-o", f"refreservation={-(-volume.allocation // 1024)}K"]
    return [*words, "-V", f"{-(-(volume.capacity or 0) // 1024)}K", f"{pool}/{volume.name}"]


def facts_of(text: str) -> dict[str, int]:
    """The numbers among the properties that zpool prints: pool, property, value and source a line."""
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[1]: int(row[2]) for row in rows if len(row) == 4 and row[2].isdecimal()}


def volumes_of(text: str, folder: str) -> dict[str, Volume]:
    """The volumes that zfs prints: name, size and reservation a line. Raises InternalError."""
    volumes = {}
    for line in text.splitlines():
        name, size, reserved = (*line.split("\t"), "", "")[:3]
        if not size.isdecimal():
            raise InternalError("malformed volsize reported", domain=Domain.STORAGE)
        if not reserved.isdecimal():
            raise InternalError("malformed refreservation reported", domain=Domain.STORAGE)
        short = name.rpartition("/")[2]
        volume = Volume(type="block", name=short, key=name, target=VolumeTarget(path=f"{folder}/{short}"))
        volume.capacity, volume.allocation = int(size), int(reserved)
        volumes[short] = volume
    return volumes


def _name(pool: Pool) -> str:
    return (pool.source and pool.source.name) or ""
