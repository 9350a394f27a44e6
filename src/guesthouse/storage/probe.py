"""What is on a block device: a file system, a partition table, part of a volume group. libblkid's program says."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from guesthouse.errors import (
    Domain,
    OperationFailed,
    OperationInvalid,
    StoragePoolBuilt,
    StorageProbeFailed,
    SystemFailure,
)
from guesthouse.storage.work import ask, in_thread

#: Labels of disks that libblkid knows by libvirt's names.
_TABLES = ("dos", "gpt", "mac", "bsd", "sun")
#: Labels of disks that are known to libvirt alone.
_OTHER_TABLES = ("dvh", "pc98", "lvm2")
_NOTHING, _AMBIGUOUS = 2, 8
_END = 1 << 20


async def contents(device: str) -> tuple[str, str]:
    """The kind of file system (or member of something larger) and of partition table on ``device``, "" for none.

    Raises StorageProbeFailed where it cannot be read.
    """
    if not await in_thread(lambda check: os.access(device, os.R_OK)):
        text = f"Failed to create filesystem probe for device {device}"
        raise StorageProbeFailed(text, domain=Domain.STORAGE)
    code, text, words = await ask("/sbin/blkid", "-p", "-o", "export", device)
    if code == _AMBIGUOUS:
        return "ambiguous", ""
    if code not in (0, _NOTHING):
        raise StorageProbeFailed(words or f"blkid ended with {code}", domain=Domain.STORAGE)
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return fields.get("TYPE", ""), fields.get("PTTYPE", "")


async def check_empty(device: str, format_: str) -> None:
    """Raises StoragePoolBuilt or OperationFailed unless ``device`` has nothing on it that ``format_`` would destroy;
    StorageProbeFailed where nobody can tell."""
    system, table = await contents(device)
    if not system and not table:
        return
    if format_ in (system, table):
        raise StoragePoolBuilt(f"Device '{device}' already formatted using '{format_}'", domain=Domain.STORAGE)
    if format_ in _OTHER_TABLES or (table and format_ not in _TABLES):
        raise _other_label()
    text = f"Format of device '{device}' does not match the expected format '{format_}', forced overwrite is necessary"
    raise StoragePoolBuilt(text, domain=Domain.STORAGE)


async def check_label(device: str, format_: str) -> None:
    """Raises unless ``device`` has a partition table of that kind: StorageProbeFailed where it has none,
    OperationInvalid or OperationFailed where it has another."""
    _, table = await contents(device)
    if format_ in _OTHER_TABLES:
        if table:
            raise _other_label()
        raise OperationFailed("Unrecognized disk label found, requires build", domain=Domain.STORAGE)
    if not table:
        raise StorageProbeFailed(f"Device '{device}' is unrecognized, requires build", domain=Domain.STORAGE)
    if table != format_:
        text = f"Format of device '{device}' does not match the expected format '{format_}'"
        raise OperationInvalid(text, domain=Domain.STORAGE)


def _other_label() -> OperationFailed:
    text = "Known, but different label format present, requires build --overwrite"
    return OperationFailed(text, domain=Domain.STORAGE)


def clear_ends(device: str) -> None:
    """Overwrite where labels are: the first and the last MiB of ``device``. Raises SystemFailure."""
    try:
        fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        what = f"Failed to open storage volume with path '{device}'"
        raise SystemFailure.from_os(error, what, domain=Domain.STORAGE) from None
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        os.pwrite(fd, bytes(min(_END, size)), 0)
        os.pwrite(fd, bytes(min(_END, size)), max(0, size - _END))
        os.fsync(fd)
    except OSError as error:
        what = f"Failed to write to storage volume with path '{device}'"
        raise SystemFailure.from_os(error, what, domain=Domain.STORAGE) from None
    finally:
        os.close(fd)


async def settle() -> None:
    """Wait until udev, where there is one, has made the nodes of new devices."""
    if shutil.which("udevadm") and Path("/run/udev/control").exists():
        with suppress(OSError):
            await ask("udevadm", "settle")
