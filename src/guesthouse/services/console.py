"""Streams of guests: a console both ways, and bytes that are at hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from guesthouse.errors import SystemFailure
from guesthouse.services.streams import Hole


class BytesStream:
    """A picture, or anything else that is there already."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    async def read(self, limit: int) -> bytes | Hole:
        piece, self._data = self._data[:limit], self._data[limit:]
        return bytes(piece)

    async def write(self, data: bytes | Hole) -> None:
        pass

    async def finish(self) -> None:
        pass

    async def abort(self) -> None:
        pass


class DescriptorStream:
    """What an open file that does not block gives and takes. It is closed with the stream; then ``closed`` is called,
    once."""

    def __init__(self, fd: int, closed: Callable[[], None]) -> None:
        self._fd = fd
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._wake: set[asyncio.Future[None]] = set()

    async def read(self, limit: int) -> bytes | Hole:
        while not self._ended:
            try:
                return os.read(self._fd, limit)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            except OSError:  # QEMU has closed its side: the guest is gone
                return b""
        return b""

    async def write(self, data: bytes | Hole) -> None:
        rest = memoryview(data if isinstance(data, bytes) else bytes(data.length))
        while rest and not self._ended:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)
            except OSError:
                return

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        future = self._loop.create_future()
        self._wake.add(future)

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        add(self._fd, wake)
        try:
            await future
        finally:
            self._wake.discard(future)
            if not self._ended:
                remove(self._fd)

    def end(self) -> None:
        """End of file for whoever reads; the file is closed."""
        if self._ended:
            return
        self._ended = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        os.close(self._fd)
        for future in self._wake:
            if not future.done():
                future.set_result(None)
        self._closed()

    async def finish(self) -> None:
        self.end()

    async def abort(self) -> None:
        self.end()


class PtyStream(DescriptorStream):
    """A pseudo-terminal of QEMU's. ``closed`` is called once, when the stream has ended. Raises SystemFailure."""

    def __init__(self, path: str, closed: Callable[[], None]) -> None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot open the console '{path}'") from None
        super().__init__(fd, closed)
