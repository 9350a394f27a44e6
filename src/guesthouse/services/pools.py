"""The storage pools of this host: libvirt's storage pool procedures, and the paths of guests' disks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from guesthouse.errors import (
    ConfigUnsupported,
    Domain,
    GuesthouseError,
    InternalError,
    NoStoragePool,
    NoStorageVol,
    OperationFailed,
    OperationInvalid,
    XMLDetail,
)
from guesthouse.model.pool_capabilities import pool_capabilities
from guesthouse.model.secret import USAGES
from guesthouse.model.storage import Auth, Pool, PoolTarget, Volume
from guesthouse.model.storage_rules import clean_path, parse_pool
from guesthouse.services.admission import Named, admit
from guesthouse.services.context import Context
from guesthouse.services.events import Event
from guesthouse.services.refs import PoolRef, VolumeRef
from guesthouse.services.secrets import Secrets
from guesthouse.storage.backend import BUILD_NO_OVERWRITE, BUILD_OVERWRITE, Backend, Key, check_exclusive, check_flags
from guesthouse.storage.backends import backend, supported_types
from guesthouse.storage.scsi import same_adapter

_log = logging.getLogger(__name__)
_KIND = "storage_pool"
_LIFECYCLE, _REFRESH = 0, 1
_DEFINED, _UNDEFINED, _STARTED, _STOPPED, _CREATED, _DELETED = range(6)
_STATE_INACTIVE, _STATE_RUNNING = 0, 2
_XML_INACTIVE = 1
_DEFINE_VALIDATE = 1
_WITH_BUILD, _WITH_BUILD_OVERWRITE, _WITH_BUILD_NO_OVERWRITE = 1, 2, 4
# virConnectListAllStoragePoolsFlags: pairs of yes and no, then a bit a type
_INACTIVE, _ACTIVE, _PERSISTENT, _TRANSIENT, _AUTOSTART, _NO_AUTOSTART = 1, 2, 4, 8, 16, 32
_TYPE_BITS = {
    type_: 1 << (6 + bit)
    for bit, type_ in enumerate(
        (
            *("dir", "fs", "netfs", "logical", "disk", "iscsi", "scsi"),
            *("mpath", "rbd", "sheepdog", "gluster", "zfs", "vstorage", "iscsi-direct"),
        )
    )
}


_ON_DEVICES = ("fs", "logical", "disk", "zfs")


class PoolInfo(NamedTuple):
    """``state`` is libvirt's number (0 inactive, 2 running), the rest bytes."""

    state: int
    capacity: int
    allocation: int
    available: int


@dataclass
class VolumeEntry:
    """A volume of an active pool. ``building``: it is being made and can do nothing yet. ``in_use`` counts who reads
    or writes it on a client's behalf; guests do not count."""

    volume: Volume
    building: bool = False
    in_use: int = 0


