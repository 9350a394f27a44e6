"""Images that a host has: volumes of a storage pool of their own, which guests' disks lie over.

An image is a volume ``NAME.ARCH.qcow2`` (or ``.raw``); what is known of it is in ``NAME.ARCH.json`` beside it. All goes
over the connection, so that it works with a daemon elsewhere, and with C libvirtd.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from guesthouse.client import Connect, StoragePool, StorageVol
from guesthouse.errors import GuesthouseError, InvalidArg, NoStoragePool, NoStorageVol, OperationFailed
from guesthouse.model.storage import Pool, PoolTarget
from guesthouse.provision.host import Host
from guesthouse.provision.storage import Planner

POOL = "guest-images"
_FOLDER = "base-images"
_CHUNK = 1 << 18
_FORMATS = ("qcow2", "raw")

Progress = Callable[[int, "int | None"], None]


@dataclass
class Image:
    """An image that is there. ``capacity`` and ``allocation`` are in bytes, ``created`` in seconds since 1970."""

    name: str
    arch: str
    format: str
    path: str = ""
    capacity: int = 0
    allocation: int = 0
    created: float = 0.0
    login: str = ""
    osinfo: list[str] = field(default_factory=list)
    source: str = ""
    checksum: str = ""
    signed: bool = False

    @property
    def volume(self) -> str:
        return f"{self.name}.{self.arch}.{self.format}"

    @property
    def note(self) -> str:
        return f"{self.name}.{self.arch}.json"


def shape(file: Path) -> tuple[str, int]:
    """Format and capacity in bytes of an image file, from its header. Raises InvalidArg for another format, and for a
    qcow2 that needs other files."""
    with file.open("rb") as data:
        head = data.read(104)
    if head[:4] != b"QFI\xfb":
        return "raw", file.stat().st_size
    (backing,) = struct.unpack_from(">Q", head, 8)
    (features,) = struct.unpack_from(">Q", head, 72) if len(head) >= 80 and head[7] >= 3 else (0,)
    if backing or features & 4:  # bit 2: an external data file
        raise InvalidArg(f"{file.name} needs another file beside it: give a whole image")
    (capacity,) = struct.unpack_from(">Q", head, 24)
    return "qcow2", int(capacity)


class Store:
    """The images of the host behind a connection. Its methods raise the daemon's errors."""

    def __init__(self, conn: Connect) -> None:
        self._conn = conn

    def pool(self) -> StoragePool:
        """The pool, made where it is missing, beside the folder of the pool "default"."""
        try:
            pool = self._conn.storage_pool_lookup_by_name(POOL)
        except NoStoragePool:
            planner = Planner(Host(self._conn, self._conn.get_uri()), dry=False)
            folder = PurePosixPath(planner.pool("default").path).parent / _FOLDER
            pool = self._conn.storage_pool_define_xml(
                Pool(type="dir", name=POOL, target=PoolTarget(path=str(folder))).to_xml()
            )
            try:
                pool.build()
                pool.create()
                pool.set_autostart(True)
            except GuesthouseError:
                pool.undefine()
                raise
            return pool
        if not pool.is_active():
            pool.create()
        return pool

    def images(self) -> list[Image]:
        """All images, by name."""
        try:
            self._conn.storage_pool_lookup_by_name(POOL)
        except NoStoragePool:
            return []
        volumes = {volume.name: volume for volume in self.pool().list_all_volumes()}
        found = []
        for name, volume in sorted(volumes.items()):
            base, _, end = name.rpartition(".")
            if end not in _FORMATS or "." not in base:
                continue
            image = Image(base.rpartition(".")[0], base.rpartition(".")[2], end)
            if (note := volumes.get(image.note)) is not None:
                image = Image(**json.loads(_content(note)))
            info = volume.get_info()
            image.path, image.capacity, image.allocation = volume.get_path(), info.capacity, info.allocation
            found.append(image)
        return found

    def find(self, name: str, arch: str | None = None) -> Image | None:
        """The image called ``name``; None where there is none."""
        return next((i for i in self.images() if i.name == name and arch in (None, i.arch)), None)

    def add(self, image: Image, file: Path, progress: Progress = lambda done, whole: None) -> Image:
        """Put ``file`` into the store as ``image``, whose format and capacity are read from it.

        Raises OperationFailed where the name is taken, InvalidArg for a file that is no whole image; nothing is left then.
        """
        image.format, image.capacity = shape(file)
        image.created = image.created or time.time()
        pool = self.pool()
        if self.find(image.name, image.arch) is not None:
            raise OperationFailed(
                f"there is an image '{image.name}' for {image.arch} already (guest image rm {image.name})"
            )
        size = file.stat().st_size
        made: list[StorageVol] = []
        try:
            # the volume takes what comes as it is, whatever its format
            made.append(_create(pool, image.volume, size))
            with file.open("rb") as data:
                _send(made[0], lambda: data.read(_CHUNK), size, progress)
            note = json.dumps(asdict(image) | {"path": "", "allocation": 0}, indent=1).encode()
            made.append(_create(pool, image.note, len(note)))
            pieces = iter((note, b""))
            _send(made[1], lambda: next(pieces), len(note), lambda done, whole: None)
            pool.refresh()
        except BaseException:
            for volume in made:
                try:
                    volume.delete()
                except GuesthouseError:  # it is not there, or the daemon is gone
                    pass
            raise
        found = self.find(image.name, image.arch)
        assert found is not None
        return found

    def remove(self, image: Image, *, force: bool = False) -> None:
        """Remove an image. Raises OperationFailed where disks lie over it, unless ``force``."""
        users = self.users(image)
        if users and not force:
            raise OperationFailed(
                f"image '{image.name}' is what {', '.join(users)} lie over: they would be lost with it (remove them first)"
            )
        pool = self.pool()
        for name in (image.volume, image.note):
            try:
                pool.vol_lookup_by_name(name).delete()
            except NoStorageVol:
                pass

    def users(self, image: Image) -> list[str]:
        """The volumes that lie over an image, as "pool/volume"."""
        from lxml import etree

        found = []
        for pool in self._conn.list_all_storage_pools():
            if not pool.is_active():
                continue
            for volume in pool.list_all_volumes():
                root: Any = etree.fromstring(volume.get_xml_desc().encode())
                if root.findtext("backingStore/path") == image.path:
                    found.append(f"{pool.name}/{volume.name}")
        return found


def _create(pool: StoragePool, name: str, size: int) -> StorageVol:
    from guesthouse.model.storage import Volume

    text = Volume.from_xml(
        f"<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity><allocation unit='bytes'>0</allocation>"
        f"<target><format type='raw'/><permissions><mode>0444</mode></permissions></target></volume>"
    )
    return pool.vol_create_xml(text.to_xml())


def _send(volume: StorageVol, read: Callable[[], bytes], size: int, progress: Progress) -> None:
    stream = volume.upload(0, size)
    done = 0
    try:
        while piece := read():
            stream.send(piece)
            done += len(piece)
            progress(done, size)
        stream.finish()
    except BaseException:
        stream.abort()
        raise


def _content(volume: StorageVol) -> bytes:
    stream = volume.download(0, 0)
    out = b""
    while piece := stream.recv(_CHUNK):
        out += piece
    stream.finish()
    return out
