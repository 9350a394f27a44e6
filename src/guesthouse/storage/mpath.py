"""Pools of type "mpath": the devices with several paths that this host has. multipathd makes them, not the pool."""

from __future__ import annotations

import re
from pathlib import Path

from guesthouse.errors import Domain, GuesthouseError, InternalError
from guesthouse.model.storage import Pool, Volume, VolumeTarget
from guesthouse.storage.block import measure
from guesthouse.storage.fixed import FixedPool
from guesthouse.storage.probe import settle
from guesthouse.storage.work import ask, in_thread

_DMSETUP = "/sbin/dmsetup"


class Mpath(FixedPool):
    """See :class:`guesthouse.storage.backend.Backend`. A host has one such pool."""

    type = "mpath"
    programs: tuple[str, ...] = (_DMSETUP,)
    package = "dmsetup"

    async def started(self, pool: Pool) -> bool:
        return await in_thread(lambda check: Path("/dev/mapper").exists())

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        """A host whose kernel has no device mapper has none of them."""
        await settle()
        pool.capacity = pool.allocation = pool.available = 0
        code, text, _ = await ask(_DMSETUP, "ls", "--target", "multipath", "-o", "devno")
        volumes = {}
        for name, minor in maps_of(text) if code == 0 else ():
            path = f"/dev/mapper/{name}"
            volume = Volume(type="block", name=f"dm-{minor}", key=path, target=VolumeTarget(path=path))
            try:
                await in_thread(lambda check, volume=volume: measure(volume))  # type: ignore[misc]
            except GuesthouseError:
                continue
            volumes[volume.name or ""] = volume
            pool.capacity += volume.capacity or 0
            pool.allocation += volume.allocation or 0
        return volumes


def maps_of(text: str) -> list[tuple[str, int]]:
    """Names and minor numbers in what dmsetup prints. Raises InternalError for anything else."""
    found = []
    for line in text.splitlines():
        parts = re.fullmatch(r"(\S+)\s+\((\d+)[:,]\s*(\d+)\)", line.strip())
        if parts is not None:
            found.append((parts[1], int(parts[3])))
        elif line.strip() != "No devices found":
            raise InternalError(f"cannot read what dmsetup prints: {line!r}", domain=Domain.STORAGE)
    return found
