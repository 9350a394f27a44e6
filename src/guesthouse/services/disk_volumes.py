"""Guests' disks that name a pool and a volume: where their data are, found when the guest starts.

The live document keeps pool and volume, as libvirt shows them; the path is beside it and in the guest's runtime row, for
a daemon that comes later.
"""

from __future__ import annotations

from guesthouse.errors import ConfigUnsupported, XMLError
from guesthouse.model.devices.disk import DiskDriver, DiskSource
from guesthouse.model.devices.disk_source import Auth, SourceHost, SourceSecret
from guesthouse.model.domain import Domain
from guesthouse.model.storage import Pool, Volume
from guesthouse.services.pools import Pools

#: Of each disk with a volume, by its target: the type of the source, and the source as XML.
Places = dict[str, list[str]]

# whose volumes libvirt gives to no guest by the pool's name
_NO_DISKS = ("mpath", "rbd")


def find(live: Domain, pools: Pools) -> Places:
    """Tell each disk of type "volume" where its volume is. Raises NoStoragePool, NoStorageVol; ConfigUnsupported where
    the pool is not active, or the volume is no disk; XMLError for a mode that the pool does not have."""
    places: Places = {}
    for disk in reversed(live.dev.disks):  # as libvirt looks, so that the same one is told of first
        source = disk.source
        if disk.type != "volume" or source is None or source.pool is None or source.volume is None:
            continue
        volume = pools.resolve(source.pool, source.volume)
        pool = pools.by_name(source.pool).pool
        if source.mode is not None and pool.type not in ("iscsi", "iscsi-direct"):
            raise XMLError("disk source mode is only valid when storage pool is of iscsi type")
        if pool.type in _NO_DISKS:
            raise ConfigUnsupported(f"using '{pool.type}' pools for backing 'volume' disks isn't yet supported")
        if pool.type == "iscsi-direct" and source.mode == "host":
            raise ConfigUnsupported("only direct iscsi volumes can be used by this pool")
        if source.mode == "direct" or pool.type == "iscsi-direct":
            kind, place = "network", _direct(pool, volume)
        elif volume.type == "file":
            kind, place = "file", DiskSource(file=volume.path)
        elif volume.type == "block":
            kind, place = "block", DiskSource(dev=volume.path)
        elif volume.type == "dir":
            kind, place = "dir", DiskSource(dir=volume.path)
        else:
            text = f"volume '{source.volume}' of the pool '{source.pool}' is of the type '{volume.type}', and no disk"
            raise ConfigUnsupported(text)
        places[disk.dev] = [kind, place.to_xml(secrets=True)]
        disk.driver = disk.driver or DiskDriver(name="qemu")
        disk.driver.type = disk.driver.type or ("fat" if kind == "dir" else "raw")
    put(live, places)
    return places


def _direct(pool: Pool, volume: Volume) -> DiskSource:
    """The LUN of an iSCSI pool, opened by QEMU itself."""
    source = pool.source
    number = (volume.name or "").rpartition(":")[2].removeprefix("unit:")
    if source is None or not source.hosts or not source.devices or not number.isdecimal():
        raise ConfigUnsupported(f"volume '{volume.name}' of the pool '{pool.name}' cannot be opened directly")
    host = source.hosts[0]
    place = DiskSource(protocol="iscsi", name=f"{source.devices[0].path}/{number}")
    place.hosts.append(SourceHost(name=host.name, port=str(host.port or 3260)))
    if source.auth is not None and source.auth.secret is not None:
        secret = source.auth.secret
        place.auth = Auth(username=source.auth.username)
        place.auth.secret = SourceSecret(type="iscsi", usage=secret.usage, uuid=secret.uuid)
    return place


def put(live: Domain, places: Places) -> None:
    """Tell the disks what :func:`find` found for them."""
    for disk in live.dev.disks:
        kind, place = places.get(disk.dev, (None, None))
        if disk.type == "volume" and kind is not None and place is not None:
            disk.place(kind, DiskSource.from_xml(place))
