"""An asyncio connection to a daemon: many calls under way, events and streams over one socket."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from guesthouse.client.link import AUTH_NONE, AUTH_POLKIT, Callbacks, ConnectionLost, EventCallback
from guesthouse.errors import AuthFailed, Domain, GuesthouseError, InternalError, OperationFailed, RPCError
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import BY_NAME

_CHUNK = 1 << 18
_HIGH_WATER = 1 << 20  # bytes that wait for the daemon above which a stream's sender waits
_STREAM_HIGH = 4 << 20  # bytes that wait for a stream's reader above which the socket is left alone
_EVENTS_MAX = 10_000
_KEEPALIVE = 10  # the feature's number
_LEAVE_TIMEOUT = 5.0

__all__ = ["ConnectionLost", "EventCallback", "Events", "Link", "Session", "Stream"]

Where = tuple[int, int, int]
Waiter = asyncio.Future[Any]


class Link:
    """Owns the socket. Once it is lost, every call, stream and wait on it raises :class:`ConnectionLost`.

    A call that is cancelled leaves the link usable: its answer is thrown away when it comes.
    """

    def __init__(self, sock: socket.socket, on_event: Callable[[wire.Message], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = asyncio.get_running_loop()
        self._machine = wire.Connection()
        self._on_event = on_event
        self._calls: dict[int, asyncio.Future[wire.Reply]] = {}
        self._orphans: dict[int, Where] = {}
        self._streams: dict[Where, Stream] = {}
        self._waiters: set[Waiter] = set()
        self._out: deque[memoryview] = deque()
        self._backlog = 0
        self._drainers: list[Waiter] = []
        self._reading = True
        self._hungry = 0
        self._lost: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = time.monotonic()
        self._pings = 0
        self._loop.add_reader(self._fd, self._readable)

    @property
    def lost(self) -> bool:
        return self._lost is not None

    def check(self) -> None:
        """Raise ConnectionLost where the link is lost."""
        if self._lost is not None:
            raise ConnectionLost(self._lost)

    # -- calls

    async def authenticate(self) -> None:
        """Go through the daemon's authentication. Raises AuthFailed where it asks for what is not known here."""
        (kind, *_) = (await self.call("auth_list")).types or [AUTH_NONE]
        if kind == AUTH_NONE or (kind == AUTH_POLKIT and (await self.call("auth_polkit")).complete == 1):
            return
        raise AuthFailed(f"unsupported authentication type {kind}")

    async def call(self, name: str, /, **args: Any) -> Any:
        """Call the procedure ``name`` and wait; returns its result. Raises the daemon's error."""
        _, future = self._begin(name, args)
        return (await self._answer(future)).value

    async def open_stream(self, stream: Stream, name: str, /, **args: Any) -> tuple[Where, Any]:
        """Call a procedure that opens ``stream``; returns its address and the result. A call that is cancelled leaves
        no stream behind: it is aborted as soon as the daemon says that it was opened."""
        row = BY_NAME[name]
        serial, future = self._begin(name, args)
        where = (row.program, row.number, serial)
        self._streams[where] = stream  # data may follow the reply at once
        try:
            return where, (await self._answer(future)).value
        except BaseException as error:
            self._streams.pop(where, None)
            if future.cancelled():
                self._orphans[serial] = where
            elif not isinstance(error, GuesthouseError):
                self.abort_stream(where)
            raise

    def _begin(self, name: str, args: dict[str, Any]) -> tuple[int, asyncio.Future[wire.Reply]]:
        self.check()
        serial, data = self._machine.call(name, args or None)
        future = self._calls[serial] = self.waiter()
        self.send(data)
        return serial, future

    async def _answer(self, future: asyncio.Future[wire.Reply]) -> wire.Reply:
        self._hungry += 1
        self.pace()
        try:
            reply = await future
        finally:
            self._hungry -= 1
            self.pace()
        _close_all(reply.fds)  # no procedure called here asks for descriptors
        if reply.error is not None:
            raise reply.error
        return reply

    def waiter(self) -> Waiter:
        """A future that fails when the link is lost."""
        future: Waiter = self._loop.create_future()
        self._waiters.add(future)
        future.add_done_callback(self._waiters.discard)
        return future

    # -- what arrives

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(
                _CHUNK, socket.CMSG_SPACE(4 * wire.FDS_MAX), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.lose(f"Cannot read data: {error.strerror}")
            return
        fds: list[int] = []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(content) // 4
                fds.extend(struct.unpack(f"{count}i", content[: 4 * count]))
        if not data:
            self.lose("client socket is closed")
            return
        self._heard = time.monotonic()
        self._pings = 0
        try:
            for event in self._machine.feed(data, fds):
                self._take(event)
        except RPCError as error:
            self.lose(str(error))
        self.pace()

    def _take(self, event: wire.Event) -> None:
        if isinstance(event, wire.Reply):
            future = self._calls.pop(event.serial)
            orphan = self._orphans.pop(event.serial, None)
            if not future.done():
                future.set_result(event)
                return
            _close_all(event.fds)
            if orphan is not None and event.error is None:
                self.abort_stream(orphan)
        elif isinstance(event, wire.Message):
            # not now: who awaits the reply before it may have the registration yet to note
            self._loop.call_soon(self._on_event, event)
        elif isinstance(event, wire.StreamPacket):
            stream = self._streams.get((event.program, event.number, event.serial))
            if stream is not None:  # a stream that has ended: late packets are normal
                stream.packet(event)
        elif isinstance(event, wire.KeepAlive) and event.ping:
            self.send(wire.pong())

    def pace(self) -> None:
        """Leave the socket alone while a stream's reader is behind, unless somebody waits for what comes after."""
        if self._lost is not None:
            return
        wanted = self._hungry > 0 or not any(stream.unread > _STREAM_HIGH for stream in self._streams.values())
        if wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._loop.remove_reader(self._fd)

    # -- what goes

    def send(self, data: bytes) -> None:
        """Send ``data`` now as far as the daemon takes it, the rest when it does."""
        self.check()
        view = memoryview(data)
        if not self._out:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self.lose(f"Cannot write data: {error.strerror}")
                self.check()
            if not view:
                return
            self._loop.add_writer(self._fd, self._writable)
        self._out.append(view)
        self._backlog += len(view)

    def _writable(self) -> None:
        while self._out:
            view = self._out[0]
            try:
                sent = self._sock.send(view)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.lose(f"Cannot write data: {error.strerror}")
                return
            self._backlog -= sent
            if sent < len(view):
                self._out[0] = view[sent:]
                break
            self._out.popleft()
        if not self._out:
            self._loop.remove_writer(self._fd)
        if self._backlog <= _HIGH_WATER:
            drainers, self._drainers = self._drainers, []
            for future in drainers:
                _wake(future)

    async def drained(self) -> None:
        """Wait until little waits for the daemon."""
        while self._backlog > _HIGH_WATER:
            self._drainers.append(self.waiter())
            await self._drainers[-1]

    # -- streams

    def abort_stream(self, where: Where) -> None:
        """End the stream ``where`` by force; no error where the link is lost."""
        self.drop_stream(where)
        if self._lost is None:
            try:
                self.send(wire.stream_abort(where))
            except ConnectionLost:
                pass

    def drop_stream(self, where: Where) -> None:
        self._streams.pop(where, None)
        self.pace()

    async def hunger(self, future: Waiter) -> None:
        """Wait for what a packet yet to arrive makes of ``future``."""
        self._hungry += 1
        self.pace()
        try:
            await future
        finally:
            self._hungry -= 1
            self.pace()

    # -- keepalive and the end

    async def start_keepalive(self, interval: float, count: int) -> None:
        """Ping after ``interval`` seconds of silence; after ``count`` unanswered pings the link is lost. Does nothing
        where the daemon knows no keepalive."""
        if (await self.call("connect_supports_feature", feature=_KEEPALIVE)).supported:
            self._timer = self._loop.call_later(interval, self._keepalive, interval, count)

    def _keepalive(self, interval: float, count: int) -> None:
        silent = time.monotonic() - self._heard
        if not self._reading:
            # its answers wait unread: tell the daemon that we live, and expect nothing
            self.send_ping()
            silent = 0
        elif silent >= interval:
            if self._pings >= count:
                self.lose("connection closed due to keepalive timeout")
                return
            self._pings += 1
            self.send_ping()
            silent = 0
        if self._lost is None:
            self._timer = self._loop.call_later(interval - silent, self._keepalive, interval, count)

    def send_ping(self) -> None:
        try:
            self.send(wire.ping())
        except ConnectionLost:
            pass

    def lose(self, reason: str) -> None:
        """The end: everything that waits fails by ``reason``, and so does what is asked later."""
        if self._lost is not None:
            return
        self._lost = reason
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        _close_all(self._machine.leftovers())
        self._out.clear()
        self._backlog = 0
        self._calls.clear()
        self._streams.clear()
        for future in tuple(self._waiters):
            if not future.done():
                future.set_exception(ConnectionLost(reason))
                future.exception()  # who was cancelled meanwhile leaves no complaint behind

    def close(self) -> None:
        self.lose("client socket is closed")


def _wake(future: Waiter) -> None:
    if not future.done():
        future.set_result(None)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


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
            _wake(future)

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
                _wake(future)

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


class Session:
    """What every connection has, whatever is asked over it: calls by name, streams, events, an end."""

    def __init__(self, sock: socket.socket, uri: str) -> None:
        self._link = Link(sock, self._event)
        self._uri = uri
        self._registering = asyncio.Lock()
        self.callbacks = Callbacks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, name: str, /, **args: Any) -> Any:
        """Any procedure by its name in the table; returns its result record. Raises the daemon's error."""
        return await self._link.call(name, **args)

    @property
    def lost(self) -> bool:
        """Whether the daemon is gone or the connection was closed."""
        return self._link.lost

    async def close(self) -> None:
        """Take leave and close; never raises, the daemon may be gone. What still waits gets ConnectionLost."""
        try:
            await asyncio.wait_for(self._link.call("connect_close"), _LEAVE_TIMEOUT)
        except Exception:
            pass
        finally:
            self._link.close()

    async def open(self, name: str, flags: int, keepalive_interval: float, keepalive_count: int) -> None:
        """Authenticate and open the daemon's driver ``name``; keepalive where the interval is not 0."""
        await self._link.authenticate()
        if keepalive_interval > 0:
            await self._link.start_keepalive(keepalive_interval, keepalive_count)
        await self._link.call("connect_open", name=name, flags=flags)

    def abandon(self) -> None:
        """Close without a word."""
        self._link.close()

    def new_stream(self) -> Stream:
        return Stream(self._link)

    def get_uri(self) -> str:
        """The URI of this connection, as it was given."""
        return self._uri

    async def register_event(self, scope: str, event_id: int, ref: Any, callback: EventCallback) -> int:
        """Have ``callback(message)`` called with each event's record; returns a number for
        :meth:`event_deregister_any`. ``ref`` limits it to one object, None means all."""
        key = self.callbacks.key(scope, event_id, ref)
        async with self._registering:
            number = self.callbacks.number(key)
            if number is None:
                procedure = self.callbacks.procedure(scope, "register")
                number = (await self.call(procedure, **self.callbacks.arguments(scope, event_id, ref))).callbackID
            return self.callbacks.add(key, number, callback)

    async def event_deregister_any(self, number: int) -> None:
        """End the registration ``number``, of whatever kind it is."""
        async with self._registering:
            if found := self.callbacks.remove(number):
                await self.call(found[0], callbackID=found[1])

    def events(self, scope: str, event_id: int, ref: Any = None, *, limit: int = _EVENTS_MAX) -> Events:
        """The events ``event_id`` of a ``scope`` ("domain", "network", "storage_pool"), of ``ref`` alone or of all,
        to iterate over inside ``async with``."""
        return Events(self, self._link, scope, event_id, ref, limit)

    def _event(self, message: wire.Message) -> None:
        for callback in self.callbacks.find(message):
            try:
                callback(message.value)
            except Exception as error:
                context = {"message": f"the callback of {message.row.name} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


class Events:
    """An event registration as an asynchronous iterator over the events' records; ends with its ``async with``.

    Raises ConnectionLost when the connection is lost, and OperationFailed where more than ``limit`` events waited:
    those after them were not kept.
    """

    def __init__(self, session: Session, link: Link, scope: str, event_id: int, ref: Any, limit: int) -> None:
        Callbacks.key(scope, event_id, ref)
        self._session = session
        self._link = link
        self._what = (scope, event_id, ref)
        self._limit = limit
        self._queue: deque[Any] = deque()
        self._missed = False
        self._waiter: Waiter | None = None
        self._number = -1

    async def __aenter__(self) -> Self:
        self._number = await self._session.register_event(*self._what, self._put)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._session.event_deregister_any(self._number)
        except ConnectionLost:
            pass

    def _put(self, value: Any) -> None:
        if len(self._queue) >= self._limit:
            self._missed = True
        else:
            self._queue.append(value)
        if self._waiter is not None:
            _wake(self._waiter)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._queue:
            if self._missed:
                raise OperationFailed(f"more than {self._limit} events waited, some were lost", domain=Domain.EVENT)
            self._link.check()
            self._waiter = self._link.waiter()
            await self._waiter
        return self._queue.popleft()
