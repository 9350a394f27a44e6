"""Streams of an asyncio connection."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Self

from guesthouse.client.aio.link import Link, Waiter, Where, wake
from guesthouse.errors import Domain, GuesthouseError, InternalError
from guesthouse.wire import connection as wire

_CHUNK = 1 << 18


class Stream:
    """Data that flows beside calls: a console, a screenshot, a volume's content. Ends with finish or abort.

    One task may read while another sends. As a context manager it finishes at the end, or aborts at an exception; to
    iterate over it reads to the end of the data.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._where: Where | None = None
        self._inbox: deque[bytes | int] = deque()  # data, or the length of a hole
        self._eof = False
        self._finished = False
        self._ignore = False
        self._error: GuesthouseError | None = None
        self._waiters: list[Waiter] = []
        #: bytes that have arrived and were not read
        self.unread = 0

    async def start(self, name: str, /, **args: Any) -> Any:
        """Open the stream by the procedure ``name``; returns its result. Raises the daemon's error."""
        self._where, value = await self._link.open_stream(self, name, **args)
        return value

    def packet(self, packet: wire.StreamPacket) -> None:
        """What has arrived for this stream."""
        if packet.status == wire.ERROR:
            self._error = packet.error or InternalError("stream aborted by the server", domain=Domain.STREAMS)
            self._link.drop_stream((packet.program, packet.number, packet.serial))
        elif packet.status == wire.OK:
            self._eof = self._finished = True
        elif not packet.hole and not packet.data:
            self._eof = True
        elif not self._ignore:
            self._inbox.append(packet.hole or packet.data)
            self.unread += len(packet.data)
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            wake(future)

    async def recv(self, limit: int) -> bytes:
        """Up to ``limit`` bytes, at least one; b"" at the end of the data. Raises the daemon's error if it ended the
        stream by one. Holes read as zeros."""
        if not await self._fill():
            return b""
        first = self._inbox.popleft()
        if isinstance(first, int):
            if first > limit:
                self._inbox.appendleft(first - limit)
            return bytes(min(first, limit))
        if len(first) > limit:
            self._inbox.appendleft(first[limit:])
            first = first[:limit]
        self.unread -= len(first)
        self._link.pace()
        return first

    async def recv_hole(self) -> int:
        """The length of the hole that comes next, which is then behind; 0 where data or the end comes next."""
        if await self._fill() and isinstance(self._inbox[0], int):
            return int(self._inbox.popleft())
        return 0

    async def _fill(self) -> bool:
        """Wait for data or a hole; False at the end."""
        while not self._inbox:
            self._check()
            if self._eof:
                return False
            await self._news()
        return True

    async def send_hole(self, length: int) -> None:
        """Send a hole, on a stream that was opened for it. Raises the daemon's error if it ended the stream."""
        self._link.send(wire.stream_hole(self._open(), length))
        await self._link.drained()

    async def send(self, data: bytes) -> None:
        """Send all of ``data``, no faster than the daemon takes it. Raises its error if it ended the stream meanwhile;
        where this is cancelled a part of ``data`` may have been sent."""
        if not data:
            return  # no data at all would mean its end
        for packet in wire.stream_data(self._open(), data):
            self._open()
            self._link.send(packet)
            await self._link.drained()

    async def finish(self) -> None:
        """End the stream in order and wait for the daemon's word that all has arrived. Raises its error."""
        where = self._open()
        self._ignore = True
        self._inbox.clear()
        self.unread = 0
        try:
            self._link.send(wire.stream_finish(where))
            while not self._finished:
                self._check()
                await self._news()
        finally:
            self._link.drop_stream(where)
            self._where = None

    async def abort(self) -> None:
        """End the stream by force; what was sent may be lost. No error where it has ended already."""
        if self._where is not None:
            where, self._where = self._where, None
            if self._error is None:
                self._link.abort_stream(where)
            self._eof = True
            waiters, self._waiters = self._waiters, []
            for future in waiters:
                wake(future)

    async def _news(self) -> None:
        future = self._link.waiter()
        self._waiters.append(future)
        await self._link.hunger(future)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        self._link.check()

    def _open(self) -> Where:
        self._check()
        if self._where is None:
            raise InternalError("stream is not open", domain=Domain.STREAMS)
        return self._where

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None and self._where is not None:
            await self.finish()
        else:
            await self.abort()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.recv(_CHUNK):
            yield data
