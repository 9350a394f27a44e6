"""Storage for a guest: which file or volume a disk means, what must be made first, and taking that back.

Nothing is made while a request is put together (so that a document can be shown without traces); :func:`build` makes
what was planned.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from guesthouse.client import StoragePool, StorageVol
from guesthouse.errors import GuesthouseError, InvalidArg, NoStoragePool, NoStorageVol
from guesthouse.model.devices.disk import Disk, DiskDriver, DiskSource
from guesthouse.model.storage import Pool, PoolTarget, Volume, VolumeFormat, VolumeTarget
from guesthouse.provision.host import Host
from guesthouse.units import GIB

_POOL_RUNNING = 2
_PREALLOC_NOTHING = 0
# pool types whose volumes are files, with a format of their own
_FILE_POOLS = ("dir", "fs", "netfs", "gluster", "vstorage")
_EXTENSIONS = {"raw": ".img", "iso": ".iso"}
# what volumes call themselves -> what QEMU's drivers are called
_DRIVERS = {"iso": "raw", "unknown": "raw", "dir": "raw", "cloop": "cloop", "none": "raw"}
_MAGIC = ((b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"QED\0", "qed"), (b"conectix", "vpc"), (b"vhdxfile", "vhdx"))


class StorageError(InvalidArg):
    """Storage that a guest cannot have."""

    prefix = ""


@dataclass
class Wish:
    """What a command line says about a disk's storage; ``size`` is in GiB."""

    size: float | None = None
    sparse: bool = True
    format: str | None = None
    pool: str | None = None
    volume: str | None = None
    backing: str | None = None
    backing_format: str | None = None


@dataclass
class NewVolume:
    """A volume to be made for ``disk``; ``folder`` is set where no pool has its directory yet."""

    disk: Disk
    pool: str
    name: str
    path: str
    capacity: int
    allocation: int
    format: str | None = None
    backing: str | None = None
    backing_format: str | None = None
    folder: str | None = None
    made: StorageVol | None = None

    def document(self) -> str:
        """The volume as XML."""
        target = VolumeTarget(format=VolumeFormat(type=self.format) if self.format else None)
        below = None
        if self.backing:
            kind = VolumeFormat(type=self.backing_format) if self.backing_format else None
            below = VolumeTarget(path=self.backing, format=kind)
        volume = Volume(name=self.name, capacity=self.capacity, allocation=self.allocation, target=target)
        volume.backing_store = below
        return volume.to_xml()


@dataclass
class PoolView:
    """A pool as far as planning needs it. ``handle`` is None where the pool is yet to be made."""

    name: str
    type: str
    path: str
    handle: StoragePool | None

    def holds(self, name: str) -> bool:
        """Whether there is a volume ``name``."""
        if self.handle is None:
            return False
        try:
            self.handle.vol_lookup_by_name(name)
        except NoStorageVol:
            return False
        return True


