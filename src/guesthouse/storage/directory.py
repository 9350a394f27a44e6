"""Folders as storage pools: making, reading and removing them, and what their files are as volumes.

All of it may wait for a disk: call it in a thread. What :func:`scan` and :func:`refresh` find is spelled as libvirt's
refresh spells it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from guesthouse.errors import Domain, InternalError, InvalidArg, NoStorageVol, SystemFailure
from guesthouse.model.storage import (
    ClusterSize,
    Encryption,
    ImageFeatures,
    Permissions,
    Pool,
    PoolTarget,
    Timestamps,
    Volume,
    VolumeFormat,
    VolumeTarget,
)
from guesthouse.model.storage_rules import IMAGE_FORMATS, default_permissions
from guesthouse.storage import drafts, formats
from guesthouse.storage.work import Check

_log = logging.getLogger(__name__)
_POOL_MODE = 0o711
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _FS_NOCOW_FL = 0x80086601, 0x40086602, 0x00800000


@dataclass
class Scan:
    """What a folder holds: volumes by name, and the bytes of its file system."""

    volumes: dict[str, Volume]
    capacity: int
    allocation: int
    available: int
    permissions: Permissions


class NotAVolume(Exception):
    """A file that no guest could use as a disk: a FIFO, a socket, a dangling link, a character device."""


def system_failure(error: OSError, what: str) -> SystemFailure:
    return SystemFailure.from_os(error, what, domain=Domain.STORAGE)


# -- the folder itself


def build(pool: Pool) -> None:
    """Make the pool's folder, and those above it, if it is not there; give it the owner and mode that it wants.

    Raises InvalidArg for a relative path, SystemFailure where the system says no.
    """
    path = Path(pool.path)
    if not path.is_absolute():
        raise InvalidArg(f"path '{path}' is not absolute", domain=Domain.STORAGE)
    try:
        path.parent.mkdir(mode=0o777, parents=True, exist_ok=True)
    except OSError as error:
        raise system_failure(error, f"cannot create path '{path.parent}'") from None
    made = _make(path)
    try:
        _give(path, default_permissions(pool.target), _POOL_MODE if made else None)
    except SystemFailure:
        if made:
            path.rmdir()
        raise
    cow = pool.features.cow if pool.features else None
    if cow is not None and cow.state is not None:
        set_cow(str(path), cow.state)


def _make(path: Path) -> bool:
    """Whether the folder is new."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        if path.is_dir():
            return False
        raise system_failure(error, f"failed to create directory '{path}'") from None
    except OSError as error:
        raise system_failure(error, f"failed to create directory '{path}'") from None
    return True


def _give(path: Path, wanted: Permissions, default_mode: int | None) -> None:
    owner, group = wanted.owner, wanted.group
    try:
        if owner is not None or group is not None:
            os.chown(path, -1 if owner is None else owner, -1 if group is None else group)
    except OSError as error:
        raise system_failure(error, f"cannot chown '{path}' to ({owner}, {group})") from None
    mode = default_mode if wanted.mode is None else wanted.mode
    try:
        if mode is not None:
            path.chmod(mode)
    except OSError as error:
        raise system_failure(error, f"cannot set mode of '{path}' to {mode:04o}") from None


def set_cow(path: str, on: bool) -> None:
    """Switch copy-on-write for a folder or an empty file; only btrfs knows it. Raises SystemFailure elsewhere."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        word = fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8))
        flags = int.from_bytes(word, "little")
        flags = flags & ~_FS_NOCOW_FL if on else flags | _FS_NOCOW_FL
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, flags.to_bytes(8, "little"))
    except OSError as error:
        raise system_failure(error, f"unable to control COW flag on '{path}', not btrfs") from None
    finally:
        os.close(fd)


def delete(pool: Pool) -> None:
    """Remove the pool's folder, which must be empty. Raises SystemFailure."""
    try:
        drafts.remove_stale(pool.path)
        Path(pool.path).rmdir()
    except OSError as error:
        raise system_failure(error, f"failed to remove pool '{pool.path}'") from None


# -- what is in it


def scan(path: str, check: Check) -> Scan:
    """Read the folder at ``path``. What a killed daemon left half-made is removed. A file that cannot be read is left
    out; only a folder that cannot raises SystemFailure."""
    try:
        names = sorted(entry.name for entry in Path(path).iterdir())
    except OSError as error:
        raise system_failure(error, f"cannot open directory '{path}'") from None
    drafts.remove_stale(path)
    volumes = {}
    for name in names:
        check()
        if drafts.is_draft(name) or not _is_sayable(name):
            continue
        try:
            volumes[name] = find(f"{path}/{name}", name)
        except NotAVolume:
            continue
        except (OSError, SystemFailure, NoStorageVol) as error:
            _log.warning("%s in the storage pool at %s is left out: %s", name, path, error)
    try:
        facts, room = Path(path).stat(), os.statvfs(path)
    except OSError as error:
        raise system_failure(error, f"cannot stat path '{path}'") from None
    capacity, available = room.f_frsize * room.f_blocks, room.f_frsize * room.f_bfree
    permissions = Permissions(mode=stat.S_IMODE(facts.st_mode) & 0o777, owner=facts.st_uid, group=facts.st_gid)
    permissions.label = _label(path)
    return Scan(volumes, capacity, capacity - available, available, permissions)


