"""Copying images of this host: holes stay holes, and blocks may be shared where the file system can."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable

from guesthouse.errors import OperationFailed

_CHUNK = 4 << 20
_FICLONE = 0x40049409


class CopyError(OperationFailed):
    """A file that could not be copied; the text names it."""

    prefix = ""


def copy(
    source: str, target: str, *, sparse: bool = True, reflink: bool = False, moved: Callable[[int, int], None]
) -> int:
    """Copy the file or device ``source`` to ``target``; returns its size in bytes. ``moved`` is told after each chunk
    how many bytes of how many are there, and may raise to end it. With ``sparse`` holes and zeros take no room in a
    file. ``reflink`` shares blocks and copies nothing; where that cannot be it is an error.

    Raises CopyError. A target that was begun stays, for the caller to remove.
    """
    try:
        with open(source, "rb", buffering=0) as old:
            return _copied(old.fileno(), source, target, sparse, reflink, moved)
    except OSError as error:
        raise CopyError(f"cannot copy '{source}' to '{target}': {error.strerror}") from None


def _copied(old: int, source: str, target: str, sparse: bool, reflink: bool, moved: Callable[[int, int], None]) -> int:
    size = os.lseek(old, 0, os.SEEK_END)
    fresh = not os.path.exists(target)  # noqa: PTH110
    new = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if fresh:
            os.fchmod(new, os.fstat(old).st_mode & 0o666)
        if reflink:
            try:
                fcntl.ioctl(new, _FICLONE, old)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY):
                    raise CopyError(f"the file system of '{target}' cannot share blocks with '{source}'") from None
                raise
            moved(size, size)
            return size
        if fresh:
            os.ftruncate(new, size)
            if not sparse and size:
                os.posix_fallocate(new, 0, size)
        # what was on a device before must not shine through the holes
        for start, end in _data(old, size) if fresh else [(0, size)]:
            at = start
            while at < end:
                block = os.pread(old, min(_CHUNK, end - at), at)
                if not block:
                    break
                if not (fresh and sparse) or block.strip(b"\0"):
                    _write(new, block, at)
                at += len(block)
                moved(at, size)
        os.fsync(new)
        moved(size, size)
        return size
    finally:
        os.close(new)


def _data(file: int, size: int) -> list[tuple[int, int]]:
    """The parts of a file that hold data; all of it where nobody knows."""
    found = []
    at = 0
    try:
        while at < size:
            start = os.lseek(file, at, os.SEEK_DATA)
            at = os.lseek(file, start, os.SEEK_HOLE)
            found.append((start, at))
    except OSError as error:
        if error.errno == errno.ENXIO:  # only a hole is left
            return found
        return [(0, size)]
    return found


def _write(file: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    while view:
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done
