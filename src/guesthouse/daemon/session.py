"""One client: what it has opened, registered and streams. Bytes come and go through its :class:`Peer`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import deque
from inspect import isawaitable
from typing import Any, NamedTuple, Protocol

from guesthouse.daemon import dispatch
from guesthouse.errors import Domain, GuesthouseError, InternalError, InvalidArg, RPCError
from guesthouse.services.events import Event
from guesthouse.services.streams import Hole, Stream
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import EVENT_BY_ID, EVENTS
from guesthouse.wire.types import STRUCTS

_log = logging.getLogger(__name__)

_READ_CHUNK = 262120
_STREAM_QUEUE = 16
_OPEN_READONLY = 1
# what the daemon answers 1 to: of libvirt's QEMU driver those that hold here (see driver_features in the protocol)
_FEATURES = frozenset({8, 9, 10, 14, 15, 16})
_AUTH_NONE = 0
_LIFECYCLE = 0

# ids of event registrations count up over the daemon's life, as libvirtd's do
_callback_ids = itertools.count(1)


class Identity(NamedTuple):
    """Who is on the other side of a Unix socket; -1 where that is unknown."""

    uid: int
    gid: int
    pid: int


class Peer(Protocol):
    """The connection's I/O, as the session needs it."""

    identity: Identity

    def send(self, data: bytes) -> None: ...
    async def drained(self) -> None: ...
    def start_keepalive(self) -> None: ...
    def close_soon(self) -> None: ...
    def drop(self, reason: str) -> None: ...
    @property
    def backlog(self) -> int: ...


class Registration(NamedTuple):
    """An event that a client wants: of one object (its UUID) or of all; ``legacy`` ones carry no callback id."""

    scope: str
    event: int
    uuid: str | None
    legacy: bool


