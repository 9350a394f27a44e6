"""The socket of an asyncio connection to a daemon: many calls under way, events and streams over it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from guesthouse.client.link import AUTH_NONE, AUTH_POLKIT, AUTH_SASL, Ask, ConnectionLost
from guesthouse.errors import AuthFailed, GuesthouseError, RPCError
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import BY_NAME

if TYPE_CHECKING:
    from guesthouse.client.aio.stream import Stream
    from guesthouse.client.transport import Channel

_CHUNK = 1 << 18
_HIGH_WATER = 1 << 20  # bytes that wait for the daemon above which a stream's sender waits
_STREAM_HIGH = 4 << 20  # bytes that wait for a stream's reader above which the socket is left alone
_WORDS_TIMEOUT = 0.2  # seconds for a program that has cut us off to say why
_KEEPALIVE = 10  # the feature's number

Where = tuple[int, int, int]
Waiter = asyncio.Future[Any]


class Link:
    """Owns the socket. Once it is lost, every call, stream and wait on it raises :class:`ConnectionLost`.

    A call that is cancelled leaves the link usable: its answer is thrown away when it comes.
    """

    def __init__(self, channel: Channel, on_event: Callable[[wire.Message], None]) -> None:
        channel.sock.setblocking(False)
        self._channel = channel
        self._sock = channel.sock
        self._tunnel = channel.tunnel
        self._fd = self._sock.fileno()
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

    async def authenticate(self, ask: Ask | None = None) -> None:
        """Go through the daemon's authentication; ``ask`` is asked for a name and a password that are written nowhere.
        Raises AuthFailed where it wants what is not known here."""
        (kind, *_) = (await self.call("auth_list")).types or [AUTH_NONE]
        if kind == AUTH_NONE or (kind == AUTH_POLKIT and (await self.call("auth_polkit")).complete == 1):
            return
        if kind == AUTH_SASL:
            from guesthouse.client.sasl import MECHANISM, Login

            login = Login(self._channel.target, (await self.call("auth_sasl_init")).mechlist, ask)
            answer = await self.call("auth_sasl_start", mech=MECHANISM, nil=0, data=login.first())
            while (data := login.answer(answer.complete, answer.data)) is not None:
                answer = await self.call("auth_sasl_step", nil=0 if data else 1, data=data)
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
        ended = not data
        self._heard = time.monotonic()
        self._pings = 0
        try:
            if self._tunnel is not None and data:
                data, ended = self._tunnel.open(data)
                self._transmit(self._tunnel.output())
            if ended and not data:
                self.lose(self._channel.last_words(_WORDS_TIMEOUT) or "client socket is closed")
                return
            for event in self._machine.feed(data, fds):
                self._take(event)
        except ConnectionLost:  # while it was answered
            return
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
        if self._tunnel is not None:
            try:
                data = self._tunnel.seal(data)
            except RPCError as error:
                self.lose(str(error))
                self.check()
        self._transmit(data)

    def _transmit(self, data: bytes) -> None:
        view = memoryview(data)
        if not view:
            return
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
                wake(future)

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
        self._channel.sock.close()
        if self._channel.program is not None:  # it may take its time to end
            self._loop.run_in_executor(None, self._channel.close)
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


def wake(future: Waiter) -> None:
    if not future.done():
        future.set_result(None)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
