"""Pools whose volumes are there or not, whatever a pool does: the logical units of a SCSI host, an iSCSI target, paths."""

from __future__ import annotations

from guesthouse.errors import Domain, NoSupport
from guesthouse.model.storage import Pool, Volume
from guesthouse.storage import images
from guesthouse.storage.block import measure
from guesthouse.storage.folder import no_discovery
from guesthouse.storage.work import in_thread


class FixedPool:
    """The half of :class:`guesthouse.storage.backend.Backend` that says no."""

    type = ""
    entangled = False
    streams = True

    async def build(self, pool: Pool, flags: int) -> None:
        """There is nothing to make."""

    async def start(self, pool: Pool) -> None:
        pass

    async def started(self, pool: Pool) -> bool:
        return True

    async def stop(self, pool: Pool) -> None:
        pass

    async def delete(self, pool: Pool, flags: int) -> None:
        raise NoSupport("pool does not support pool deletion", domain=Domain.STORAGE)

    async def find_sources(self, spec: str | None) -> str:
        raise no_discovery(self.type)

    async def place(self, pool: Pool, volume: Volume) -> None:
        """There is no place; who makes it is told so."""

    async def create(self, pool: Pool, volume: Volume, *, preallocate: bool) -> None:
        raise NoSupport("storage pool does not support volume creation", domain=Domain.STORAGE)

    async def copy(self, pool: Pool, volume: Volume, source: Volume, *, preallocate: bool, reflink: bool) -> None:
        text = "storage pool does not support volume creation from an existing volume"
        raise NoSupport(text, domain=Domain.STORAGE)

    async def update(self, pool: Pool, volume: Volume) -> None:
        await in_thread(lambda check: measure(volume))

    async def remove(self, pool: Pool, volume: Volume) -> None:
        raise NoSupport("storage pool does not support vol deletion", domain=Domain.STORAGE)

    async def resize(self, pool: Pool, volume: Volume, capacity: int, *, take: bool) -> None:
        text = "storage pool does not support changing of volume capacity"
        raise NoSupport(text, domain=Domain.STORAGE)

    async def wipe(self, pool: Pool, volume: Volume, algorithm: int) -> None:
        await images.wipe(volume, algorithm)
