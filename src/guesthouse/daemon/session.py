"""One client: what it has opened, registered and streams. Bytes come and go through its :class:`Peer`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
from collections import deque
from collections.abc import Awaitable, Coroutine, Sequence
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from guesthouse.daemon import auth, dispatch, narrowed
from guesthouse.daemon.granted import Granted
from guesthouse.errors import AuthFailed, Domain, GuesthouseError, InternalError, InvalidArg, NoConnect, RPCError
from guesthouse.services.admission import named
from guesthouse.services.events import Event
from guesthouse.services.streams import Hole, Stream
from guesthouse.services.typed import checked
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import ADMIN, BY_NAME, EVENT_BY_ID, EVENTS, QEMU, REMOTE
from guesthouse.wire.types import STRUCTS

if TYPE_CHECKING:
    from guesthouse.daemon.sasl import Exchange

_log = logging.getLogger(__name__)

_READ_CHUNK = 262120
_STREAM_QUEUE = 4 << 20  # bytes of a stream that may wait for whoever takes them
_PACKET_COST = 256  # bytes that keeping a packet takes beside its data, so that empty ones count
_OPEN_READONLY = 1
# what the daemon answers 1 to: of libvirt's QEMU driver those that hold here (see driver_features in the protocol)
_FEATURES = frozenset({8, 9, 10, 14, 15, 16})
_AUTH_NONE, _AUTH_SASL = 0, 1
_REFUSAL_DELAY = 1.0  # seconds
_LIFECYCLE = 0
_EVENT_REGEX, _EVENT_NOCASE, _EVENT_FLAGS = 1, 2, 3
# whose events those are that are named after what sends them
_EVENTS_OF = {"qemu": "domain"}

# ids of event registrations count up over the daemon's life, as libvirtd's do
_callback_ids = itertools.count(1)
# what is under way for clients; the event loop itself would let go of it
_tasks: set[asyncio.Task[None]] = set()


class Peer(Protocol):
    """The connection's I/O, as the session needs it."""

    identity: auth.Identity

    def send(self, data: bytes) -> None: ...
    def send_with_file(self, data: bytes, fd: int) -> None: ...
    async def drained(self) -> None: ...
    def start_keepalive(self) -> None: ...
    def close_soon(self) -> None: ...
    def drop(self, reason: str) -> None: ...
    def resume(self) -> None: ...
    def proven(self) -> None: ...
    @property
    def backlog(self) -> int: ...
    @property
    def carries_files(self) -> bool: ...


class Registration(NamedTuple):
    """An event that a client wants: of one object (its UUID) or of all; ``legacy`` ones carry no callback id."""

    scope: str
    event: int
    uuid: str | None
    legacy: bool
    #: of QEMU's own events, which ones
    named: re.Pattern[str] | None = None