class Planner:
    """Finds and plans storage on one host. ``dry`` leaves the host as it is, even its pools."""

    def __init__(self, host: Host, dry: bool) -> None:
        self.host = host
        self.dry = dry
        self._pools: dict[str, PoolView] = {}

    # -- pools

    def pool(self, name: str) -> PoolView:
        """The pool ``name``, running. "default" is made where it is missing. Raises NoStoragePool."""
        if name not in self._pools:
            self._pools[name] = self._pool(name)
        return self._pools[name]

    def _pool(self, name: str) -> PoolView:
        try:
            handle = self.host.conn.storage_pool_lookup_by_name(name)
        except NoStoragePool:
            if name != "default":
                raise
            return self._default_pool()
        return self._started(handle)

    def _started(self, handle: StoragePool) -> PoolView:
        view = self._view(handle)
        if not self.dry and not handle.is_active():
            handle.create()
        return view

    def _view(self, handle: StoragePool) -> PoolView:
        from lxml import etree

        root = etree.fromstring(handle.get_xml_desc().encode())
        return PoolView(handle.name, root.get("type") or "dir", root.findtext("target/path") or "", handle)

    def _default_pool(self) -> PoolView:
        path = "/var/lib/libvirt/images"
        if self.host.is_session:
            data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111
            path = f"{data}/libvirt/images"
        there = self.pool_of_folder(path)
        if there is not None:
            return there
        if self.dry:
            return PoolView("default", "dir", path, None)
        document = Pool(type="dir", name="default", target=PoolTarget(path=path)).to_xml()
        handle = self.host.conn.storage_pool_define_xml(document)
        try:
            handle.build()
            handle.create()
            handle.set_autostart(True)
        except BaseException:
            handle.undefine()
            raise
        return PoolView("default", "dir", path, handle)

    def pool_of_folder(self, path: str) -> PoolView | None:
        """The pool whose volumes are the files in the folder ``path``, None where there is none; running, unless dry."""
        for handle in self.host.conn.list_all_storage_pools():
            view = self._view(handle)
            if view.path and os.path.normpath(view.path) == os.path.normpath(path):
                return self._started(handle)
        return None

    # -- disks

    def attach(self, disk: Disk, wish: Wish, guest_name: str, planned: list[NewVolume]) -> None:
        """Give ``disk`` its source. What must be made is added to ``planned``.

        Raises StorageError, or the daemon's errors, where that cannot be.
        """
        path = disk.source.file if disk.source is not None else None
        pool_name = wish.pool
        if wish.volume:
            pool_name, slash, volume_name = wish.volume.partition("/")
            if not slash or "/" in volume_name:
                raise StorageError("Storage volume must be specified as vol=poolname/volname")
            self._existing_volume(disk, self.pool(pool_name), volume_name, wish)
            return
        if path is not None:
            path = os.path.abspath(path) if not self.host.is_remote else path  # noqa: PTH100
            if self._existing_path(disk, path, wish):
                return
            if disk.device in ("cdrom", "floppy") and wish.size is None:
                raise StorageError(f"There is no file '{path}' on this host")
            self._new(disk, wish, None, path, guest_name, planned)
            return
        nothing = disk.source is None or not any(
            getattr(disk.source, name)
            for name in ("dev", "dir", "protocol", "name", "pool", "volume", "address", "type")
        )
        if pool_name is None and nothing and (wish.size is not None or wish.backing is not None):
            pool_name = "default"
        if pool_name is not None:
            self._new(disk, wish, self.pool(pool_name), None, guest_name, planned)
        elif nothing and disk.device in ("disk", "lun"):
            raise StorageError(f"Device type '{disk.device}' requires a path")

    def _new(
        self,
        disk: Disk,
        wish: Wish,
        pool: PoolView | None,
        path: str | None,
        guest_name: str,
        planned: list[NewVolume],
    ) -> None:
        folder = None
        if pool is None:
            assert path is not None
            parent, name = os.path.split(path)
            pool = self.pool_of_folder(parent)
            if pool is None:
                if parent == "/dev" or parent.startswith("/dev/"):
                    raise StorageError(
                        f"Don't know how to create storage for path '{path}'. Use libvirt APIs to manage the parent"
                        " directory as a pool first."
                    )
                folder = parent
                pool = PoolView(f"{os.path.basename(parent) or 'root'}", "dir", parent, None)  # noqa: PTH119
        form = wish.format
        if pool.type in _FILE_POOLS:
            form = form or "qcow2"
        elif form not in (None, "raw"):
            raise StorageError("Format attribute not supported for this volume type")
        if path is None:
            name = self._free_name(pool, guest_name or "disk", form, planned)
        if wish.size is None and wish.backing is None:
            if folder is not None:
                raise StorageError(f"Must specify storage creation parameters for non-existent path '{path}'.")
            raise StorageError(f"Size must be specified for non existent volume '{name}'")
        capacity = int((wish.size or 0) * GIB)
        full = f"{pool.path.rstrip('/')}/{name}"
        planned.append(
            NewVolume(
                disk=disk,
                pool=pool.name,
                name=name,
                path=full,
                capacity=capacity,
                allocation=0 if wish.sparse else capacity,
                format=form if pool.type in _FILE_POOLS else None,
                backing=wish.backing,
                backing_format=wish.backing_format or (_sniff(wish.backing) if wish.backing else None),
                folder=folder,
            )
        )
        kind = "file" if pool.type in _FILE_POOLS else "block"
        _set_source(disk, kind, full)
        self._set_format(disk, form or "raw")

    def _free_name(self, pool: PoolView, base: str, form: str | None, planned: list[NewVolume]) -> str:
        suffix = "" if form is None else _EXTENSIONS.get(form, f".{form}")
        number = 0
        while True:
            name = f"{base}-{number}{suffix}" if number else f"{base}{suffix}"
            path = f"{pool.path.rstrip('/')}/{name}"
            taken = any(volume.path == path for volume in planned)
            if not taken and not pool.holds(name) and not self.users(path):
                return name
            number += 1

    def _existing_volume(self, disk: Disk, pool: PoolView, name: str, wish: Wish) -> None:
        if pool.handle is None:
            raise StorageError(f"Pool '{pool.name}' has no volume '{name}'")
        self._use_volume(disk, pool.handle.vol_lookup_by_name(name), wish)

    def _use_volume(self, disk: Disk, volume: StorageVol, wish: Wish) -> None:
        from lxml import etree

        root = etree.fromstring(volume.get_xml_desc().encode())
        kind = root.get("type") or "file"
        path = root.findtext("target/path") or volume.key
        _set_source(disk, kind if kind in ("file", "block") else "file", path)
        node = root.find("target/format")
        told = node.get("type") if node is not None else None
        self._set_format(disk, wish.format or _DRIVERS.get(told or "raw", told or "raw"))

    def _existing_path(self, disk: Disk, path: str, wish: Wish) -> bool:
        """Use what is at ``path``; whether there is anything."""
        volume = self._volume_at(path)
        if volume is not None:
            self._use_volume(disk, volume, wish)
            return True
        if self.host.is_remote:
            return False
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except OSError:
            return False
        if stat.S_ISDIR(mode):
            if disk.device != "floppy":
                raise StorageError(f"'{path}' is a directory, not a disk")
            _set_source(disk, "dir", path)
            return True
        if stat.S_ISBLK(mode):
            _set_source(disk, "block", path)
            self._set_format(disk, wish.format or "raw")
            return True
        _set_source(disk, "file", path)
        form = wish.format or _sniff(path)
        if form is not None:
            self._set_format(disk, form)
        return True

    def _volume_at(self, path: str) -> StorageVol | None:
        try:
            return self.host.conn.storage_vol_lookup_by_path(path)
        except (NoStorageVol, GuesthouseError):
            return None

    def _set_format(self, disk: Disk, form: str) -> None:
        """The format of the disk's driver, where the hypervisor has drivers; one that was asked for stays."""
        if not self.host.is_qemu:
            return
        if disk.driver is None:
            disk.driver = DiskDriver()
        disk.driver.type = disk.driver.type or form

    # -- who else uses it

    def users(self, path: str) -> list[str]:
        """Names of guests with a disk at ``path``."""
        return [name for name, uses in self._uses().items() if any(use[0] == path for use in uses)]

    def conflicts(self, disk: Disk) -> list[str]:
        """Names of guests that use the disk's file and do not share it."""
        path = disk.path
        if path is None or disk.readonly or disk.device == "cdrom":
            return []
        found = []
        for name, uses in self._uses().items():
            for used, shared, readonly in uses:
                if used == path and not readonly and not (shared and disk.shareable):
                    found.append(name)
                    break
        return found

    def _uses(self) -> dict[str, list[tuple[str, bool, bool]]]:
        found: dict[str, list[tuple[str, bool, bool]]] = {}
        for name, root in self.host.domain_documents.items():
            for node in root.findall("devices/disk"):
                source = node.find("source")
                path = None if source is None else source.get("file") or source.get("dev")
                if path:
                    readonly = node.find("readonly") is not None or node.get("device") == "cdrom"
                    found.setdefault(name, []).append((path, node.find("shareable") is not None, readonly))
        return found


