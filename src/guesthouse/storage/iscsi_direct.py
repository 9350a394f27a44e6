"""Pools of type "iscsi-direct": an iSCSI target's logical units, which this host's kernel never sees.

A guest's QEMU opens a volume by itself; clients cannot read or write it through the pool.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from guesthouse.errors import ConfigUnsupported, Domain, InternalError, InvalidArg, XMLError
from guesthouse.model.storage import (
    Initiator,
    Pool,
    PoolSource,
    SourceDevice,
    SourceHost,
    Sources,
    Volume,
    VolumeTarget,
)
from guesthouse.storage.backend import Key, no_key
from guesthouse.storage.fixed import FixedPool
from guesthouse.storage.iscsi_session import Session, session

PORT = 3260
_UNIT = "unit:0:0:"


class IscsiDirect(FixedPool):
    """See :class:`guesthouse.storage.backend.Backend`."""

    programs: tuple[str, ...] = ()
    package = ""
    streams = False

    def __init__(self, key: Key = no_key) -> None:
        self._key = key

    async def refresh(self, pool: Pool) -> dict[str, Volume]:
        """Raises InternalError where the target does not let us in."""
        portal, target = _portal(pool), _target(pool)
        async with self._session(pool) as told:
            units = await told.luns()
        volumes = {}
        for unit in units:
            path = f"ip-{portal}-iscsi-{target}-lun-{unit.number}"
            volume = Volume(type="network", name=f"{_UNIT}{unit.number}", key=path, target=VolumeTarget(path=path))
            volume.capacity = volume.allocation = unit.size
            volumes[volume.name or ""] = volume
        pool.capacity = pool.allocation = sum(unit.size for unit in units)
        pool.available = 0
        return volumes

    async def find_sources(self, spec: str | None) -> str:
        """The targets of the host that ``spec`` names, which must name us as well. Raises InvalidArg or
        ConfigUnsupported where it does not, InternalError where it does not answer."""
        wanted = wanted_source(spec)
        initiator = wanted.initiator.iqn.name if wanted.initiator and wanted.initiator.iqn else None
        if not initiator:
            raise ConfigUnsupported("missing initiator IQN", domain=Domain.STORAGE)
        host = wanted.hosts[0]
        async with session(host.name or "", host.port or PORT, initiator, None) as told:
            targets = await told.targets()
        return sources_of(targets, host, wanted.initiator).to_xml()

    async def update(self, pool: Pool, volume: Volume) -> None:
        """What the last refresh found counts: to ask costs a login."""

    async def wipe(self, pool: Pool, volume: Volume, algorithm: int) -> None:
        number = (volume.name or "").removeprefix(_UNIT)
        if not number.isdecimal():
            raise InternalError(f"Invalid volume name {volume.name}", domain=Domain.STORAGE)
        if algorithm:
            raise InvalidArg(f"unsupported algorithm {algorithm}", domain=Domain.STORAGE)
        async with self._session(pool) as told:
            await told.clear(int(number))

    def _session(self, pool: Pool) -> AbstractAsyncContextManager[Session]:
        source = need_one_host(pool.source)
        auth, host = source.auth, source.hosts[0]
        user, password = "", b""
        if auth is not None:
            if auth.type != "chap":
                raise XMLError("iscsi-direct pool only supports 'chap' auth type", domain=Domain.STORAGE)
            user, password = auth.username or "", self._key(auth)
        initiator = (source.initiator and source.initiator.iqn and source.initiator.iqn.name) or ""
        return session(host.name or "", host.port or PORT, initiator, _target(pool), user=user, password=password)


def need_one_host(source: PoolSource | None) -> PoolSource:
    """Raises ConfigUnsupported unless the source has one host."""
    if source is None or len(source.hosts) != 1:
        raise ConfigUnsupported("Expected exactly 1 host for the storage pool", domain=Domain.STORAGE)
    return source


def wanted_source(spec: str | None) -> PoolSource:
    """The ``<source>`` that says where to look. Raises InvalidArg, ConfigUnsupported where it names no host."""
    if not spec:
        raise InvalidArg("hostname must be specified for iscsi sources", domain=Domain.STORAGE)
    return need_one_host(PoolSource.from_xml(spec))


def sources_of(targets: list[str], host: SourceHost, initiator: Initiator | None) -> Sources:
    """A source a target."""
    hosts = [SourceHost(name=host.name, port=host.port)]
    found = Sources()
    for target in targets:
        found.sources.append(PoolSource(hosts=hosts, devices=[SourceDevice(path=target)], initiator=initiator))
    return found


def _portal(pool: Pool) -> str:
    host = need_one_host(pool.source).hosts[0]
    bracketed = f"[{host.name}]" if ":" in (host.name or "") else host.name
    return f"{bracketed}:{host.port or PORT}"


def _target(pool: Pool) -> str:
    source = pool.source
    if source is None or not source.devices:
        raise InternalError("missing source device", domain=Domain.STORAGE)
    return source.devices[0].path or ""
