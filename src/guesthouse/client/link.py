"""A blocking connection to a daemon: calls, events and streams over one socket, without an event loop."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from guesthouse.errors import AuthFailed, Domain, GuesthouseError, InternalError, RPCError, SystemFailure
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import BY_NAME, EVENT_BY_ID

_CHUNK = 1 << 18
AUTH_NONE, AUTH_SASL, AUTH_POLKIT = 0, 1, 2

EventCallback = Callable[..., None]


class ConnectionLost(InternalError):
    """The daemon is gone, or the connection was closed: no call on it can succeed any more."""

    default_domain = Domain.RPC


class Callbacks:
    """The event registrations of a connection, by the numbers that the daemon gave them."""

    def __init__(self) -> None:
        self._callbacks: dict[tuple[str, int], EventCallback] = {}
        self._scopes: dict[int, str] = {}

    def add(self, scope: str, event_id: int, number: int, callback: EventCallback) -> int:
        """Note the registration ``number``; returns it."""
        self._callbacks[EVENT_BY_ID[scope, event_id].procedure, number] = callback
        self._scopes[number] = scope
        return number

    def remove(self, number: int) -> str:
        """Forget the registration ``number``; returns the procedure that ends it at the daemon."""
        scope = self._scopes.pop(number)
        for key in [key for key in self._callbacks if key[1] == number]:
            del self._callbacks[key]
        return f"connect_{'domain_event_callback' if scope == 'domain' else f'{scope}_event'}_deregister_any"

    def find(self, message: wire.Message) -> EventCallback | None:
        """Who asked for ``message``; None where nobody does any more."""
        return self._callbacks.get((message.row.name, getattr(message.value, "callbackID", -1)))


class Link:
    """Owns the socket. After an error of the socket or the protocol the link is dead: every call raises it again."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._machine = wire.Connection()
        self._replies: dict[int, wire.Reply] = {}
        self._dead: GuesthouseError | None = None
        self.events: deque[wire.Message] = deque()
        self.streams: dict[tuple[int, int, int], deque[wire.StreamPacket]] = {}

    def fileno(self) -> int:
        return self._sock.fileno()

    def authenticate(self) -> None:
        """Go through the daemon's authentication. Raises AuthFailed where it asks for what is not known here."""
        (kind, *_) = self.call("auth_list").types or [AUTH_NONE]
        if kind == AUTH_NONE:
            return
        if kind == AUTH_POLKIT and self.call("auth_polkit").complete == 1:
            return
        raise AuthFailed(f"unsupported authentication type {kind}")

    def call(self, name: str, /, **args: Any) -> Any:
        """Call the procedure ``name`` and wait; returns its result. Raises the daemon's error."""
        serial, data = self._machine.call(name, args or None)
        self.send(data)
        while serial not in self._replies:
            self._receive()
        reply = self._replies.pop(serial)
        if reply.error is not None:
            raise reply.error
        return reply.value

    def open_stream(self, name: str, /, **args: Any) -> tuple[tuple[int, int, int], Any]:
        """Call a procedure that opens a stream; returns the stream's address and the result."""
        serial, data = self._machine.call(name, args)
        row = BY_NAME[name]
        where = (row.program, row.number, serial)
        self.streams[where] = deque()  # data may follow the reply at once
        try:
            self.send(data)
            while serial not in self._replies:
                self._receive()
            reply = self._replies.pop(serial)
            if reply.error is not None:
                raise reply.error
        except BaseException:
            self.streams.pop(where, None)
            raise
        return where, reply.value

    def send(self, data: bytes) -> None:
        if self._dead is not None:
            raise self._dead
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise self._die(SystemFailure.from_os(error, "Cannot write data", domain=Domain.RPC)) from None

    def wait(self, timeout: float | None) -> bool:
        """Take in what arrives within ``timeout`` seconds (None: for ever); whether anything did."""
        if self._dead is not None:
            raise self._dead
        if timeout is not None and not select.select([self._sock], [], [], timeout)[0]:
            return False
        self._receive()
        return True

    def _receive(self) -> None:
        if self._dead is not None:
            raise self._dead
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_CHUNK, socket.CMSG_SPACE(4 * wire.FDS_MAX))
        except OSError as error:
            raise self._die(SystemFailure.from_os(error, "Cannot read data", domain=Domain.RPC)) from None
        if not data:
            raise self._die(ConnectionLost("client socket is closed"))
        fds: list[int] = []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(content) // 4
                fds.extend(struct.unpack(f"{count}i", content[: 4 * count]))
        try:
            found = self._machine.feed(data, fds)
        except RPCError as error:
            raise self._die(error) from None
        for event in found:
            if isinstance(event, wire.Reply):
                self._replies[event.serial] = event
            elif isinstance(event, wire.Message):
                self.events.append(event)
            elif isinstance(event, wire.StreamPacket):
                queue = self.streams.get((event.program, event.number, event.serial))
                if queue is not None:  # a stream that has ended: late packets are normal
                    queue.append(event)
            elif isinstance(event, wire.KeepAlive) and event.ping:
                self.send(wire.pong())

    def _die(self, error: GuesthouseError) -> GuesthouseError:
        self._dead = error
        self._sock.close()
        return error

    def close(self) -> None:
        self._dead = self._dead or ConnectionLost("client socket is closed")
        self._sock.close()