class Session:
    """The state of one client. ``services`` are the daemon's; ``readonly`` holds for the socket it came in by.
    Where ``login`` holds it must prove by SASL, against the file ``passwords``, who it is before it may do anything."""

    #: what is served to this client
    programs: tuple[int, ...] = (REMOTE, QEMU)

    def __init__(
        self,
        services: Any,
        peer: Peer,
        *,
        readonly: bool,
        default_uri: str,
        event_limit: int,
        login: bool = False,
        passwords: Path | None = None,
    ) -> None:
        #: what the rules let it do; None: everything
        self.granted: frozenset[str] | None = frozenset()
        self._passwords = passwords
        self._authenticated = not login
        self._exchange: Exchange | None = None
        self._services = services
        self._peer = peer
        self._readonly = readonly
        self._default_uri = default_uri
        self._event_limit = event_limit
        self._uri: str | None = None
        self._opened = False
        self._registrations: dict[int, Registration] = {}
        self._streams: dict[tuple[int, int, int], _OpenStream] = {}
        self._gone = False
        self._has_files = False  # whether it has brought open files for guests
        self._events_waiting = 0  # bytes of events that the client may not have read
        #: calls that wait for their answer
        self.outstanding = 0

    @property
    def wants_events(self) -> bool:
        return bool(self._registrations)

    @property
    def congested(self) -> bool:
        """Whether a stream has more waiting than it should: what comes next must wait, too."""
        return any(stream.waiting > _STREAM_QUEUE for stream in self._streams.values())

    # -- what arrives

    def handle(self, event: wire.Event) -> None:
        """Take one event of the connection."""
        if isinstance(event, wire.Call):
            self._call(event)
        elif isinstance(event, wire.StreamPacket):
            stream = self._streams.get((event.program, event.number, event.serial))
            if stream is not None:
                stream.packet(event)
        elif isinstance(event, wire.KeepAlive):
            if event.ping:
                self._peer.send(wire.pong())
        else:
            raise RPCError("a client sends calls and streams, nothing else")

    def _call(self, call: wire.Call) -> None:
        if not self._authenticated and not (call.row and call.row.name.startswith("auth_")):
            _log.warning("refused a call before the login: %s", self._peer.identity)
        try:
            route = dispatch.route(
                call, programs=self.programs, readonly=self._readonly, authenticated=self._authenticated
            )
            args = route.arguments(call)
            left = auth.check(route.row, args, self.granted, self._peer.identity)
            if isinstance(self.granted, Granted) and narrowed.concerns(route.row, self.granted, left):
                self._call_narrowed(call, route, args, left)
                return
            self._need_file_way(route)
            if route.service == "session":
                value = getattr(self, route.method)(**args)
            else:
                self._need_open()
                value = route.call(self._services, args)
            if isawaitable(value):
                self.outstanding += 1
                self._spawn(self._finish(call, route, args, value))
                return
            self._answer(call, route, args, value)
        except Exception as error:
            self._fail(call, error)
        _close(call.fds)

    def _call_narrowed(self, call: wire.Call, route: dispatch.Route, args: dict[str, Any], left: Sequence[str]) -> None:
        """A call that depends on which objects it is about. Raises the error that is its answer."""
        self._need_open()
        assert isinstance(self.granted, Granted)
        one = narrowed.Narrowed(route, args, self._services, self.granted, self._peer.identity, left)
        self._need_file_way(route)
        with one.asking():
            if route.service == "session":
                value = getattr(self, route.method)(**args)
            else:
                value = one.call(route)
            if isawaitable(value):
                self.outstanding += 1
                self._spawn(self._finish(call, route, args, value, one))
                return
        one.over = True
        self._answer(call, route, args, value, one)
        _close(call.fds)

    def _need_file_way(self, route: dispatch.Route) -> None:
        if route.gives_file and not self._peer.carries_files:
            raise InternalError("file descriptor passing is not supported on this socket", domain=Domain.RPC)

    async def _finish(
        self,
        call: wire.Call,
        route: dispatch.Route,
        args: dict[str, Any],
        pending: Any,
        one: narrowed.Narrowed | None = None,
    ) -> None:
        try:
            if one is not None:
                _recheck(one, pending)
            value = await pending
            if self._gone and route.row.stream is not None:
                await _stream_of(value).abort()
            elif self._gone and route.gives_file:
                os.close(value)
            else:
                self._answer(call, route, args, value, one)
        except Exception as error:
            self._fail(call, error)
        finally:
            if one is not None:
                one.over = True
            _close(call.fds)
            self.outstanding -= 1
            self._peer.resume()

    def _answer(
        self,
        call: wire.Call,
        route: dispatch.Route,
        args: dict[str, Any],
        value: Any,
        one: narrowed.Narrowed | None = None,
    ) -> None:
        if route.gives_file:
            self._peer.send_with_file(wire.reply(call, fd_count=1), value)
            return
        if route.row.stream is None:
            value = auth.shown(route.row, value, self.granted) if one is None else one.answer(value)
            self._peer.send(wire.reply(call, route.result(args, value)))
            return
        stream = _stream_of(value)
        result = route.result(args, value[0] if isinstance(value, tuple) else None)
        opened = _OpenStream(self, call, stream, route.row.stream)
        self._streams[opened.where] = opened
        self._peer.send(wire.reply(call, result))
        opened.start()

    def _fail(self, call: wire.Call, error: Exception) -> None:
        self._peer.send(wire.reply_error(call, known(error, call.row.name if call.row else str(call.number))))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return task

    def closed(self) -> None:
        """The client is gone: everything that it had goes. Calls under way run to their end."""
        self._gone = True
        if self._has_files:
            self._services.open_files.let_go(self)
        self._registrations.clear()
        for stream in list(self._streams.values()):
            stream.abort()
        self._streams.clear()

    # -- the connection's own procedures

    def auth_list(self) -> list[int]:
        return [_AUTH_NONE if self._authenticated else _AUTH_SASL]

    def auth_sasl_init(self) -> str:
        from guesthouse.daemon.sasl import MECHANISM, Exchange

        if self._authenticated or self._exchange is not None or self._passwords is None:
            raise self._refused()
        self._exchange = Exchange(self._passwords)
        return MECHANISM

    def auth_sasl_start(self, mech: str, nil: int, data: bytes) -> tuple[int, int, bytes]:
        if self._exchange is None:
            raise self._refused()
        try:
            return 0, 0, self._exchange.start(mech, data)
        except AuthFailed:
            raise self._refused() from None

    def auth_sasl_step(self, nil: int, data: bytes) -> tuple[int, int, bytes] | Awaitable[Any]:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            raise self._refused()
        try:
            answer = exchange.step(data)
        except AuthFailed:
            return self._refuse_late()
        self._peer.identity.sasl = exchange.user
        self._authenticated = True
        self._peer.proven()
        _log.info("a client has proven who it is: %s", self._peer.identity)
        return 1, 0, answer

    async def _refuse_late(self) -> None:
        """A wrong password: who tries many shall wait for each."""
        await asyncio.sleep(_REFUSAL_DELAY)
        raise self._refused()

    def _refused(self) -> AuthFailed:
        """The error for who does not prove who it is; that is logged, and it must connect anew to try again."""
        _log.warning("authentication failed: %s", self._peer.identity)
        self._peer.close_soon()
        return AuthFailed("authentication failed")

    def auth_polkit(self) -> int:
        if not self._authenticated:
            raise self._refused()
        return 1

    def open(self, name: str | None, flags: int) -> None:
        if self._opened:
            raise InternalError("connection already open", domain=Domain.RPC)
        if name:
            whole = name.partition("?")[0]
            scheme, _, path = whole.partition("://")
            if scheme != "qemu":
                raise NoConnect(name, domain=Domain.NONE)
            if whole not in ("qemu:///system", "qemu:///session", self._default_uri):
                raise InternalError(f"unexpected qemu URI path '{path}', try {self._default_uri}", domain=Domain.NONE)
            self._uri = whole
        else:
            self._uri = self._default_uri
        self._readonly = self._readonly or bool(flags & _OPEN_READONLY)
        self._opened = True

    def close(self) -> None:
        self._peer.close_soon()

    def get_uri(self) -> str:
        return self._uri or self._default_uri

    def supports_feature(self, feature: int) -> int:
        if feature == 10:
            self._peer.start_keepalive()
        return int(feature in _FEATURES)

    def set_identity(self, params: list[Any], flags: int) -> None:
        """From now on the client is who it says, for the rules and the log. Only who is held to no rules may."""
        if flags:
            raise InvalidArg(f"unsupported flags (0x{flags:x}) in function virConnectSetIdentity")
        self._need_open()
        if self.granted is not None:
            raise auth.refuse(
                BY_NAME["connect_set_identity"], "what only those may who are held to no rules", self._peer.identity
            )
        self._peer.identity = auth.forwarded(self._peer.identity, checked(params, auth.FORWARDED))
        self._peer.proven()

    def domain_fd_associate(self, dom: Any, name: str, flags: int, files: list[int]) -> None:
        """Keep the open files for the guest while this client stays."""
        self._need_open()
        self._has_files = True
        self._services.open_files.associate(self, dom, name, files, flags)

    def _need_open(self) -> None:
        if not self._opened:
            raise InternalError("hypervisor connection not open", domain=Domain.RPC)

    def register_close_callback(self) -> None:
        pass  # the driver lives in this daemon: it cannot go away without the connection

    def unregister_close_callback(self) -> None:
        pass

    # -- events

    def _register(self, scope: str, event: int, uuid: str | None, legacy: bool = False) -> int:
        row = EVENT_BY_ID.get((scope, event))
        if row is None or (legacy and row.legacy is None):
            raise InternalError(f"unsupported event ID {event}", domain=Domain.RPC)
        number = next(_callback_ids)
        self._registrations[number] = Registration(scope, event, uuid, legacy)
        return number

    def _deregister(self, scope: str, number: int) -> None:
        found = self._registrations.get(number)
        if found is None or found.scope != scope or found.legacy:
            raise InternalError(f"{scope.replace('_', ' ')} event callback {number} not registered", domain=Domain.RPC)
        del self._registrations[number]

    def _deregister_legacy(self, event: int) -> None:
        for number, found in self._registrations.items():
            if found.legacy and found.event == event:
                del self._registrations[number]
                return
        raise InternalError(f"domain event {event} not registered", domain=Domain.RPC)

    def domain_event_register(self) -> int:
        self._register("domain", _LIFECYCLE, None, legacy=True)
        return 1

    def domain_event_deregister(self) -> int:
        self._deregister_legacy(_LIFECYCLE)
        return 0

    def domain_event_register_any(self, eventID: int) -> None:
        self._register("domain", eventID, None, legacy=True)

    def domain_event_deregister_any(self, eventID: int) -> None:
        self._deregister_legacy(eventID)

    def domain_event_callback_register_any(self, eventID: int, dom: Any) -> int:
        return self._register("domain", eventID, dom.uuid if dom else None)

    def domain_event_callback_deregister_any(self, callbackID: int) -> None:
        self._deregister("domain", callbackID)

    def network_event_register_any(self, eventID: int, net: Any) -> int:
        return self._register("network", eventID, net.uuid if net else None)

    def network_event_deregister_any(self, callbackID: int) -> None:
        self._deregister("network", callbackID)

    def storage_pool_event_register_any(self, eventID: int, pool: Any) -> int:
        return self._register("storage_pool", eventID, pool.uuid if pool else None)

    def storage_pool_event_deregister_any(self, callbackID: int) -> None:
        self._deregister("storage_pool", callbackID)

    def node_device_event_register_any(self, eventID: int, dev: Any) -> int:
        return self._register("node_device", eventID, dev.name if dev else None)

    def node_device_event_deregister_any(self, callbackID: int) -> None:
        self._deregister("node_device", callbackID)

    def secret_event_register_any(self, eventID: int, secret: Any) -> int:
        return self._register("secret", eventID, secret.uuid if secret else None)

    def secret_event_deregister_any(self, callbackID: int) -> None:
        self._deregister("secret", callbackID)

    def monitor_event_register(self, dom: Any, event: str | None, flags: int) -> int:
        """QEMU's own events: all, those of a name, or those that a regular expression finds (flag 1; 2: any case)."""
        if flags & ~_EVENT_FLAGS:
            raise InvalidArg(f"unsupported flags (0x{flags & ~_EVENT_FLAGS:x}) in function monitor_event_register")
        named = None
        if event is not None:
            pattern = event if flags & _EVENT_REGEX else rf"\A{re.escape(event)}\Z"
            try:
                named = re.compile(pattern, re.IGNORECASE if flags & _EVENT_NOCASE else 0)
            except re.error as error:
                raise InvalidArg(f"failed to compile regex '{event}': {error}") from None
        number = self._register("qemu", 0, dom.uuid if dom else None)
        self._registrations[number] = self._registrations[number]._replace(named=named)
        return number

    def monitor_event_deregister(self, callbackID: int) -> None:
        self._deregister("qemu", callbackID)

    def deliver(self, event: Event) -> None:
        """Send ``event`` where this client asked for it. A client that does not read is dropped: its queue must not
        grow without bound."""
        if self.granted is not None and not self._sees(event):
            return
        for number, wanted in tuple(self._registrations.items()):
            if (wanted.scope, wanted.event) != (event.scope, event.id):
                continue
            if wanted.uuid is not None and wanted.uuid != _identity(event.ref):
                continue
            if wanted.named is not None and not wanted.named.search(event.args["event"]):
                continue
            waiting = min(self._events_waiting, self._peer.backlog)
            if waiting > self._event_limit:
                self._peer.drop("it does not read its events")
                return
            data = encode_event(event, None if wanted.legacy else number)
            self._events_waiting = waiting + len(data)
            self._peer.send(data)

    def _sees(self, event: Event) -> bool:
        """Whether the client may know of what an event is about."""
        assert self.granted is not None
        permission = f"{_EVENTS_OF.get(event.scope, event.scope)}:getattr"
        if isinstance(self.granted, Granted):
            return self.granted.on(permission, named(event.ref))
        return permission in self.granted


