"""The storage volumes of this host: libvirt's storage volume procedures over the pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from guesthouse.errors import (
    Domain,
    GuesthouseError,
    InternalError,
    InvalidArg,
    NoStorageVol,
    NoSupport,
    OperationFailed,
    StorageVolExist,
)
from guesthouse.model.storage import VOLUME_TYPES, Volume
from guesthouse.model.storage_rules import clean_path, parse_volume
from guesthouse.services.admission import Named, admit
from guesthouse.services.context import Context
from guesthouse.services.pools import PoolEntry, Pools, VolumeEntry, invalid
from guesthouse.services.refs import PoolRef, VolumeRef
from guesthouse.services.streams import Stream
from guesthouse.services.volume_streams import Download, Upload
from guesthouse.storage import images
from guesthouse.storage.backend import check_flags
from guesthouse.storage.work import in_thread

_CREATE_METADATA, _CREATE_REFLINK, _CREATE_VALIDATE = 1, 2, 4
_SPARSE = 1
_RESIZE_ALLOCATE, _RESIZE_DELTA, _RESIZE_SHRINK = 1, 2, 4
_GET_PHYSICAL = 1


class VolumeInfo(NamedTuple):
    """``type`` is libvirt's number (0 file, 1 block, 2 dir), the rest bytes."""

    type: int
    capacity: int
    allocation: int