class Stream:
    """Data that flows beside calls: a console, a screenshot, a volume's content. Ends with finish or abort."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._where: tuple[int, int, int] | None = None
        self._rest = b""
        self._hole = 0
        self._eof = False

    def start(self, name: str, /, **args: Any) -> Any:
        """Open the stream by the procedure ``name``; returns its result. Raises the daemon's error."""
        self._where, value = self._link.open_stream(name, **args)
        return value

    def fileno(self) -> int:
        """The connection's descriptor, to select on; then :meth:`recv` with ``wait=False``."""
        return self._link.fileno()

    def recv(self, limit: int, *, wait: bool = True) -> bytes | None:
        """Up to ``limit`` bytes; b"" at the end of the data; None where ``wait`` is off and nothing is there.
        Raises the daemon's error if it ended the stream by one. Holes read as zeros."""
        if not self._fill(wait):
            return None
        if self._hole:
            count = min(self._hole, limit)
            self._hole -= count
            return bytes(count)
        data, self._rest = self._rest[:limit], self._rest[limit:]
        return data

    def recv_hole(self) -> int:
        """The length of the hole that comes next, which is then behind; 0 where data or the end comes next."""
        self._fill(True)
        length, self._hole = self._hole, 0
        return length

    def _fill(self, wait: bool) -> bool:
        """Have data, a hole or the end at hand; False where ``wait`` is off and nothing is there."""
        while not (self._rest or self._hole or self._eof):
            packet = self._next(wait)
            if packet is None:
                return False
            if packet.status == wire.CONTINUE and packet.hole:
                self._hole = packet.hole
            elif packet.status == wire.CONTINUE and packet.data:
                self._rest = packet.data
            else:
                self._eof = True
        return True

    def send(self, data: bytes) -> None:
        """Send all of ``data``. Raises the daemon's error if it ended the stream meanwhile."""
        self._send(wire.stream_data(self._open(), data))

    def send_hole(self, length: int) -> None:
        """Send a hole, on a stream that was opened for it. Raises the daemon's error if it ended the stream."""
        self._send([wire.stream_hole(self._open(), length)])

    def _send(self, packets: list[bytes]) -> None:
        for packet in packets:
            self._link.send(packet)
        while self._link.wait(0):
            pass
        self._raise_error()

    def finish(self) -> None:
        """End the stream in order and wait for the daemon's word that all has arrived. Raises its error."""
        where = self._open()
        try:
            self._raise_error()
            self._link.send(wire.stream_finish(where))
            while True:
                packet = self._next(True)
                assert packet is not None
                if packet.status == wire.OK:
                    return
        finally:
            self._link.streams.pop(where, None)
            self._where = None

    def abort(self) -> None:
        """End the stream by force; what was sent may be lost."""
        if self._where is None:
            return
        where, self._where = self._where, None
        self._link.streams.pop(where, None)
        self._link.send(wire.stream_abort(where))

    def _open(self) -> tuple[int, int, int]:
        if self._where is None:
            raise InternalError("stream is not open", domain=Domain.STREAMS)
        return self._where

    def _next(self, wait: bool) -> wire.StreamPacket | None:
        where = self._open()
        queue = self._link.streams[where]
        while not queue:
            if not self._link.wait(None if wait else 0):
                return None
        packet = queue.popleft()
        if packet.status == wire.ERROR:
            self._link.streams.pop(where, None)
            self._where = None
            raise packet.error or InternalError("stream aborted by the server", domain=Domain.STREAMS)
        return packet

    def _raise_error(self) -> None:
        queue = self._link.streams.get(self._open(), ())
        for packet in list(queue):
            if packet.status == wire.ERROR:
                self._link.streams.pop(self._open(), None)
                self._where = None
                raise packet.error or InternalError("stream aborted by the server", domain=Domain.STREAMS)


class Session:
    """What every connection has, whatever is asked over it: calls by name, streams, events, an end."""

    def __init__(self, link: Link, uri: str) -> None:
        self._link = link
        self._uri = uri
        self.callbacks = Callbacks()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, /, **args: Any) -> Any:
        """Any procedure by its name in the table; returns its result record. Raises the daemon's error."""
        return self._link.call(name, **args)

    def fileno(self) -> int:
        return self._link.fileno()

    def close(self) -> None:
        """Take leave and close; never raises, the daemon may be gone."""
        try:
            self._link.call("connect_close")
        except Exception:
            pass
        self._link.close()

    def new_stream(self) -> Stream:
        return Stream(self._link)

    def get_uri(self) -> str:
        """The URI of this connection, as it was given."""
        return self._uri

    def dispatch_events(self, timeout: float | None = None) -> int:
        """Call the callbacks of the events at hand; where there are none, wait up to ``timeout`` seconds (None: for
        ever) for some. Returns how many were called. Raises when the connection is lost."""
        deadline = None if timeout is None else time.monotonic() + timeout
        done = 0
        while True:
            while self._link.events:
                message = self._link.events.popleft()
                callback = self.callbacks.find(message)
                if callback is not None:
                    callback(message.value)
                    done += 1
            left = None if deadline is None else deadline - time.monotonic()
            if done or (left is not None and left <= 0):
                return done
            self._link.wait(left)