def space_problem(planner: Planner, volumes: list[NewVolume]) -> str | None:
    """What is wrong with the room for ``volumes``, None where there is enough. Sparse volumes are allowed more than
    there is; that is the caller's to warn about."""
    wanted: dict[str, int] = {}
    for volume in volumes:
        if volume.folder is None:
            wanted[volume.pool] = wanted.get(volume.pool, 0) + volume.capacity
    for name, size in wanted.items():
        handle = planner.pool(name).handle
        if handle is None or not handle.is_active():
            continue
        info = handle.get_info()
        if size > info.available:
            return (
                "The requested volume capacity will exceed the available pool space when the volume is fully"
                f" allocated. ({size // 2**20} M requested capacity > {info.available // 2**20} M available)"
            )
    return None


def build(planner: Planner, volumes: list[NewVolume], report: Callable[[NewVolume], Any]) -> None:
    """Make ``volumes``; ``report`` is called before each. What was made stands in ``made``, also when this raises."""
    for volume in volumes:
        report(volume)
        if volume.folder is None:
            handle = planner.pool(volume.pool).handle
            assert handle is not None
            volume.made = handle.vol_create_xml(volume.document(), _PREALLOC_NOTHING)
            continue
        # a folder that no pool has: one for as long as it takes
        name = f"{volume.pool}-{os.getpid()}"
        document = Pool(type="dir", name=name, target=PoolTarget(path=volume.folder)).to_xml()
        handle = planner.host.conn.storage_pool_create_xml(document)
        try:
            volume.made = handle.vol_create_xml(volume.document(), _PREALLOC_NOTHING)
        finally:
            handle.destroy()


def remove(planner: Planner, volumes: list[NewVolume], failed: Callable[[NewVolume, Exception], Any]) -> None:
    """Take back what :func:`build` made; ``failed`` is told of each that stays."""
    for volume in volumes:
        if volume.made is None:
            continue
        try:
            if volume.folder is not None:
                os.unlink(volume.path)  # noqa: PTH108 - its pool is gone
            else:
                volume.made.delete()
            volume.made = None
        except (GuesthouseError, OSError) as error:
            failed(volume, error)


def _set_source(disk: Disk, kind: str, path: str) -> None:
    disk.type = kind
    if disk.source is None:
        disk.source = DiskSource()
    source = disk.source
    source.file = path if kind == "file" else None
    source.dev = path if kind == "block" else None
    source.dir = path if kind == "dir" else None


def _sniff(path: str) -> str | None:
    """An image's format by its first bytes, None where they say nothing."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError:
        return None
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)
