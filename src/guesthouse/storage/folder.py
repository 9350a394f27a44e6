"""Pools of type "dir": a folder, its files as volumes."""

from __future__ import annotations

import contextlib

from guesthouse.errors import Domain, NoSupport, OperationInvalid
from guesthouse.model.storage import Pool, Volume
from guesthouse.storage import directory, images
from guesthouse.storage.backend import check_build_flags, check_flags
from guesthouse.storage.work import in_thread


class Folder:
    """See :class:`guesthouse.storage.backend.Backend`. The other types with a folder differ in how it comes to be."""

    type = "dir"
    programs: tuple[str, ...] = ()
    package = ""
    entangled = False
    streams = True

    async def build(self, pool: Pool, flags: int) -> None:
        """Make the folder; it has nothing that could be formatted."""
        check_build_flags(flags, "virStorageBackendFileSystemBuild")
        await in_thread(lambda check: directory.build(pool))
        if flags:
            await self.format(pool, flags)

    async def format(self, pool: Pool, flags: int) -> None:
        text = f"No source device specified when formatting pool '{pool.name}'"
        raise OperationInvalid(text, domain=Domain.STORAGE)

    async def start(self, pool: Pool) -> None:
        pass

    async def started(self, pool: Pool) -> bool:
        return True

    async def stop(self, pool: Pool) -> None:
        pass

    async def delete(self, pool: Pool, flags: int) -> None:
        """Remove the folder, which must be empty."""
        check_flags(flags, 0, "virStorageBackendDeleteLocal")
        await in_thread(lambda check: directory.delete(pool))

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        found = await in_thread(lambda check: directory.scan(pool.path, check))
        directory.take_scan(pool, found)
        return found.volumes

    async def find_sources(self, spec: str | None) -> str:
        raise no_discovery(self.type)

    async def place(self, pool: Pool, volume: Volume) -> None:
        """Raises OperationInvalid for a name that leads out of the pool, or where there is such a file."""
        if "/" in (volume.name or ""):
            raise OperationInvalid(f"volume name '{volume.name}' cannot contain '/'", domain=Domain.STORAGE)
        path = f"{pool.path}/{volume.name}"
        volume.type = "dir" if volume.target.format_name == "dir" else "file"
        volume.target.path = volume.key = path
        if await in_thread(lambda check: directory.exists(path)):
            raise OperationInvalid(f"volume target path '{path}' already exists", domain=Domain.STORAGE)

    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None:
        await images.create(volume, preallocate=preallocate)

    async def copy(self, pool: Pool, volume: Volume, source: Volume, *, preallocate: bool, reflink: bool) -> None:
        await images.create(volume, source=source, preallocate=preallocate, reflink=reflink)

    async def update(self, pool: Pool, volume: Volume) -> None:
        await in_thread(lambda check: directory.refresh(volume))

    async def remove(self, pool: Pool, volume: Volume) -> None:
        await in_thread(lambda check: images.delete(volume))

    async def resize(self, pool: Pool, volume: Volume, capacity: int, *, take: bool) -> None:
        await images.resize(volume, capacity, take=take)

    async def wipe(self, pool: Pool, volume: Volume, algorithm: int) -> None:
        """What its format was is forgotten."""
        await images.wipe(volume, algorithm)

        def look() -> Volume:
            with contextlib.suppress(OSError, directory.NotAVolume):
                return directory.find(volume.path, volume.name or "")
            return volume

        volume.__dict__.update((await in_thread(lambda check: look())).__dict__)


def no_discovery(type_: str) -> NoSupport:
    return NoSupport(f"pool type '{type_}' does not support source discovery", domain=Domain.STORAGE)
