"""A blocking connection to a daemon: calls, events and streams over one socket, without an event loop."""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

from guesthouse.errors import AuthFailed, Domain, GuesthouseError, InternalError, RPCError, SystemFailure
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import BY_NAME, EVENT_BY_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client.transport import Channel

_CHUNK = 1 << 18
AUTH_NONE, AUTH_SASL, AUTH_POLKIT = 0, 1, 2

EventCallback = Callable[..., None]
# asked for a "name" or a "password" with a prompt; None: there is no answer
Ask = Callable[[str, str], str | None]
EventKey = tuple[str, int, str | None]  # scope, event id, what it is limited to


class ConnectionLost(InternalError):
    """The daemon is gone, or the connection was closed: no call on it can succeed any more."""

    default_domain = Domain.RPC


# how a registration names the object that it is limited to
_REFS = {"domain": "dom", "network": "net", "storage_pool": "pool", "node_device": "dev", "secret": "secret"}


class Callbacks:
    """The event registrations of a connection. Equal ones share one at the daemon: libvirtd refuses a second."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._keys: dict[int, EventKey] = {}
        self._numbers: dict[EventKey, int] = {}
        self._callbacks: dict[tuple[str, int], dict[int, EventCallback]] = {}

    @staticmethod
    def key(scope: str, event_id: int, ref: Any) -> EventKey:
        """What makes registrations equal. Raises InternalError for an event that there is not."""
        if (scope, event_id) not in EVENT_BY_ID:
            raise InternalError(f"unsupported event ID {event_id}", domain=Domain.RPC)
        return scope, event_id, getattr(ref, "uuid", None) or getattr(ref, "name", None)

    def number(self, key: EventKey) -> int | None:
        """The daemon's number of an equal registration; None where there is none yet."""
        return self._numbers.get(key)

    def add(self, key: EventKey, number: int, callback: EventCallback) -> int:
        """Note a registration that the daemon calls ``number``; returns our own number."""
        own = next(self._ids)
        self._keys[own] = key
        self._numbers[key] = number
        self._callbacks.setdefault((EVENT_BY_ID[key[:2]].procedure, number), {})[own] = callback
        return own

    def remove(self, own: int) -> tuple[str, int] | None:
        """Forget our registration ``own``; returns the procedure that ends it at the daemon and its number there, None
        where an equal one goes on. KeyError where there is no such registration."""
        key = self._keys.pop(own)
        number = self._numbers[key]
        equal = self._callbacks[EVENT_BY_ID[key[:2]].procedure, number]
        del equal[own]
        if equal:
            return None
        del self._callbacks[EVENT_BY_ID[key[:2]].procedure, number], self._numbers[key]
        return self.procedure(key[0], "deregister"), number

    @staticmethod
    def procedure(scope: str, verb: str) -> str:
        """The procedure that registers or deregisters events of ``scope``."""
        if scope == "qemu":
            return f"qemu_connect_domain_monitor_event_{verb}"
        return f"connect_{'domain_event_callback' if scope == 'domain' else f'{scope}_event'}_{verb}_any"

    @staticmethod
    def arguments(scope: str, event_id: int, ref: Any) -> dict[str, Any]:
        """The arguments of a registration."""
        return {"eventID": event_id, _REFS[scope]: ref}

    def find(self, message: wire.Message) -> tuple[EventCallback, ...]:
        """Who asked for ``message``; it may be nobody any more."""
        return tuple(self._callbacks.get((message.row.name, getattr(message.value, "callbackID", -1)), {}).values())