class Volumes:
    """libvirt's storage volume procedures. All raise libvirt's errors.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, ctx: Context, pools: Pools) -> None:
        self._ctx = ctx
        self._pools = pools
        self._refreshes: set[asyncio.Task[None]] = set()

    # Finding and listing

    def _find(self, vol: VolumeRef) -> tuple[PoolEntry, VolumeEntry]:
        pool = self._pools.by_name(vol.pool)
        return pool, self._pools.volume(pool, vol.name)

    def _find_idle(self, vol: VolumeRef, *, in_use: bool = False) -> tuple[PoolEntry, VolumeEntry]:
        """The volume, which must be made and, unless ``in_use`` is fine, used by nobody. Raises OperationInvalid."""
        pool, entry = self._find(vol)
        if entry.in_use and not in_use:
            raise invalid(f"volume '{entry.volume.name}' is still in use.")
        _check_made(entry)
        return pool, entry

    def list_all(self, pool: PoolRef, flags: int = 0) -> list[VolumeRef]:
        check_flags(flags, 0, "storagePoolListAllVolumes")
        entry = self._pools.active(pool)
        return [entry.volume_ref(found.volume) for found in entry.volumes.values()]

    def lookup_by_name(self, pool: PoolRef, name: str) -> VolumeRef:
        entry = self._pools.active(pool)
        return entry.volume_ref(self._pools.volume(entry, name).volume)

    def lookup_by_key(self, key: str) -> VolumeRef:
        for entry, volume in self._pools.all_volumes():
            if volume.key == key:
                return entry.volume_ref(volume)
        raise NoStorageVol(f"no storage vol with matching key {key}")

    def lookup_by_path(self, path: str) -> VolumeRef:
        found = self._pools.volume_for_path(path)
        if found is None:
            wanted = clean_path(path)
            seen = f"'{path}'" if path == wanted else f"'{path}' ({wanted})"
            raise NoStorageVol(f"no storage vol with matching path {seen}")
        return found

    # Making

    async def create_xml(self, pool: PoolRef, xml: str, flags: int) -> VolumeRef:
        """Make an empty volume."""
        check_flags(flags, _CREATE_METADATA | _CREATE_VALIDATE, "storageVolCreateXML")
        entry = self._pools.active(pool)
        volume = parse_volume(xml, entry.pool.type, capacity="with-backing")
        admit(Named("storage_vol", volume.name or "", within=entry.name))
        if volume.name in entry.volumes:
            raise StorageVolExist(f"'{volume.name}'")
        if volume.allocation is None:
            volume.allocation = volume.capacity
        async with self._made(entry, volume) as wanted:
            await entry.backend.create(entry.pool, wanted, preallocate=bool(flags & _CREATE_METADATA))
        return entry.volume_ref(volume)

    async def create_xml_from(self, pool: PoolRef, xml: str, clonevol: VolumeRef, flags: int) -> VolumeRef:
        """Make a volume with the contents of another, at least as long as that."""
        check_flags(flags, _CREATE_METADATA | _CREATE_REFLINK | _CREATE_VALIDATE, "storageVolCreateXMLFrom")
        entry = self._pools.active(pool)
        source_pool, source = self._find(clonevol)
        volume = parse_volume(xml, entry.pool.type, capacity="optional")
        admit(Named("storage_vol", volume.name or "", within=entry.name))
        if volume.name in entry.volumes:
            text = f"storage volume name '{volume.name}' already in use."
            raise InternalError(text, domain=Domain.STORAGE)
        _check_made(source)
        with _used(source):
            await self._refresh(source_pool, source)
            volume.capacity = max(volume.capacity or 0, source.volume.capacity or 0)
            if volume.allocation is None:
                volume.allocation = volume.capacity
            source_pool.jobs += 1
            try:
                async with self._made(entry, volume) as wanted:
                    await entry.backend.copy(
                        entry.pool,
                        wanted,
                        source.volume,
                        preallocate=bool(flags & _CREATE_METADATA),
                        reflink=bool(flags & _CREATE_REFLINK),
                    )
            finally:
                source_pool.jobs -= 1
        return entry.volume_ref(volume)

    @asynccontextmanager
    async def _made(self, pool: PoolEntry, volume: Volume) -> AsyncIterator[Volume]:
        """Put ``volume`` into the pool for the time that the body needs to make its file; for good if that succeeds.

        Yields what is wanted, as the body must see it while clients' questions change the volume itself.
        """
        entry = VolumeEntry(volume, building=True)
        async with pool.lock:
            self._pools.require_active(pool)
            await pool.backend.place(pool.pool, volume)
            if volume.name in pool.volumes:
                raise StorageVolExist(f"'{volume.name}'")
            pool.volumes[volume.name or ""] = entry
            pool.jobs += 1
        try:
            async with pool.turn():
                yield volume.copy()
                if pool.backend.entangled and volume.name not in await self._pools.recount(pool):
                    raise NoStorageVol(f"no storage vol with matching name '{volume.name}'")
            if not pool.backend.entangled:
                await self._refresh(pool, entry)
        except BaseException:
            pool.volumes.pop(volume.name or "", None)
            raise
        finally:
            entry.building = False
            pool.jobs -= 1
        if not pool.backend.entangled:
            pool.take(volume.allocation or 0)

    # Changing

    async def delete(self, vol: VolumeRef, flags: int) -> None:
        self._find_idle(vol)
        check_flags(flags, 0, "virStorageBackendVolDeleteLocal")
        found = self._pools.by_name(vol.pool)
        async with found.turn(), found.lock:
            pool, entry = self._find_idle(vol)  # the pool may have been read anew meanwhile
            with _used(entry):
                await pool.backend.remove(pool.pool, entry.volume)
            del pool.volumes[vol.name]
            pool.take(-(entry.volume.allocation or 0))
        if pool.backend.entangled:
            await self._pools.recount(pool)

    async def resize(self, vol: VolumeRef, capacity: int, flags: int) -> None:
        """Make a volume ``capacity`` bytes long, or longer or shorter by that with the flag for it."""
        check_flags(flags, _RESIZE_ALLOCATE | _RESIZE_DELTA | _RESIZE_SHRINK, "storageVolResize")
        pool, entry = self._find_idle(vol)
        volume = entry.volume
        now, allocation = volume.capacity or 0, volume.allocation or 0
        if flags & _RESIZE_DELTA:
            capacity = now - min(capacity, now) if flags & _RESIZE_SHRINK else now + capacity
        if capacity < allocation:
            raise InvalidArg("can't shrink capacity below existing allocation", domain=Domain.STORAGE)
        if capacity < now and not flags & _RESIZE_SHRINK:
            text = "Can't shrink capacity below current capacity unless shrink flag explicitly specified"
            raise InvalidArg(text, domain=Domain.STORAGE)
        take = bool(flags & _RESIZE_ALLOCATE)
        if take and capacity - allocation > (pool.pool.available or 0):
            raise OperationFailed("Not enough space left in storage pool", domain=Domain.STORAGE)
        with _job(pool), _used(entry):
            await pool.backend.resize(pool.pool, volume, capacity, take=take)
        volume.capacity = capacity
        if take:
            volume.allocation = capacity
            pool.take(capacity - allocation)

    async def wipe(self, vol: VolumeRef, flags: int) -> None:
        await self.wipe_pattern(vol=vol, algorithm=0, flags=flags)

    async def wipe_pattern(self, vol: VolumeRef, algorithm: int, flags: int) -> None:
        """Overwrite a volume. What its format was is not to be seen afterwards."""
        check_flags(flags, 0, "storageVolWipePattern")
        if algorithm >= len(images.WIPE_ALGORITHMS):
            raise InvalidArg(f"wiping algorithm {algorithm} not supported", domain=Domain.STORAGE)
        pool, entry = self._find_idle(vol)
        with _job(pool), _used(entry):
            await pool.backend.wipe(pool.pool, entry.volume, algorithm)

    # Contents

    async def upload(self, vol: VolumeRef, offset: int, length: int, flags: int) -> Stream:
        """A stream that writes into the volume from ``offset`` on, at most ``length`` bytes (0 for any number)."""
        check_flags(flags, _SPARSE, "storageVolUpload")
        pool, entry = self._find_idle(vol)
        if not pool.backend.streams:
            raise NoSupport("storage pool doesn't support volume upload", domain=Domain.STORAGE)
        stream = await in_thread(lambda check: Upload(entry.volume.path, offset, length))
        entry.in_use += 1

        def closed() -> None:
            entry.in_use -= 1
            task = asyncio.ensure_future(self._after_upload(pool))
            self._refreshes.add(task)
            task.add_done_callback(self._refreshes.discard)

        stream.on_close = closed
        return stream

    async def _after_upload(self, pool: PoolEntry) -> None:
        if pool.active and not pool.jobs:
            try:
                await self._pools.reread(pool)
            except GuesthouseError:
                pass  # the pool told of it

    async def download(self, vol: VolumeRef, offset: int, length: int, flags: int) -> Stream:
        """A stream of the volume's bytes from ``offset`` on, ``length`` of them (0 for all)."""
        check_flags(flags, _SPARSE, "storageVolDownload")
        pool, entry = self._find_idle(vol, in_use=True)
        if not pool.backend.streams:
            raise NoSupport("storage pool doesn't support volume download", domain=Domain.STORAGE)
        path, sparse = entry.volume.path, bool(flags & _SPARSE)
        return await in_thread(lambda check: Download(path, offset, length, sparse=sparse))

    # Asking

    @staticmethod
    async def _refresh(pool: PoolEntry, entry: VolumeEntry) -> None:
        """Bring the volume up to date. Raises NoStorageVol where it is gone."""
        fresh = entry.volume.copy()
        await pool.backend.update(pool.pool, fresh)
        entry.volume.__dict__.update(fresh.__dict__)

    async def get_info(self, vol: VolumeRef) -> VolumeInfo:
        return await self.get_info_flags(vol=vol, flags=0)

    async def get_info_flags(self, vol: VolumeRef, flags: int) -> VolumeInfo:
        check_flags(flags, _GET_PHYSICAL, "storageVolGetInfoFlags")
        pool, entry = self._find(vol)
        if not entry.building:
            await self._refresh(pool, entry)
        volume = entry.volume
        taken = volume.physical if flags & _GET_PHYSICAL else volume.allocation
        return VolumeInfo(VOLUME_TYPES.index(volume.type), volume.capacity or 0, taken or 0)

    async def get_xml_desc(self, vol: VolumeRef, flags: int) -> str:
        check_flags(flags, 0, "storageVolGetXMLDesc")
        pool, entry = self._find(vol)
        if not entry.building:
            await self._refresh(pool, entry)
        return entry.volume.to_xml()

    def get_path(self, vol: VolumeRef) -> str:
        return self._find(vol)[1].volume.path


def _check_made(entry: VolumeEntry) -> None:
    if entry.building:
        raise invalid(f"volume '{entry.volume.name}' is still being allocated.")


@contextmanager
def _used(entry: VolumeEntry) -> Iterator[None]:
    entry.in_use += 1
    try:
        yield
    finally:
        entry.in_use -= 1


@contextmanager
def _job(pool: PoolEntry) -> Iterator[None]:
    pool.jobs += 1
    try:
        yield
    finally:
        pool.jobs -= 1
