"""Opening and leaving connections, and what runs beside calls on one: reading, keepalive, events."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable
from typing import Any

from guesthouse.client import connect as open_offline
from guesthouse.client import transport, uri
from guesthouse.client.link import Callbacks
from guesthouse.errors import GuesthouseError
from guesthouse.libvirt import errors, eventloop
from guesthouse.libvirt.link import SharedLink
from guesthouse.libvirt.objects import Session
from guesthouse.wire import connection as wire

_READONLY = 1
_KEEPALIVE = 10  # the feature that asks the other side to answer pings, and lets it ping
CLOSED_ERROR, CLOSED_EOF, CLOSED_KEEPALIVE = 0, 1, 2
_TIMEOUT = "connection closed due to keepalive timeout"


def start(name: str | None, readonly: bool, ask: Callable[[str, str], str | None] | None = None) -> Session:
    """A session with the daemon that the URI ``name`` means. Raises libvirtError; nothing stays open then."""
    function = "virConnectOpen"
    errors.virResetLastError()
    if name and ":" not in name:
        text = f"URI '{name}' does not include a driver name"
        pattern = "no connection driver available for %s"
        errors.refuse(function, errors.NO_CONNECT, errors.FROM_NONE, pattern % text, pattern, text)
    try:
        if name is not None and name.startswith("test://"):
            return Session(open_offline(name), name, readonly, secure=True, encrypted=False)
        target = uri.parse(name)
        link = SharedLink(transport.connect(target, readonly))
        try:
            if ask is None:
                link.authenticate()
            else:
                link.authenticate(ask)
            loop = eventloop.current()
            pings = loop is not None and link.call("connect_supports_feature", feature=_KEEPALIVE).supported == 1
            link.call("connect_open", name=target.name, flags=_READONLY if readonly else 0)
        except BaseException:
            link.close()
            raise
    except GuesthouseError as error:
        errors.fail(error, function)
    encrypted = target.transport in ("tls", "ssh")
    session = Session(link, target.uri, readonly, secure=encrypted or target.transport == "unix", encrypted=encrypted)
    session.features[_KEEPALIVE] = pings
    if loop is not None:
        _read_in(loop, link, session)
    return session


def _read_in(loop: Any, link: SharedLink, session: Session) -> None:
    """Have ``loop`` read what no call waits for. It holds the link alone: the session ends with its last user."""
    watch = -1

    def readable(*_: object) -> None:
        link.read_now()

    def gone() -> None:
        nonlocal watch
        if link.dead is not None and watch >= 0:
            ended, watch = watch, -1
            loop.remove_handle(ended)

    watch = session.watch = loop.add_handle(link.fileno(), eventloop.READABLE, readable, None)
    session.unwatch = gone
    link.watchers.append(gone)


def leave(session: Session, *, wait: bool = False) -> None:
    """End the connection; with ``wait`` the other side has heard of it, else it soon will."""
    link = session.link
    if not isinstance(link, SharedLink):
        link.close()
        return
    with contextlib.suppress(GuesthouseError, OSError):
        if wait:
            link.call("connect_close")
        elif link.dead is None:
            link.send(link._machine.call("connect_close")[1])
    queue = session.queue
    if queue is not None:
        queue.end()
    link.watchers.clear()
    link.close()
    if session.unwatch is not None:
        session.unwatch()


class Queue:
    """The events of a session, dispatched by the loop: in its thread, out of a timer that is due when there are any."""

    def __init__(self, session: Session) -> None:
        loop = eventloop.current()
        if loop is None:
            text = "could not initialize domain event timer"
            errors.refuse(
                "virConnectDomainEventRegisterAny", errors.INTERNAL, errors.FROM_NONE, f"internal error: {text}",
                "internal error: %s", text,
            )  # fmt: skip
        self._loop = loop
        self._link: SharedLink = session.link
        self._lock = threading.RLock()
        self._callbacks = Callbacks()
        self._closed: Callable[[int], None] | None = None
        self._timer = loop.add_timer(-1, self._dispatch, None)
        self._link.watchers.append(self._arrived)

    def _arrived(self) -> None:
        if self._link.events or (self._link.dead is not None and self._closed is not None):
            self._loop.update_timer(self._timer, 0)

    def register(
        self, session: Session, function: str, scope: str, event: int, ref: Any, cb: Callable[..., None]
    ) -> int:
        """Have ``cb(record)`` called with each event's record; returns the registration's number. Raises libvirtError."""
        named = None if ref is None else _Named(ref)
        with self._lock:  # an event may follow the answer at once
            key = self._callbacks.key(scope, event, named)
            number = self._callbacks.number(key)
            if number is None:
                procedure = self._callbacks.procedure(scope, "register")
                args = self._callbacks.arguments(scope, event, ref)
                number = session.call(function, procedure, args).callbackID
            return self._callbacks.add(key, number, cb)

    def deregister(self, session: Session, function: str, number: int) -> None:
        """End a registration. Raises libvirtError where there is none of that number."""
        with self._lock:
            try:
                found = self._callbacks.remove(number)
            except KeyError:
                text = f"no event callback with id {number} registered"
                errors.refuse(
                    function, errors.INVALID_ARG, errors.FROM_NONE, f"invalid argument: {text}", "invalid argument: %s",
                    text,
                )  # fmt: skip
            if found is not None:
                session.call(function, found[0], {"callbackID": found[1]})

    def on_close(self, callback: Callable[[int], None] | None) -> None:
        """Have ``callback(reason)`` called once when the other side is gone."""
        self._closed = callback

    def _dispatch(self, timer: int, _: object) -> None:
        self._loop.update_timer(timer, -1)
        while self._link.events:
            message = self._link.events.popleft()
            if message.row.name == "connect_event_connection_closed":
                self._close(message.value.reason)
            with self._lock:
                found = self._callbacks.find(message)
            for callback in found:
                guarded(callback, message.value)
        dead = self._link.dead
        if dead is not None:
            self._close(_reason(dead.message))

    def _close(self, reason: int) -> None:
        callback, self._closed = self._closed, None
        if callback is not None:
            guarded(callback, reason)

    def end(self) -> None:
        self._loop.remove_timer(self._timer)


def _reason(text: str) -> int:
    """Why the connection is closed, out of what its calls fail with."""
    if text.endswith(_TIMEOUT):
        return CLOSED_KEEPALIVE
    return CLOSED_EOF if "socket is closed" in text else CLOSED_ERROR


class _Named:
    """A reference as the client's registrations tell objects apart."""

    def __init__(self, ref: tuple[Any, ...]) -> None:
        self.name = ref[:2]  # a domain's number is not what it is known by


def guarded(callback: Callable[..., Any], *args: Any) -> None:
    """Call a program's callback; its exception is shown and ends nothing."""
    try:
        callback(*args)
    except Exception:
        traceback.print_exc()


class Keepalive:
    """Pings a silent peer each ``interval`` seconds; after ``count`` without an answer the link is dead."""

    def __init__(self, link: SharedLink, interval: int, count: int) -> None:
        loop = eventloop.current()
        assert loop is not None
        self._loop, self._link, self._count = loop, link, count
        self._seen = link.packets
        self._silent = 0
        self._timer = loop.add_timer(interval * 1000, self._tick, None)

    def _tick(self, *_: object) -> None:
        if self._link.dead is not None:
            self.stop()
            return
        if self._link.packets != self._seen:
            self._seen, self._silent = self._link.packets, 0
        if self._silent >= max(self._count, 1):
            self.stop()
            self._link.kill(_TIMEOUT)
            return
        self._silent += 1
        with contextlib.suppress(GuesthouseError):
            self._link.send(wire.ping())

    def stop(self) -> None:
        timer, self._timer = self._timer, -1
        if timer >= 0:
            self._loop.remove_timer(timer)
