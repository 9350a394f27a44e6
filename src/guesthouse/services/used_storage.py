"""Whose storage a guest's disks would use, asked for clients who may define some guests alone: what another guest or
another's volume holds must not come to them as a disk of their own.

Files that are neither a volume of an active pool nor another guest's disk are nobody's here, as they are with libvirt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from guesthouse.model.devices.disk import Disk
from guesthouse.services.admission import Named, asked, named, use
from guesthouse.services.guests import KIND, Guests
from guesthouse.services.pools import Pools


def admit_disks(disks: Iterable[Disk], uuid: str, pools: Pools, guests: Guests) -> None:
    """Raises AccessDenied where who called may not give ``disks`` to the guest ``uuid``."""
    if not asked():
        return
    for disk in disks:
        writes = not disk.readonly and disk.device != "cdrom"
        for layer in disk.layers:
            source = layer.source
            if layer.kind == "volume":
                use(Named("storage_vol", source.volume or "", within=source.pool or ""), writes=writes)
            elif layer.path is not None:
                place = _Place(layer.path)
                for one in _owners(place, uuid, pools, guests):
                    use(one, writes=writes)
            writes = False


class _Place:
    """Where a path leads: two are the same by their names once links are followed, or by what lies there."""

    def __init__(self, path: str) -> None:
        self._real = os.path.realpath(path)
        try:
            found = Path(path).stat()
            self._inode = (found.st_dev, found.st_ino)
            self._device = found.st_rdev
        except OSError:
            self._inode, self._device = (0, 0), 0

    def same(self, other: str) -> bool:
        there = _Place(other)
        return (
            self._real == there._real
            or (self._inode != (0, 0) and self._inode == there._inode)
            or (self._device != 0 and self._device == there._device)
        )


def _owners(place: _Place, uuid: str, pools: Pools, guests: Guests) -> Iterator[Named]:
    """The volume at a place, and the other guests that have it as a disk."""
    for pool, volume in pools.all_volumes():
        if volume.path and place.same(volume.path):
            yield named(pool.volume_ref(volume))
    for guest in guests:
        if guest.uuid != uuid:
            disks = [disk for document in (guest.live, guest.definition) if document for disk in document.dev.disks]
            paths = {layer.path for disk in disks for layer in disk.layers if layer.path}
            if any(place.same(path) for path in paths):
                yield Named(KIND, guest.name, guest.uuid)
