"""Guests' disks that name a pool and a volume: where their data are, found when the guest starts.

The live document keeps pool and volume, as libvirt shows them; the path is beside it and in the guest's runtime row, for
a daemon that comes later.
"""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.disk import DiskDriver, DiskSource
from guesthouse.model.domain import Domain
from guesthouse.services.pools import Pools

#: Of each disk with a volume, by its target: "file" or "block", and the path.
Places = dict[str, list[str]]


def find(live: Domain, pools: Pools) -> Places:
    """Tell each disk of type "volume" where its volume is. Raises NoStoragePool, NoStorageVol; ConfigUnsupported where
    the pool is not active, or the volume is no disk."""
    places: Places = {}
    for disk in reversed(live.dev.disks):  # as libvirt looks, so that the same one is told of first
        source = disk.source
        if disk.type != "volume" or source is None or source.pool is None or source.volume is None:
            continue
        volume = pools.resolve(source.pool, source.volume)
        if volume.type not in ("file", "block"):
            text = f"volume '{source.volume}' of the pool '{source.pool}' is of the type '{volume.type}', and no disk"
            raise ConfigUnsupported(text)
        places[disk.dev] = [volume.type, volume.path]
        disk.driver = disk.driver or DiskDriver(name="qemu")
        disk.driver.type = disk.driver.type or "raw"
    put(live, places)
    return places


def put(live: Domain, places: Places) -> None:
    """Tell the disks what :func:`find` found for them."""
    for disk in live.dev.disks:
        kind, path = places.get(disk.dev, (None, None))
        if disk.type == "volume" and kind is not None and path is not None:
            disk.place(kind, DiskSource(file=path) if kind == "file" else DiskSource(dev=path))