def _recheck(one: narrowed.Narrowed, pending: Any) -> None:
    """Between a call's arrival and its start others had their turns. Raises the error that is its answer now."""
    try:
        one.check()
    except BaseException:
        if isinstance(pending, Coroutine):
            pending.close()
        raise


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _identity(ref: Any) -> str:
    """What a registration knows the object of an event by: its UUID, or the name of what has none."""
    return str(ref.uuid if hasattr(ref, "uuid") else ref.name)


class AdminSession(Session):
    """A client that administers the daemon itself."""

    programs = (ADMIN,)

    def admin_open(self, flags: int) -> None:
        if self._opened:
            raise InternalError("connection already open", domain=Domain.ADMIN)
        self._opened = True


_REF_FIELDS = {
    "domain": "dom",
    "network": "net",
    "storage_pool": "pool",
    "node_device": "dev",
    "secret": "secret",
    "qemu": "dom",
}


def encode_event(event: Event, number: int | None) -> bytes:
    """The message that tells of ``event``; ``number`` is the callback id, None for a legacy registration."""
    row = EVENT_BY_ID[event.scope, event.id]
    body = {_REF_FIELDS[event.scope]: event.ref, **event.args}
    if number is None:
        assert row.legacy is not None
        return wire.event_message(row.legacy, body)
    if row.procedure in _NESTED:
        return wire.event_message(row.procedure, {"callbackID": number, "msg": body})
    return wire.event_message(row.procedure, {"callbackID": number, **body})


