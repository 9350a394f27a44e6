"""Pools of type "fs": the file system of a block device (or of an image file), mounted at the pool's folder."""

from __future__ import annotations

from guesthouse.errors import Domain, InternalError, OperationInvalid
from guesthouse.model.storage import Pool, Volume
from guesthouse.storage import directory, mounts
from guesthouse.storage.backend import BUILD_NO_OVERWRITE
from guesthouse.storage.folder import Folder
from guesthouse.storage.probe import check_empty
from guesthouse.storage.work import in_thread, run


class FileSystem(Folder):
    """See :class:`guesthouse.storage.backend.Backend`."""

    type = "fs"
    programs: tuple[str, ...] = ("/bin/mount", "/bin/umount")
    package = "mount"

    def mount_words(self, pool: Pool) -> tuple[str, ...]:
        """mount's type ("" for none), source and target, and options beyond those of all pools."""
        assert pool.source is not None
        if len(pool.source.devices) != 1:
            raise InternalError("missing source device", domain=Domain.STORAGE)
        return _format(pool), pool.source.devices[0].path or "", pool.path

    async def format(self, pool: Pool, flags: int) -> None:
        """Make a file system; with "no overwrite" where there is nothing alone. Raises StoragePoolBuilt where there
        is, OperationInvalid where there is no device."""
        devices = pool.source.devices if pool.source else []
        if not devices:
            await super().format(pool, flags)
        device, type_ = devices[0].path or "", _format(pool)
        if not await in_thread(lambda check: directory.exists(device)):
            text = f"Source device does not exist when formatting pool '{pool.name}'"
            raise OperationInvalid(text, domain=Domain.STORAGE)
        if flags & BUILD_NO_OVERWRITE:
            await check_empty(device, type_)
        force = ["-f"] if type_ == "xfs" else []  # else it refuses where there was one
        await run("/sbin/mkfs", "-t", type_, *force, device)

    async def start(self, pool: Pool) -> None:
        if await self.started(pool):
            return
        await mounts.mount(*self.mount_words(pool))

    async def started(self, pool: Pool) -> bool:
        return await mounts.is_mounted(pool.path)

    async def stop(self, pool: Pool) -> None:
        if await self.started(pool):
            await mounts.unmount(pool.path)

    async def place(self, pool: Pool, volume: Volume) -> None:
        """A file system that went away must not be taken for the folder under it."""
        if not await self.started(pool):
            text = f"storage pool '{pool.name}' is not mounted at '{pool.path}' any more; stop and start it"
            raise OperationInvalid(text, domain=Domain.STORAGE)
        await super().place(pool, volume)


def _format(pool: Pool) -> str:
    return (pool.source and pool.source.format and pool.source.format.type) or "auto"