class Link:
    """Owns the socket. After an error of the socket or the protocol the link is dead: every call raises it again."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sock = channel.sock
        self._tunnel = channel.tunnel
        self._machine = wire.Connection()
        self._replies: dict[int, wire.Reply] = {}
        self._dead: GuesthouseError | None = None
        self._interval = 0.0
        self._count = 0
        self.events: deque[wire.Message] = deque()
        self.streams: dict[tuple[int, int, int], deque[wire.StreamPacket]] = {}

    def fileno(self) -> int:
        return self._sock.fileno()

    def authenticate(self, ask: Ask | None = None) -> None:
        """Go through the daemon's authentication; ``ask`` is asked for a name and a password that are written nowhere.
        Raises AuthFailed where it wants what is not known here."""
        (kind, *_) = self.call("auth_list").types or [AUTH_NONE]
        if kind == AUTH_NONE:
            return
        if kind == AUTH_POLKIT and self.call("auth_polkit").complete == 1:
            return
        if kind == AUTH_SASL:
            from guesthouse.client.sasl import MECHANISM, Login

            login = Login(self._channel.target, self.call("auth_sasl_init").mechlist, ask)
            answer = self.call("auth_sasl_start", mech=MECHANISM, nil=0, data=login.first())
            while (data := login.answer(answer.complete, answer.data)) is not None:
                answer = self.call("auth_sasl_step", nil=0 if data else 1, data=data)
            return
        raise AuthFailed(f"unsupported authentication type {kind}")

    def call(self, name: str, /, **args: Any) -> Any:
        """Call the procedure ``name`` and wait; returns its result. Raises the daemon's error."""
        serial, data = self._machine.call(name, args or None)
        self.send(data)
        while serial not in self._replies:
            self._receive()
        return self._value(self._replies.pop(serial))

    def call_with_files(self, name: str, files: Sequence[int], /, **args: Any) -> Any:
        """The same for a procedure that takes descriptors, which stay the caller's; only Unix sockets carry them.
        Raises SystemFailure where one is not open, and then calls nothing."""
        for fd in files:
            try:
                os.fstat(fd)
            except OSError as error:
                raise SystemFailure.from_os(error, f"Cannot duplicate FD {fd}", domain=Domain.RPC) from None
        if files and (self._tunnel is not None or self._sock.family != socket.AF_UNIX):
            raise InternalError("file descriptor passing is not supported on this socket", domain=Domain.RPC)
        serial, data = self._machine.call(name, args or None, len(files))
        self.send(data)
        try:
            for fd in files:
                socket.send_fds(self._sock, [b"\0"], [fd])
        except OSError as error:
            raise self._die(self._failed(error, "Cannot write data")) from None
        while serial not in self._replies:
            self._receive()
        return self._value(self._replies.pop(serial))

    @staticmethod
    def _value(reply: wire.Reply) -> Any:
        for fd in reply.fds:  # no procedure called here asks for descriptors
            os.close(fd)
        if reply.error is not None:
            try:
                raise reply.error
            finally:
                del reply  # an error must not hold itself: who called would live until garbage is collected
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
            return where, self._value(self._replies.pop(serial))
        except BaseException:
            self.streams.pop(where, None)
            raise

    def send(self, data: bytes) -> None:
        if self._dead is not None:
            raise self._dead
        try:
            self._sock.sendall(data if self._tunnel is None else self._tunnel.seal(data))
        except RPCError as error:
            raise self._die(error) from None
        except OSError as error:
            raise self._die(self._failed(error, "Cannot write data")) from None

    def keep_alive(self, interval: float, count: int) -> None:
        """Ping a daemon that is silent for ``interval`` seconds while something is waited for, and take it for dead after
        ``count`` pings without an answer; 0 seconds: wait for ever."""
        self._interval, self._count = interval, count

    def _until_readable(self) -> None:
        """Wait for something to read, with pings meanwhile. Raises InternalError where the daemon does not answer them."""
        silent = 0
        while not select.select([self._sock], [], [], self._interval)[0]:
            if silent >= max(self._count, 1):
                raise self._die(InternalError("connection closed due to keepalive timeout", domain=Domain.RPC))
            silent += 1
            self.send(wire.ping())

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
        if self._interval:
            self._until_readable()
        try:
            data, ancillary, _, _ = self._sock.recvmsg(
                _CHUNK, socket.CMSG_SPACE(4 * wire.FDS_MAX), socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise self._die(self._failed(error, "Cannot read data")) from None
        ended = not data
        try:
            if self._tunnel is not None and data:
                data, ended = self._tunnel.open(data)
                if answer := self._tunnel.output():
                    self._sock.sendall(answer)
        except RPCError as error:
            raise self._die(error) from None
        except OSError as error:
            raise self._die(self._failed(error, "Cannot write data")) from None
        if ended and not data:
            raise self._die(self._failed(None, "client socket is closed"))
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

    def _failed(self, error: OSError | None, what: str) -> GuesthouseError:
        """Why the socket is of no more use: the last words of the program behind it, else ``error`` (None: an end)."""
        if words := self._channel.last_words():
            return SystemFailure(f"Cannot recv data: {words}: Connection reset by peer", domain=Domain.RPC)
        return SystemFailure.from_os(error, what, domain=Domain.RPC) if error else ConnectionLost(what)

    def _die(self, error: GuesthouseError) -> GuesthouseError:
        self._dead = error
        self._channel.close()
        for fd in self._machine.leftovers():
            os.close(fd)
        return error

    def close(self) -> None:
        self._dead = self._dead or ConnectionLost("client socket is closed")
        self._channel.close()


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
        """Send all of ``data``. Raises the daemon's error if it has ended the stream; of this data :meth:`finish` tells."""
        self._send(wire.stream_data(self._open(), data))

    def send_hole(self, length: int) -> None:
        """Send a hole, on a stream that was opened for it. Raises the daemon's error if it has ended the stream."""
        self._send([wire.stream_hole(self._open(), length)])

    def _send(self, packets: list[bytes]) -> None:
        while self._link.wait(0):
            pass
        self._raise_error()
        for packet in packets:
            self._link.send(packet)

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

    def call_with_files(self, name: str, files: Sequence[int], /, **args: Any) -> Any:
        """The same for a procedure that takes open files along, by their descriptors."""
        return self._link.call_with_files(name, files, **args)

    def set_keep_alive(self, interval: int, count: int) -> None:
        """Ask a daemon that is silent for ``interval`` seconds, while something is waited for, whether it is there; after
        ``count`` questions without an answer calls raise InternalError. 0 seconds: never ask."""
        self._link.keep_alive(interval, count)

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

    def register_event(self, scope: str, event_id: int, ref: Any, callback: EventCallback) -> int:
        """Have ``callback(message)`` called by :meth:`dispatch_events` with each event's record; returns a number for
        :meth:`event_deregister_any`. ``ref`` limits it to one object, None means all."""
        key = self.callbacks.key(scope, event_id, ref)
        number = self.callbacks.number(key)
        if number is None:
            procedure = self.callbacks.procedure(scope, "register")
            number = self.call(procedure, **self.callbacks.arguments(scope, event_id, ref)).callbackID
        return self.callbacks.add(key, number, callback)

    def event_deregister_any(self, number: int) -> None:
        """End the registration ``number``, of whatever kind it is."""
        if found := self.callbacks.remove(number):
            self.call(found[0], callbackID=found[1])

    def dispatch_events(self, timeout: float | None = None) -> int:
        """Call the callbacks of the events at hand; where there are none, wait up to ``timeout`` seconds (None: for
        ever) for some. Returns how many were called. Raises when the connection is lost."""
        deadline = None if timeout is None else time.monotonic() + timeout
        done = 0
        while True:
            while self._link.events:
                message = self._link.events.popleft()
                for callback in self.callbacks.find(message):
                    callback(message.value)
                    done += 1
            left = None if deadline is None else deadline - time.monotonic()
            if done or (left is not None and left <= 0):
                return done
            self._link.wait(left)
