"""The contents of volumes as streams. The disk is waited for in threads."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable

from guesthouse.errors import Domain, InvalidArg, SystemFailure
from guesthouse.services.streams import Hole
from guesthouse.storage.images import clear, write_all

_CHUNK = 1 << 20
_OFFSETS = 2**63


def _open(path: str, mode: int, offset: int, length: int) -> int:
    if offset >= _OFFSETS or length >= _OFFSETS:
        raise InvalidArg(f"Unable to seek {path} to {offset}", domain=Domain.STREAMS)
    try:
        return os.open(path, mode | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to open stream for '{path}'", domain=Domain.STREAMS) from None


class _FileStream:
    """An open file. ``on_close`` is called once, when the stream is over."""

    def __init__(self, path: str, mode: int, offset: int, length: int) -> None:
        self._path = path
        self._fd = _open(path, mode, offset, length)
        self._at = offset
        self._end = offset + length if length else None
        self._busy = asyncio.Lock()
        self.on_close: Callable[[], None] | None = None

    def _left(self, wanted: int) -> int:
        return wanted if self._end is None else max(0, min(wanted, self._end - self._at))

    async def _close(self) -> None:
        async with self._busy:
            if self._fd < 0:
                return
            fd, self._fd = self._fd, -1
            os.close(fd)
        if self.on_close is not None:
            self.on_close()

    async def finish(self) -> None:
        await self._close()

    async def abort(self) -> None:
        await self._close()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class Download(_FileStream):
    """The bytes of a file from ``offset`` on, ``length`` of them (0 for all); with holes where ``sparse``."""

    def __init__(self, path: str, offset: int, length: int, *, sparse: bool) -> None:
        super().__init__(path, os.O_RDONLY, offset, length)
        self._sparse = sparse and stat.S_ISREG(os.fstat(self._fd).st_mode)  # devices have no holes

    async def read(self, limit: int) -> bytes | Hole:
        async with self._busy:
            if self._fd < 0:
                return b""
            data = await asyncio.to_thread(self._next, min(limit, _CHUNK))
            self._at += data.length if isinstance(data, Hole) else len(data)
            return data

    def _next(self, limit: int) -> bytes | Hole:
        try:
            if self._sparse:
                hole = self._hole()
                if hole:
                    return Hole(hole)
                stop = os.lseek(self._fd, self._at, os.SEEK_HOLE) if self._at < self._size() else self._at
                limit = min(limit, stop - self._at)
            return os.pread(self._fd, self._left(limit), self._at)
        except OSError as error:
            what = f"Unable to read {self._path}"
            raise SystemFailure.from_os(error, what, domain=Domain.STREAMS) from None

    def _size(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_END)

    def _hole(self) -> int:
        """How many bytes of hole begin here, 0 for none."""
        size = self._size()
        if self._at >= size:
            return 0
        try:
            data = os.lseek(self._fd, self._at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = size
        return self._left(data - self._at)

    async def write(self, data: bytes | Hole) -> None:
        raise InvalidArg("a download takes no data", domain=Domain.STREAMS)


class Upload(_FileStream):
    """Bytes and holes into a file from ``offset`` on; more than ``length`` of them (unless 0) is an error."""

    def __init__(self, path: str, offset: int, length: int) -> None:
        super().__init__(path, os.O_WRONLY, offset, length)

    async def read(self, limit: int) -> bytes | Hole:
        return b""

    async def write(self, data: bytes | Hole) -> None:
        length = data.length if isinstance(data, Hole) else len(data)
        async with self._busy:
            if self._fd < 0:
                raise InvalidArg("the stream is closed", domain=Domain.STREAMS)
            if self._left(length) < length:
                error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise SystemFailure.from_os(error, "cannot write to stream", domain=Domain.STREAMS)
            await asyncio.to_thread(self._put, data)
            self._at += length

    def _put(self, data: bytes | Hole) -> None:
        try:
            if isinstance(data, Hole):
                clear(self._fd, self._at, data.length)
            else:
                write_all(self._fd, data, self._at)
        except OSError as error:
            what = f"Unable to write {self._path}"
            raise SystemFailure.from_os(error, what, domain=Domain.STREAMS) from None