# the older messages wrap the legacy structure
_NESTED = frozenset(row.procedure for row in EVENTS if " msg:" in STRUCTS[f"{row.procedure}_msg"])


def known(error: Exception, what: str) -> GuesthouseError:
    """The error for the client; one that is not ours is a fault of the daemon, and is logged with its traceback."""
    if isinstance(error, GuesthouseError):
        return error
    _log.error("unforeseen error in %s", what, exc_info=error)
    return InternalError(f"unforeseen error in {what}: {type(error).__name__}: {error} (the daemon's log has more)")


def _stream_of(value: Any) -> Stream:
    """The stream among what a method returned: alone, or behind the result."""
    stream: Stream = value[-1] if isinstance(value, tuple) else value
    return stream


class _OpenStream:
    """A stream under way. One task reads, one writes; whichever learns of the end first ends it, once."""

    def __init__(self, session: Session, call: wire.Call, stream: Stream, direction: str) -> None:
        self._session = session
        self._call = call
        self._stream = stream
        self._direction = direction
        self._inbox: deque[wire.StreamPacket] = deque()
        self._arrived = asyncio.Event()
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []
        self.where = (call.program, call.number, call.serial)
        #: bytes that have arrived and were not taken
        self.waiting = 0

    def start(self) -> None:
        if self._direction in ("read", "both"):
            self._tasks.append(self._session._spawn(self._read()))
        self._tasks.append(self._session._spawn(self._write()))

    def packet(self, packet: wire.StreamPacket) -> None:
        self._inbox.append(packet)
        self.waiting += len(packet.data) + _PACKET_COST
        self._arrived.set()

    async def _read(self) -> None:
        peer = self._session._peer
        try:
            while not self._over:
                data = await self._stream.read(_READ_CHUNK)
                if self._over:
                    return
                if isinstance(data, Hole):
                    peer.send(wire.stream_hole(self._call, data.length))
                else:
                    for packet in wire.stream_data(self._call, data):
                        peer.send(packet)
                    if not data:
                        return
                await peer.drained()
        except Exception as error:
            await self._break(error)

    async def _write(self) -> None:
        try:
            while not self._over:
                while not self._inbox:
                    self._arrived.clear()
                    await self._arrived.wait()
                packet = self._inbox.popleft()
                self.waiting -= len(packet.data) + _PACKET_COST
                self._session._peer.resume()
                if packet.status == wire.CONTINUE:
                    if packet.hole:
                        await self._stream.write(Hole(packet.hole))
                    elif packet.data and self._direction != "read":
                        await self._stream.write(packet.data)
                    continue
                if not self._end():
                    return
                try:
                    await (self._stream.finish() if packet.status == wire.OK else self._stream.abort())
                except Exception as error:
                    self._tell(error)
                else:
                    self._session._peer.send(wire.stream_finish(self._call))
                self._cancel()
        except Exception as error:
            await self._break(error)

    async def _break(self, error: Exception) -> None:
        """End the stream by ``error``, unless it came of the end."""
        if self._end():
            self._tell(error)
            await self._abort_stream()

    def _tell(self, error: Exception) -> None:
        what = self._call.row.name if self._call.row else "stream"
        self._session._peer.send(wire.stream_abort(self._call, known(error, what)))

    def _end(self) -> bool:
        """Take part in nothing more; False where that was so already."""
        if self._over:
            return False
        self._over = True
        self._session._streams.pop(self.where, None)
        self._inbox.clear()
        self.waiting = 0
        self._session._peer.resume()
        return True

    def _cancel(self) -> None:
        """After the stream's own end, which wakes who waits in it: what still waits elsewhere."""
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    def abort(self) -> None:
        """The client has vanished."""
        if self._end():
            self._session._spawn(self._abort_stream())

    async def _abort_stream(self) -> None:
        try:
            await self._stream.abort()
        except Exception:
            _log.exception("a stream could not be ended")
        self._cancel()