@dataclass
class PoolEntry:
    """One known pool. ``pool`` is what counts now, ``next`` the definition that follows it when the pool stops.

    ``jobs`` counts the volumes that are being made or copied: the list of volumes must not be replaced meanwhile.
    ``lock`` is held while the list or the state changes.
    """

    pool: Pool
    key: Key
    next: Pool | None = None
    persistent: bool = False
    autostart: bool = False
    active: bool = False
    starting: bool = False
    volumes: dict[str, VolumeEntry] = field(default_factory=dict)
    jobs: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return self.pool.name or ""

    @property
    def uuid(self) -> str:
        return self.pool.uuid or ""

    @property
    def ref(self) -> PoolRef:
        return PoolRef(self.name, self.uuid)

    @property
    def backend(self) -> Backend:
        """What serves pools of this type. Raises InternalError where nothing does."""
        return backend(self.pool.type, self.key)

    def turn(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Held while a volume is made or removed: where one changes the others, one at a time."""
        return self._one_by_one if self.backend.entangled else contextlib.nullcontext()

    def volume_ref(self, volume: Volume) -> VolumeRef:
        return VolumeRef(self.name, volume.name or "", volume.key or "")

    def take(self, size: int) -> None:
        """Count ``size`` more bytes as allocated; negative ones are given back."""
        self.pool.allocation = max(0, (self.pool.allocation or 0) + size)
        self.pool.available = max(0, (self.pool.available or 0) - size)


def invalid(text: str) -> OperationInvalid:
    return OperationInvalid(text, domain=Domain.STORAGE)


class Pools:
    """libvirt's storage pool procedures over the store and the backends. All raise libvirt's errors.

    Methods are handlers: their keyword arguments are the fields of the procedure's argument struct.
    """

    def __init__(self, ctx: Context, secrets: Secrets) -> None:
        self._ctx = ctx
        self._secrets = secrets
        self._images = ctx.paths.state / "images"
        self._entries: dict[str, PoolEntry] = {}
        for row in ctx.store.all(_KIND):
            entry = PoolEntry(parse_pool(row.xml), key=self._key, persistent=True, autostart=row.autostart)
            self._entries[row.uuid] = entry

    def _key(self, auth: Auth) -> bytes:
        secret, usage = auth.secret, USAGES.index("ceph" if auth.type == "ceph" else "iscsi")
        uuid, usage_id = (secret.uuid, secret.usage) if secret is not None else (None, None)
        return self._secrets.value_for(usage, uuid=uuid or "", usage_id=usage_id or "")

    # What the daemon calls

    async def reattach(self) -> None:
        """Take up the pools that were active when the former daemon ended; one that is not there any more (its folder is
        gone, nothing is mounted) is inactive."""
        for uuid, doc in self._ctx.store.all_runtime(_KIND).items():
            entry = self._entries.get(uuid)
            try:
                pool = parse_pool(str(doc["xml"]))
                if entry is None:
                    entry = self._entries[uuid] = PoolEntry(pool, key=self._key)
                elif entry.pool != pool:
                    entry.pool, entry.next = pool, entry.pool
                if not await entry.backend.started(entry.pool):
                    raise invalid(f"storage pool '{entry.name}' is not active")
                await self._read(entry)
                entry.active = True
            except (GuesthouseError, KeyError) as error:
                _log.error("storage pool %s is not taken up: %s", uuid, error)
                self._ctx.store.delete_runtime(_KIND, uuid)
                if entry is not None:
                    self._stopped(entry)

    async def start_all_autostart(self) -> None:
        """Start the pools that shall be active whenever the host is up; one that cannot is logged and left."""
        for entry in self._sorted():
            if entry.autostart and not entry.active:
                try:
                    await self.create(pool=entry.ref, flags=0)
                except GuesthouseError as error:
                    _log.error("Failed to autostart storage pool '%s': %s", entry.name, error)

    async def ensure_default(self) -> PoolRef:
        """The pool "default", active: made on the images folder of the daemon's state, to start with the daemon, where
        no pool has that name."""
        path = self._images
        entry = self._find_by_name("default")
        if entry is None:
            target = PoolTarget(path=str(path))
            taken = [other for other in self._entries.values() if other.pool.path == str(path)]
            if taken:
                return taken[0].ref
            ref = self.define_xml(xml=Pool(type="dir", name="default", target=target).to_xml(), flags=0)
            self.set_autostart(pool=ref, autostart=1)
            entry = self._entry(ref)
        if not entry.active and not entry.starting:
            await self.create(pool=entry.ref, flags=_WITH_BUILD)
        return entry.ref

    def volume_for_path(self, path: str) -> VolumeRef | None:
        """The volume whose file ``path`` is, None where no active pool has it."""
        wanted = clean_path(path)
        for entry in self._sorted():
            for volume_entry in entry.volumes.values() if entry.active else ():
                if volume_entry.volume.path == wanted:
                    return entry.volume_ref(volume_entry.volume)
        return None

    def resolve(self, pool: str, volume: str) -> Volume:
        """The volume that ``<source pool='' volume=''/>`` names. Raises NoStoragePool, NoStorageVol, or
        ConfigUnsupported where the pool is not active."""
        entry = self.by_name(pool)
        if not entry.active:
            raise ConfigUnsupported(f"storage pool '{pool}' containing volume '{volume}' is not active")
        return self.volume(entry, volume).volume

    # Finding and listing

    def _sorted(self) -> list[PoolEntry]:
        return sorted(self._entries.values(), key=lambda entry: entry.name)

    def _find_by_name(self, name: str) -> PoolEntry | None:
        return next((entry for entry in self._entries.values() if entry.name == name), None)

    def _entry(self, pool: PoolRef) -> PoolEntry:
        entry = self._entries.get(pool.uuid)
        if entry is None:
            raise NoStoragePool(f"no storage pool with matching uuid '{pool.uuid}' ({pool.name})")
        return entry

    def by_name(self, name: str) -> PoolEntry:
        """The pool of that name. Raises NoStoragePool."""
        entry = self._find_by_name(name)
        if entry is None:
            raise NoStoragePool(f"no storage pool with matching name '{name}'")
        return entry

    def active(self, pool: PoolRef) -> PoolEntry:
        """The pool, which must be active. Raises NoStoragePool, OperationInvalid."""
        return self.require_active(self._entry(pool))

    @staticmethod
    def require_active(entry: PoolEntry) -> PoolEntry:
        if not entry.active:
            raise invalid(f"storage pool '{entry.name}' is not active")
        return entry

    def volume(self, entry: PoolEntry, name: str) -> VolumeEntry:
        """The volume of that name in an active pool. Raises OperationInvalid, NoStorageVol."""
        found = self.require_active(entry).volumes.get(name)
        if found is None:
            raise NoStorageVol(f"no storage vol with matching name '{name}'")
        return found

    def all_volumes(self) -> Iterator[tuple[PoolEntry, Volume]]:
        """The volumes of all active pools."""
        for entry in self._sorted():
            if entry.active:
                for volume_entry in entry.volumes.values():
                    yield entry, volume_entry.volume

    async def lookup_by_name(self, name: str) -> PoolRef:
        if name == "default" and self._find_by_name(name) is None and not self._images.exists():
            return await self.ensure_default()  # never made on this host: whoever asks is about to need it
        return self.by_name(name).ref

    def lookup_by_uuid(self, uuid: str) -> PoolRef:
        entry = self._entries.get(uuid)
        if entry is None:
            raise NoStoragePool(f"no storage pool with matching uuid '{uuid}'")
        return entry.ref

    def lookup_by_volume(self, vol: VolumeRef) -> PoolRef:
        return self.by_name(vol.pool).ref

    def lookup_by_target_path(self, path: str) -> PoolRef:
        wanted = clean_path(path)
        for entry in self._sorted():
            if entry.active and entry.pool.path == wanted:
                return entry.ref
        seen = f"'{path}'" if path == wanted else f"'{path}' ({wanted})"
        raise NoStoragePool(f"no storage pool with matching target path {seen}")

    def list_all(self, flags: int = 0) -> list[PoolRef]:
        """The pools that fit ``flags``: of each pair (active or not, ...) one, both or none may be set, and any number
        of types."""
        check_flags(flags, (1 << 20) - 1, "storageConnectListAllStoragePools")
        types = flags & ~63
        found = []
        for entry in self._sorted():
            facts = (
                (entry.active, _ACTIVE, _INACTIVE),
                (entry.persistent, _PERSISTENT, _TRANSIENT),
                (entry.autostart, _AUTOSTART, _NO_AUTOSTART),
            )
            fits = all(not flags & (yes | no) or flags & (yes if fact else no) for fact, yes, no in facts)
            if fits and (not types or types & _TYPE_BITS[entry.pool.type]):
                found.append(entry.ref)
        return found

    def num_of(self) -> int:
        return len(self.list_all(_ACTIVE))

    def list_active(self, maxnames: int) -> list[str]:
        return [ref.name for ref in self.list_all(_ACTIVE)][:maxnames]

    def num_of_defined(self) -> int:
        return len(self.list_all(_INACTIVE))

    def list_defined(self, maxnames: int) -> list[str]:
        return [ref.name for ref in self.list_all(_INACTIVE)][:maxnames]

    # Defining

    def define_xml(self, xml: str, flags: int) -> PoolRef:
        """Keep a definition. That of a pool that is active counts from its next start."""
        check_flags(flags, _DEFINE_VALIDATE, "storagePoolDefineXML")
        pool = parse_pool(xml)
        admit(Named("storage_pool", pool.name or "", pool.uuid or ""))
        if "\n" in (pool.name or ""):
            raise XMLDetail("invalid char in name: \n", domain=Domain.STORAGE)
        backend(pool.type)
        entry = self._match(pool)
        autostart = entry.autostart if entry else False
        self._ctx.store.put(_KIND, pool.uuid or "", pool.name or "", pool.to_xml(), autostart)
        if entry is None:
            entry = self._entries[pool.uuid or ""] = PoolEntry(pool, key=self._key)
        elif entry.active or entry.starting:
            entry.next = pool
        else:
            entry.pool = pool
        entry.persistent = True
        self._emit(entry, _DEFINED)
        return entry.ref

    def _match(self, pool: Pool, *, must_be_inactive: bool = False) -> PoolEntry | None:
        """The known pool that this document is about. Raises OperationFailed where its name, UUID or storage is
        another's."""
        for other in self._entries.values():
            if other.name != pool.name and _same_source(other.pool, pool):
                text = f"Storage source conflict with pool: '{other.name}'"
                raise OperationFailed(text, domain=Domain.STORAGE)
        entry = self._entries.get(pool.uuid or "")
        if entry is None:
            other_entry = self._find_by_name(pool.name or "")
            if other_entry is not None:
                text = f"pool '{pool.name}' already exists with uuid {other_entry.uuid}"
                raise OperationFailed(text, domain=Domain.STORAGE)
            return None
        if entry.name != pool.name:
            text = f"pool '{entry.name}' is already defined with uuid {entry.uuid}"
            raise OperationFailed(text, domain=Domain.STORAGE)
        if must_be_inactive and entry.active:
            raise invalid(f"pool is already active as '{entry.name}'")
        if must_be_inactive and entry.starting:
            raise invalid(f"pool '{entry.name}' is starting up")
        return entry

    def undefine(self, pool: PoolRef) -> None:
        """Forget a pool that is not active; what it holds stays."""
        entry = self._entry(pool)
        self._check_idle(entry)
        self._ctx.store.delete(_KIND, entry.uuid)
        self._emit(entry, _UNDEFINED)
        self._entries.pop(entry.uuid, None)

    def _check_idle(self, entry: PoolEntry, *, active: bool = False) -> None:
        """Raise unless the pool is active, or not, as asked, and nothing is going on in it."""
        if entry.active and not active:
            raise invalid(f"storage pool '{entry.name}' is still active")
        if not entry.active and active:
            raise invalid(f"storage pool '{entry.name}' is not active")
        if entry.starting:
            raise invalid(f"storage pool '{entry.name}' is starting up")
        if entry.jobs:
            raise InternalError(f"pool '{entry.name}' has asynchronous jobs running.", domain=Domain.STORAGE)

    # Starting and stopping

    async def create_xml(self, xml: str, flags: int) -> PoolRef:
        """Start a pool that is forgotten when it stops; or a defined one with another document."""
        build = _build_wish(flags, "storagePoolCreateXML")
        pool = parse_pool(xml)
        admit(Named("storage_pool", pool.name or "", pool.uuid or ""))
        backend(pool.type)
        entry = self._match(pool, must_be_inactive=True)
        if entry is None:
            entry = self._entries[pool.uuid or ""] = PoolEntry(pool, key=self._key)
        else:
            entry.pool, entry.next = pool, entry.pool
        await self._start(entry, build)
        return entry.ref

    async def create(self, pool: PoolRef, flags: int) -> None:
        build = _build_wish(flags, "storagePoolCreate")
        entry = self._entry(pool)
        self._check_stopped(entry)
        await self._start(entry, build)

    @staticmethod
    def _check_stopped(entry: PoolEntry) -> None:
        if entry.active:
            raise invalid(f"storage pool '{entry.name}' is already active")
        if entry.starting:
            raise invalid(f"storage pool '{entry.name}' is starting up")

    async def _start(self, entry: PoolEntry, build: int | None) -> None:
        """Start a pool that is neither active nor starting. A failure leaves it as it was."""
        entry.starting = True
        try:
            kind = entry.backend
            if build is not None:
                await kind.build(entry.pool, build)
            self._ctx.store.put_runtime(_KIND, entry.uuid, {"xml": entry.pool.to_xml()})
            await kind.start(entry.pool)
            try:
                await self._read(entry)
            except BaseException:
                with contextlib.suppress(GuesthouseError):
                    await kind.stop(entry.pool)
                raise
            entry.active = True
        finally:
            entry.starting = False
            if not entry.active:
                self._ctx.store.delete_runtime(_KIND, entry.uuid)
                self._stopped(entry)
        self._emit(entry, _STARTED)

    async def _read(self, entry: PoolEntry) -> None:
        async with entry.lock:
            found = await entry.backend.refresh(entry.pool)
            before = entry.volumes
            entry.volumes = {name: VolumeEntry(volume) for name, volume in found.items()}
            for name, old in before.items():
                # who streams a volume holds on to its entry
                if old.in_use and name in entry.volumes:
                    old.volume = entry.volumes[name].volume
                    entry.volumes[name] = old

    async def recount(self, entry: PoolEntry) -> set[str]:
        """Read a pool in which one volume's coming or going changes others; they keep the formats that they were made
        with. Returns the names of those that are there."""
        async with entry.lock:
            found = await entry.backend.refresh(entry.pool)
            for name in [name for name, old in entry.volumes.items() if name not in found and not old.building]:
                del entry.volumes[name]
            for name, volume in found.items():
                known = entry.volumes.setdefault(name, VolumeEntry(volume)).volume
                volume.target.format = known.target.format
                known.__dict__.update(volume.__dict__)
        return set(found)

    def _stopped(self, entry: PoolEntry) -> None:
        """Bring a pool that is no longer active to its definition, or forget it."""
        entry.active = False
        entry.volumes = {}
        if not entry.persistent:
            self._entries.pop(entry.uuid, None)
        elif entry.next is not None:
            entry.pool, entry.next = entry.next, None

    async def build(self, pool: PoolRef, flags: int) -> None:
        """Make what holds the pool: its folder, file system, volume group, partition table."""
        entry = self._entry(pool)
        self._check_stopped(entry)
        entry.starting = True
        try:
            await entry.backend.build(entry.pool, flags)
        finally:
            entry.starting = False
        self._emit(entry, _CREATED)

    async def destroy(self, pool: PoolRef) -> None:
        """Stop using the pool; what it holds stays."""
        entry = self._entry(pool)
        async with entry.lock:
            self._check_idle(entry, active=True)
            await entry.backend.stop(entry.pool)
            self._ctx.store.delete_runtime(_KIND, entry.uuid)
            self._stopped(entry)
        self._emit(entry, _STOPPED)

    async def delete(self, pool: PoolRef, flags: int) -> None:
        """Remove what holds a pool that is not active; a folder must be empty."""
        entry = self._entry(pool)
        self._check_idle(entry)
        entry.starting = True
        try:
            await entry.backend.delete(entry.pool, flags)
        finally:
            entry.starting = False
        self._emit(entry, _DELETED)

    async def refresh(self, pool: PoolRef, flags: int) -> None:
        """Find its volumes anew. A pool that cannot be read is inactive after that."""
        check_flags(flags, 0, "storagePoolRefresh")
        entry = self._entry(pool)
        self._check_idle(entry, active=True)
        await self.reread(entry)

    async def reread(self, entry: PoolEntry) -> None:
        """Refresh an active pool and tell so."""
        try:
            await self._read(entry)
        except GuesthouseError:
            if entry.active:
                self._ctx.store.delete_runtime(_KIND, entry.uuid)
                self._stopped(entry)
                self._emit(entry, _STOPPED)
            raise
        self._ctx.events.emit(Event("storage_pool", _REFRESH, entry.ref, {}))

    def _emit(self, entry: PoolEntry, what: int) -> None:
        self._ctx.events.emit(Event("storage_pool", _LIFECYCLE, entry.ref, {"event": what, "detail": 0}))

    # Asking

    def get_info(self, pool: PoolRef) -> PoolInfo:
        entry = self._entry(pool)
        now = entry.pool
        state = _STATE_RUNNING if entry.active else _STATE_INACTIVE
        return PoolInfo(state, now.capacity or 0, now.allocation or 0, now.available or 0)

    def get_xml_desc(self, pool: PoolRef, flags: int) -> str:
        check_flags(flags, _XML_INACTIVE, "storagePoolGetXMLDesc")
        entry = self._entry(pool)
        shown = entry.next if flags & _XML_INACTIVE and entry.next is not None else entry.pool
        return shown.to_xml()

    def get_autostart(self, pool: PoolRef) -> int:
        return int(self._entry(pool).autostart)

    def set_autostart(self, pool: PoolRef, autostart: int) -> None:
        entry = self._entry(pool)
        if not entry.persistent:
            raise InternalError("pool has no config file", domain=Domain.STORAGE)
        self._ctx.store.set_autostart(_KIND, entry.uuid, bool(autostart))
        entry.autostart = bool(autostart)

    def is_active(self, pool: PoolRef) -> int:
        return int(self._entry(pool).active)

    def is_persistent(self, pool: PoolRef) -> int:
        return int(self._entry(pool).persistent)

    async def find_sources(self, type: str, srcSpec: str | None, flags: int) -> str:
        """What pools of a type could be made of on this host, or on the one that ``srcSpec`` names."""
        check_flags(flags, 0, "storageConnectFindPoolSources")
        return await backend(type, self._key).find_sources(srcSpec)

    def capabilities(self, flags: int) -> str:
        """The types of pools that are served and whose programs are installed."""
        check_flags(flags, 0, "storageConnectGetStoragePoolCapabilities")
        return pool_capabilities(supported_types())

    def num_of_volumes(self, pool: PoolRef) -> int:
        return len(self.active(pool).volumes)

    def list_volumes(self, pool: PoolRef, maxnames: int) -> list[str]:
        return list(self.active(pool).volumes)[:maxnames]


def _build_wish(flags: int, function: str) -> int | None:
    """The build flags that create flags ask for, None for no build."""
    check_flags(flags, _WITH_BUILD | _WITH_BUILD_OVERWRITE | _WITH_BUILD_NO_OVERWRITE, function)
    check_exclusive(flags, _WITH_BUILD_OVERWRITE, _WITH_BUILD_NO_OVERWRITE)
    if flags & _WITH_BUILD_OVERWRITE:
        return BUILD_OVERWRITE
    if flags & _WITH_BUILD_NO_OVERWRITE:
        return BUILD_NO_OVERWRITE
    return 0 if flags else None


def _same_source(one: Pool, other: Pool) -> bool:
    """Whether two pools would have the same storage."""
    devices = [{device.path for device in pool.source.devices} if pool.source else set() for pool in (one, other)]
    if one.type in _ON_DEVICES and other.type in _ON_DEVICES:
        return bool(devices[0] & devices[1])
    if one.type != other.type:
        return False
    if one.type == "netfs":
        return _remote(one) == _remote(other)
    if one.type == "iscsi":
        return bool(devices[0] & devices[1]) and _portal(one) == _portal(other)
    if one.type == "scsi":
        return same_adapter(*(pool.source.adapter if pool.source else None for pool in (one, other)))
    return one.type == "mpath" or (one.type == "dir" and one.path == other.path)


def _portal(pool: Pool) -> tuple[object, ...]:
    """Where an iSCSI target is, and who is known by what name there."""
    source = pool.source
    if source is None or not source.hosts:
        return (None, None, None)
    return source.hosts[0].name, source.hosts[0].port or 3260, source.initiator


def _remote(pool: Pool) -> tuple[str | None, str | None]:
    source = pool.source
    if source is None:
        return None, None
    return source.hosts[0].name if source.hosts else None, source.dir.path if source.dir else None
