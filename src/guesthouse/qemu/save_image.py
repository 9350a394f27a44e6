"""The file of a saved guest: its document, and what QEMU wrote of its memory and devices.

    0       header: magic, version, slot size, where the stream begins; one page
    4096    two slots, each with a generation, a length, a checksum and JSON; the newer whole one counts
    ...     the migration stream, on a page boundary, to the end of the file

A changed document goes into the slot that does not count, so that a crash leaves the old one. Numbers are little
endian. The file is its owner's alone: it holds the guest's memory and the document's secrets.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from guesthouse.errors import OperationFailed, SystemFailure

_MAGIC = b"GuesthouseSaved\n"
_VERSION = 1
_PAGE = 4096
_HEADER = struct.Struct("<16sIIQ")
_SLOT = struct.Struct("<QII")
_MIN_SLOT = 64 * 1024


@dataclass(frozen=True)
class Saved:
    """``xml`` is the document that the guest is started with, secrets included; ``running`` whether it runs then.
    ``cpu`` is the <cpu> that the guest had, where it is another than the document asks for, else ""."""

    xml: str
    running: bool
    cpu: str = ""


class Draft:
    """An image while it is written, beside its target in the same folder: :meth:`commit` makes it the target in one
    step, :meth:`discard` leaves what was there. ``fd`` stands at the beginning of the stream."""

    def __init__(self, target: Path, mark: str) -> None:
        """``mark`` makes the draft's name its own. Raises SystemFailure."""
        self.target = Path(os.path.realpath(target))
        self.path = draft_path(self.target, mark)
        try:
            if self.target.is_dir():
                raise IsADirectoryError(21, os.strerror(21))
            self.path.unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Failed to create file '{target}'") from None

    def begin(self, saved: Saved) -> None:
        """Write all that comes before the stream. Raises SystemFailure."""
        body = _body(saved)
        slot = -(-max(_MIN_SLOT, 2 * len(body)) // _PAGE) * _PAGE
        try:
            _write(self.fd, _HEADER.pack(_MAGIC, _VERSION, slot, _PAGE + 2 * slot), 0)
            _write(self.fd, _filled(body, 1), _PAGE)
            os.ftruncate(self.fd, _PAGE + 2 * slot)
            os.lseek(self.fd, _PAGE + 2 * slot, os.SEEK_SET)
        except OSError as error:
            raise SystemFailure.from_os(error, f"failed to write header to domain save file '{self.target}'") from None

    def flush(self, *, drop: bool = False) -> None:
        """Have everything on the disk; ``drop``: and no longer in the host's cache. Raises SystemFailure."""
        try:
            os.fsync(self.fd)
            if drop:
                os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise SystemFailure.from_os(error, f"unable to save file '{self.target}'") from None

    def commit(self) -> None:
        """Put it in its place. Raises SystemFailure."""
        commit(self.path, self.target)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self.fd)


def draft_path(target: Path, mark: str) -> Path:
    return target.parent / f".guesthouse-{mark}.draft"


def commit(draft: Path, target: Path) -> None:
    """Rename a finished draft, for good. Raises SystemFailure."""
    try:
        draft.replace(target)
        sync_folder(target)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Failed to create file '{target}'") from None


def sync_folder(path: Path) -> None:
    """Have the entry of ``path`` in its folder on the disk. Raises OSError."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_image(path: str | Path, *, write: bool = False) -> tuple[int, Saved]:
    """A descriptor at the beginning of the stream, and what was saved. Raises SystemFailure where the file cannot be
    opened, OperationFailed where it is no image."""
    try:
        fd = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Failed to open file '{path}'") from None
    try:
        slot, stream = _header(fd)
        _, saved = _newest(fd, slot)
        os.lseek(fd, stream, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise OperationFailed("failed to read qemu header") from None
    except BaseException:
        os.close(fd)
        raise
    return fd, saved


def read(path: str | Path) -> Saved:
    """What was saved. Raises as :func:`open_image` does."""
    fd, saved = open_image(path)
    os.close(fd)
    return saved


def rewrite(path: str | Path, saved: Saved) -> None:
    """Change what is saved beside the stream. A crash leaves the old or the new. Raises as :func:`open_image` does,
    and OperationFailed where the document does not fit."""
    fd, _ = open_image(path, write=True)
    try:
        slot, _ = _header(fd)
        generation, _ = _newest(fd, slot)
        body = _body(saved)
        if len(body) + _SLOT.size > slot:
            raise OperationFailed("new xml too large to fit in file")
        generation += 1
        _write(fd, _filled(body, generation), _place(slot, generation))
        os.fsync(fd)
    except OSError as error:
        raise SystemFailure.from_os(error, f"failed to write header to domain save file '{path}'") from None
    finally:
        os.close(fd)


def _header(fd: int) -> tuple[int, int]:
    """Slot size and where the stream begins."""
    data = os.pread(fd, _HEADER.size, 0)
    if len(data) < _HEADER.size:
        raise OperationFailed("failed to read qemu header")
    magic, version, slot, stream = _HEADER.unpack(data)
    if magic != _MAGIC:
        raise OperationFailed("image magic is incorrect")
    if version != _VERSION:
        raise OperationFailed(f"image version is not supported ({version} > {_VERSION})")
    return slot, stream


def _newest(fd: int, slot: int) -> tuple[int, Saved]:
    """Generation and content of the slot that counts."""
    found = []
    for number in (0, 1):
        generation, length, checksum = _SLOT.unpack(os.pread(fd, _SLOT.size, _PAGE + number * slot).ljust(16, b"\0"))
        body = os.pread(fd, min(length, slot), _PAGE + number * slot + _SLOT.size)
        if generation and len(body) == length and zlib.crc32(body) == checksum:
            found.append((generation, body))
    if not found:
        raise OperationFailed("failed to read XML")
    generation, body = max(found)
    record = json.loads(body)
    return generation, Saved(record["xml"], record["running"], record.get("cpu", ""))


def _place(slot: int, generation: int) -> int:
    return _PAGE + (generation + 1) % 2 * slot


def _body(saved: Saved) -> bytes:
    return json.dumps({"xml": saved.xml, "running": saved.running, "cpu": saved.cpu}).encode()


def _filled(body: bytes, generation: int) -> bytes:
    return _SLOT.pack(generation, len(body), zlib.crc32(body)) + body


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done
