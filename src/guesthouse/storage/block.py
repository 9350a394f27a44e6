"""Volumes that are block devices: what the pools of logical volumes and of partitions have in common."""

from __future__ import annotations

import contextlib
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, Domain, InternalError, NoStorageVol, NoSupport
from guesthouse.model.storage import Pool, Volume
from guesthouse.model.storage_rules import default_permissions
from guesthouse.storage import directory, images
from guesthouse.storage.work import in_thread


class BlockPool(ABC):
    """The half of :class:`guesthouse.storage.backend.Backend` that does not depend on who divides the storage."""

    entangled = True
    streams = True

    @abstractmethod
    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None: ...

    @abstractmethod
    async def remove(self, pool: Pool, volume: Volume) -> None: ...

    async def copy(self, pool: Pool, volume: Volume, source: Volume, *, preallocate: bool, reflink: bool) -> None:
        """The device is made, then filled; an image of another format becomes plain bytes."""
        await self.create(pool, volume, preallocate=preallocate)
        try:
            await images.fill(volume.path, source)
        except BaseException:
            await self.remove(pool, volume)
            raise

    async def update(self, pool: Pool, volume: Volume) -> None:
        await in_thread(lambda check: measure(volume))

    async def resize(self, pool: Pool, volume: Volume, capacity: int, *, take: bool) -> None:
        text = "storage pool does not support changing of volume capacity"
        raise NoSupport(text, domain=Domain.STORAGE)

    async def wipe(self, pool: Pool, volume: Volume, algorithm: int) -> None:
        await images.wipe(volume, algorithm)


def measure(volume: Volume) -> None:
    """Bring sizes, permissions and times up to date. Raises NoStorageVol where the device is gone, InternalError where
    it is none, SystemFailure."""
    path = volume.path
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoStorageVol(f"no storage vol with matching path '{path}'") from None
    except OSError as error:
        raise directory.system_failure(error, f"cannot open volume '{path}'") from None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISBLK(facts.st_mode):
            raise InternalError(f"unexpected storage mode for '{path}'", domain=Domain.STORAGE)
        directory.measure(volume, fd, facts)
    finally:
        os.close(fd)
    below = volume.backing_store
    if below is not None and below.path:
        with contextlib.suppress(OSError):
            fd = os.open(below.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                directory.describe(below, fd, os.fstat(fd))
            finally:
                os.close(fd)


def refuse_encryption(volume: Volume) -> None:
    if volume.target.encryption is not None:
        raise ConfigUnsupported("storage pool does not support encrypted volumes", domain=Domain.STORAGE)


def give(volume: Volume) -> None:
    """Give a new device the owner and mode that its document asks for. Raises SystemFailure, also where there is no
    device: an image file that is taken for a disk has none, nor has a /dev that nobody fills."""
    wanted, path = default_permissions(volume.target), volume.path
    try:
        Path(path).stat()
    except OSError as error:
        raise directory.system_failure(error, f"cannot find newly created volume '{path}'") from None
    try:
        if wanted.owner is not None or wanted.group is not None:
            os.chown(path, -1 if wanted.owner is None else wanted.owner, -1 if wanted.group is None else wanted.group)
        if wanted.mode is not None:
            Path(path).chmod(wanted.mode)
    except OSError as error:
        raise directory.system_failure(error, f"cannot set file owner or mode '{path}'") from None