class Session:
    """The state of one client. ``services`` are the daemon's; ``readonly`` holds for the socket it came in by."""

    def __init__(self, services: Any, peer: Peer, *, readonly: bool, default_uri: str, event_limit: int) -> None:
        self._services = services
        self._peer = peer
        self._readonly = readonly
        self._default_uri = default_uri
        self._event_limit = event_limit
        self._uri: str | None = None
        self._opened = False
        self._registrations: dict[int, Registration] = {}
        self._streams: dict[tuple[int, int, int], _OpenStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: calls that wait for their answer
        self.outstanding = 0

    @property
    def wants_events(self) -> bool:
        return bool(self._registrations)

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
        for fd in call.fds:  # no procedure served here takes descriptors
            os.close(fd)
        try:
            route = dispatch.route(call, readonly=self._readonly, authenticated=True)
            args = route.arguments(call)
            if route.service == "session":
                value = getattr(self, route.method)(**args)
            else:
                if not self._opened:
                    raise RPCError("connection not open")
                value = route.call(self._services, args)
            if isawaitable(value):
                self.outstanding += 1
                self._spawn(self._finish(call, route, args, value))
                return
            self._answer(call, route, args, value)
        except Exception as error:
            self._fail(call, error)

    async def _finish(self, call: wire.Call, route: dispatch.Route, args: dict[str, Any], pending: Any) -> None:
        try:
            self._answer(call, route, args, await pending)
        except Exception as error:
            self._fail(call, error)
        finally:
            self.outstanding -= 1

    def _answer(self, call: wire.Call, route: dispatch.Route, args: dict[str, Any], value: Any) -> None:
        if route.row.stream is None:
            self._peer.send(wire.reply(call, route.result(args, value)))
            return
        stream = value[-1] if isinstance(value, tuple) else value
        result = route.result(args, value[0] if isinstance(value, tuple) else None)
        opened = _OpenStream(self, call, stream, route.row.stream)
        self._streams[opened.where] = opened
        self._peer.send(wire.reply(call, result))
        opened.start()

    def _fail(self, call: wire.Call, error: Exception) -> None:
        self._peer.send(wire.reply_error(call, known(error, call.row.name if call.row else str(call.number))))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def closed(self) -> None:
        """The client is gone: everything that it had goes. Calls under way run to their end."""
        self._registrations.clear()
        for stream in list(self._streams.values()):
            stream.abort()
        self._streams.clear()

    # -- the connection's own procedures

    def auth_list(self) -> list[int]:
        return [_AUTH_NONE]

    def auth_polkit(self) -> int:
        return 1

    def open(self, name: str | None, flags: int) -> None:
        if self._opened:
            raise InternalError("connection already open", domain=Domain.RPC)
        if flags & ~7:
            raise InvalidArg(f"unsupported flags (0x{flags:x}) in function remoteDispatchConnectOpen")
        if name:
            path = name.partition("?")[0]
            if path not in ("qemu:///system", "qemu:///session", self._default_uri):
                raise InternalError(f"unexpected QEMU URI path '{path}', try {self._default_uri}")
            self._uri = path
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

    def deliver(self, event: Event) -> None:
        """Send ``event`` where this client asked for it. A client that does not read is dropped: its queue must not
        grow without bound."""
        for number, wanted in tuple(self._registrations.items()):
            if (wanted.scope, wanted.event) != (event.scope, event.id):
                continue
            if wanted.uuid is not None and wanted.uuid != getattr(event.ref, "uuid", event.ref):
                continue
            if self._peer.backlog > self._event_limit:
                self._peer.drop("it does not read its events")
                return
            self._peer.send(encode_event(event, None if wanted.legacy else number))


_REF_FIELDS = {"domain": "dom", "network": "net", "storage_pool": "pool", "node_device": "dev", "secret": "secret"}


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


class _OpenStream:
    """A stream under way: a reader task, a writer task, or both."""

    def __init__(self, session: Session, call: wire.Call, stream: Stream, direction: str) -> None:
        self._session = session
        self._call = call
        self._stream = stream
        self._direction = direction
        self._inbox: deque[wire.StreamPacket] = deque()
        self._arrived = asyncio.Event()
        self._over = False
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self.where = (call.program, call.number, call.serial)

    def start(self) -> None:
        if self._direction in ("read", "both"):
            self._reader = self._session._spawn(self._read())
        self._writer = self._session._spawn(self._write())

    def packet(self, packet: wire.StreamPacket) -> None:
        self._inbox.append(packet)
        self._arrived.set()
        if len(self._inbox) > _STREAM_QUEUE:
            self._session.outstanding += 1  # counts like a call: reading pauses until the packet is taken

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
                if len(self._inbox) > _STREAM_QUEUE:
                    self._session.outstanding -= 1
                packet = self._inbox.popleft()
                if packet.status == wire.OK:
                    self._end()
                    await self._stream.finish()
                    self._session._peer.send(wire.stream_finish(self._call))
                elif packet.status == wire.ERROR:
                    self._end()
                    await self._stream.abort()
                    self._session._peer.send(wire.stream_finish(self._call))
                elif packet.hole:
                    await self._stream.write(Hole(packet.hole))
                elif packet.data and self._direction != "read":
                    await self._stream.write(packet.data)
        except Exception as error:
            await self._break(error)

    async def _break(self, error: Exception) -> None:
        self._session._peer.send(
            wire.stream_abort(self._call, known(error, self._call.row.name if self._call.row else "stream"))
        )
        self._end()
        try:
            await self._stream.abort()
        except Exception:
            _log.exception("a stream could not be ended")

    def _end(self) -> None:
        self._over = True
        self._session._streams.pop(self.where, None)
        waiting = len(self._inbox) - _STREAM_QUEUE
        if waiting > 0:
            self._session.outstanding -= waiting
        self._inbox.clear()
        current = asyncio.current_task()
        for task in (self._reader, self._writer):
            if task is not None and task is not current:
                task.cancel()

    def abort(self) -> None:
        """The client has vanished."""
        if not self._over:
            self._end()
            self._session._spawn(self._abort_stream())

    async def _abort_stream(self) -> None:
        try:
            await self._stream.abort()
        except Exception:
            _log.exception("a stream could not be ended")