def _is_sayable(name: str) -> bool:
    """Whether XML and the wire can carry this file name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not re.search(r"[\x00-\x1f\ufffe\uffff]", name)


def find(path: str, name: str) -> Volume:
    """The file at ``path`` as a volume, its format found from its header. Raises NotAVolume, or OSError."""
    volume = Volume(name=name, key=path, target=VolumeTarget(path=path))
    fd, facts = _open(path)
    try:
        measure(volume, fd, facts)
        if stat.S_ISDIR(facts.st_mode):
            volume.type = "dir"
            volume.target.format = VolumeFormat(type="dir")
            return volume
        image = formats.probe(formats.read_header(fd))
    finally:
        os.close(fd)
    target = volume.target
    target.format = VolumeFormat(type=image.format)
    _take_capacity(volume, image)
    target.compat = image.compat
    if image.cluster_size:
        target.cluster_size = ClusterSize(unit="B", value=image.cluster_size)
    if image.features is not None:
        target.features = ImageFeatures(**dict.fromkeys(image.features, True))
    if image.encryption:
        target.encryption = Encryption(format=image.encryption)
    if image.backing:
        volume.backing_store = _backing(path, image)
    return volume


def _take_capacity(volume: Volume, image: formats.Image) -> None:
    capacity = image.capacity or volume.physical or 0
    volume.capacity = max(0, capacity - image.payload) if image.encryption else capacity


def _backing(path: str, image: formats.Image) -> VolumeTarget:
    assert image.backing is not None
    local = formats.backing_path(path, image.backing)
    if local is None:
        return VolumeTarget(path=image.backing, format=VolumeFormat(type="raw"))
    named = image.backing_format if image.backing_format in IMAGE_FORMATS else None
    target = VolumeTarget(path=local, format=VolumeFormat(type=named or "raw"))
    with contextlib.suppress(OSError, NotAVolume):
        fd, facts = _open(local)
        try:
            if image.backing_format is None and not stat.S_ISDIR(facts.st_mode):
                target.format = VolumeFormat(type=formats.probe(formats.read_header(fd)).format)
            describe(target, fd, facts)
        finally:
            os.close(fd)
    return target


def refresh(volume: Volume) -> None:
    """Bring sizes, permissions and times of a known volume up to date; its format stays what it was known to be.

    Raises NoStorageVol where its file is gone, InternalError where something else took its place, SystemFailure.
    """
    path = volume.path
    try:
        fd, facts = _open(path)
    except FileNotFoundError:
        raise NoStorageVol(f"no storage vol with matching path '{path}'") from None
    except NotAVolume:
        raise InternalError(f"unexpected storage mode for '{path}'", domain=Domain.STORAGE) from None
    except OSError as error:
        raise system_failure(error, f"cannot open volume '{path}'") from None
    try:
        measure(volume, fd, facts)
        if not stat.S_ISDIR(facts.st_mode):
            _take_capacity(volume, formats.inspect(formats.read_header(fd), volume.target.format_name))
    except OSError as error:
        raise system_failure(error, f"cannot read header '{path}'") from None
    finally:
        os.close(fd)
    backing = volume.backing_store
    local = formats.backing_path(path, backing.path) if backing is not None and backing.path else None
    if backing is not None and local is not None:
        with contextlib.suppress(OSError, NotAVolume):
            fd, facts = _open(local)
            try:
                describe(backing, fd, facts)
            finally:
                os.close(fd)


def _open(path: str) -> tuple[int, os.stat_result]:
    # opening a character device can have effects (a watchdog starts to count), and a FIFO's can block: look first
    kind = Path(path).stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind) or stat.S_ISDIR(kind)):
        raise NotAVolume(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    facts = os.fstat(fd)
    if stat.S_IFMT(facts.st_mode) != stat.S_IFMT(kind):
        os.close(fd)
        raise NotAVolume(path)
    return fd, facts


def measure(volume: Volume, fd: int, facts: os.stat_result) -> None:
    """Take sizes, permissions and times from an open file, folder or block device."""
    if stat.S_ISREG(facts.st_mode):
        volume.allocation = facts.st_blocks * 512
        volume.capacity = volume.physical = facts.st_size
    elif stat.S_ISDIR(facts.st_mode):
        volume.allocation = volume.capacity = 0
    else:
        volume.allocation = volume.capacity = volume.physical = os.lseek(fd, 0, os.SEEK_END)
    volume.physical = volume.physical or None  # libvirt leaves out a zero
    describe(volume.target, fd, facts)


def describe(target: VolumeTarget, fd: int, facts: os.stat_result) -> None:
    """Take permissions and times from an open file, folder or block device."""
    target.permissions = Permissions(
        mode=stat.S_IMODE(facts.st_mode) & 0o777, owner=facts.st_uid, group=facts.st_gid, label=_label(fd)
    )
    # the time of birth is 0 with libvirt on Linux
    target.timestamps = Timestamps(
        atime=_time(facts.st_atime_ns), mtime=_time(facts.st_mtime_ns), ctime=_time(facts.st_ctime_ns), btime="0"
    )


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{seconds}.{rest:09}" if rest else str(seconds)


def _label(file: int | str) -> str | None:
    """The SELinux context of a file, if it has one."""
    try:
        return os.getxattr(file, "security.selinux").rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return None


def take_scan(pool: Pool, found: Scan) -> None:
    """Put what a scan found into the pool's document."""
    pool.capacity, pool.allocation, pool.available = found.capacity, found.allocation, found.available
    pool.target = pool.target or PoolTarget()
    pool.target.permissions = found.permissions


def exists(path: str) -> bool:
    """Whether there is anything at ``path``, be it a link to nowhere."""
    return os.path.lexists(path)
