"""virStream: data that flows beside calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from guesthouse.errors import GuesthouseError, InternalError
from guesthouse.libvirt import errors, eventloop
from guesthouse.libvirt.connection import guarded
from guesthouse.libvirt.errors import libvirtError
from guesthouse.libvirt.link import SharedLink, Where
from guesthouse.libvirt.objects import Handle, Object, domain_of, invalid
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import BY_NAME

NONBLOCK = 1
STOP_AT_HOLE = 1
WOULD_BLOCK, AT_HOLE = -2, -3
_SPARSE_CHUNK = 64 * 1024


class virStream(Object):
    """A stream of a connection; a call such as virDomain.openConsole opens it, finish or abort ends it."""

    def __init__(self, conn: Any, _obj: Handle | None = None) -> None:
        super().__init__(conn, _obj)
        self._link: SharedLink = self._o.session.link
        self._where: Where | None = None
        self._lock = threading.RLock()
        self._data = memoryview(b"")
        self._hole = 0
        self._eof = False
        self._wanted: tuple[int, Callable[..., Any], Any] | None = None
        self._timer = -1

    def __del__(self) -> None:
        where = getattr(self, "_where", None)
        if where is not None:
            self._link.streams.pop(where, None)

    def _start(self, function: str, name: str, args: dict[str, Any]) -> Any:
        """Open the stream by the procedure ``name``; returns its result. Raises libvirtError."""
        self._o.session.allow(function, BY_NAME[name])
        if not isinstance(self._link, SharedLink):
            errors.unsupported(function)
        try:
            self._where, value = self._link.open_stream(name, **args)
        except GuesthouseError as error:
            errors.fail(error, function)
        return value

    def _opened(self, function: str) -> Where:
        if self._where is None:
            errors.unsupported(function, domain_of(function))
        return self._where

    def _close(self) -> None:
        if self._where is not None:
            self._link.streams.pop(self._where, None)
            self._where = None
        self._drop_timer()

    # -- receiving

    def _fill(self, where: Where, wait: bool) -> bool:
        """Have data, a hole or the end at hand; False where ``wait`` is off and nothing is there."""
        queue = self._link.streams[where]
        while not (self._data or self._hole or self._eof):
            if not queue and not wait:
                self._link.read_now()
                if not queue:
                    return False
            self._link.until(lambda: bool(queue))
            packet = queue.popleft()
            if packet.status == wire.ERROR:
                self._close()
                raise packet.error or InternalError("stream aborted by the server", domain=errors.FROM_STREAMS)
            if packet.status == wire.CONTINUE and packet.hole:
                self._hole = packet.hole
            elif packet.status == wire.CONTINUE and packet.data:
                self._data = memoryview(packet.data)
            else:
                self._eof = True
        return True

    def recvFlags(self, nbytes: int, flags: int = 0) -> Any:
        """Up to ``nbytes`` bytes; b"" at the end; -2 where the stream does not block and nothing is there; -3 before a
        hole, with the flag for that. Holes read as zeros without it."""
        return self._recv("virStreamRecvFlags", nbytes, flags)

    def recv(self, nbytes: int) -> Any:
        """As :meth:`recvFlags` without flags."""
        return self._recv("virStreamRecv", nbytes, 0)

    def _recv(self, function: str, nbytes: int, flags: int) -> bytes | int:
        where = self._opened(function)
        with self._lock:
            try:
                if not self._fill(where, not self._blocks_not):
                    return WOULD_BLOCK
            except GuesthouseError as error:
                errors.fail(error, function)
            if self._hole:
                if flags & STOP_AT_HOLE:
                    return AT_HOLE
                count = min(self._hole, nbytes)
                self._hole -= count
                return bytes(count)
            found = bytes(self._data[:nbytes])
            self._data = self._data[nbytes:]
            return found

    def recvHole(self, flags: int = 0) -> int:
        """The length of the hole that comes next, which is then behind; 0 where none does."""
        where = self._opened("virStreamRecvHole")
        with self._lock:
            try:
                self._fill(where, not self._blocks_not)
            except GuesthouseError as error:
                errors.fail(error, "virStreamRecvHole")
            length, self._hole = self._hole, 0
            return length

    @property
    def _blocks_not(self) -> bool:
        return bool(self._o.ref & NONBLOCK)

    # -- sending

    def send(self, data: bytes) -> int:
        """Send ``data``; returns how many bytes went."""
        where = self._opened("virStreamSend")
        return self._send("virStreamSend", wire.stream_data(where, bytes(data))) or len(data)

    def sendHole(self, length: int, flags: int = 0) -> int:
        where = self._opened("virStreamSendHole")
        return self._send("virStreamSendHole", [wire.stream_hole(where, length)])

    def _send(self, function: str, packets: list[bytes]) -> int:
        try:
            self._link.read_now()
            self._raise_error()
            for packet in packets:
                self._link.send(packet)
        except GuesthouseError as error:
            errors.fail(error, function)
        return 0

    def _raise_error(self) -> None:
        for packet in list(self._link.streams.get(self._where or (0, 0, 0), ())):
            if packet.status == wire.ERROR:
                self._close()
                raise packet.error or InternalError("stream aborted by the server", domain=errors.FROM_STREAMS)

    # -- the end

    def finish(self) -> int:
        """End the stream in order, once the other side has all of it. Raises its error."""
        where = self._opened("virStreamFinish")
        try:
            queue = self._link.streams[where]
            self._raise_error()
            self._link.send(wire.stream_finish(where))
            while True:
                self._link.until(lambda: bool(queue))
                packet = queue.popleft()
                if packet.status == wire.ERROR:
                    raise packet.error or InternalError("stream aborted by the server", domain=errors.FROM_STREAMS)
                if packet.status == wire.OK:
                    return 0
        except GuesthouseError as error:
            errors.fail(error, "virStreamFinish")
        finally:
            self._close()

    def abort(self) -> int:
        """End the stream by force; what was sent may be lost. On a stream that is not open it does nothing."""
        where = self._where
        if where is not None:
            self._close()
            try:
                self._link.send(wire.stream_abort(where))
            except GuesthouseError as error:
                errors.fail(error, "virStreamAbort")
        return 0

    # -- everything at once

    def recvAll(self, handler: Callable[..., Any], opaque: Any) -> None:
        """``handler(stream, data, opaque)`` for all that comes. What it raises, or a negative answer, aborts."""
        while True:
            got = self.recv(wire.STREAM_DATA_MAX)
            if got == WOULD_BLOCK:
                raise libvirtError("cannot use recvAll with nonblocking stream")
            if not got:
                return
            self._hand("recvAll handler", handler, got, opaque)

    def sendAll(self, handler: Callable[..., Any], opaque: Any) -> None:
        """Sends what ``handler(stream, nbytes, opaque)`` returns until that is nothing. What it raises aborts."""
        while True:
            got = self._hand("sendAll handler", handler, wire.STREAM_DATA_MAX, opaque)
            if not got:
                return
            if self.send(got) == WOULD_BLOCK:
                raise libvirtError("cannot use sendAll with nonblocking stream")

    def sparseRecvAll(self, handler: Callable[..., Any], holeHandler: Callable[..., Any], opaque: Any) -> None:
        """As :meth:`recvAll`, and ``holeHandler(stream, length, opaque)`` for each hole."""
        while True:
            got = self.recvFlags(_SPARSE_CHUNK, STOP_AT_HOLE)
            if got == WOULD_BLOCK:
                raise libvirtError("cannot use sparseRecvAll with nonblocking stream")
            if got == AT_HOLE:
                self._hand("holeHandler handler", holeHandler, self.recvHole(), opaque)
            elif got:
                self._hand("sparseRecvAll handler", handler, got, opaque)
            else:
                return

    def sparseSendAll(
        self,
        handler: Callable[..., Any],
        holeHandler: Callable[..., Any],
        skipHandler: Callable[..., Any],
        opaque: Any,
    ) -> None:
        """As :meth:`sendAll`, where ``holeHandler(stream, opaque)`` says (in data?, how long), and
        ``skipHandler(stream, length, opaque)`` passes over a hole that was sent."""
        while True:
            in_data, length = self._hand("sparseSendAll holeHandler", holeHandler, opaque)
            if not in_data and length > 0:
                self.sendHole(length)
                self._hand("skipHandler handler", skipHandler, length, opaque)
                continue
            got = self._hand("sparseSendAll handler", handler, min(_SPARSE_CHUNK, length), opaque)
            if not got:
                return
            if self.send(got) == WOULD_BLOCK:
                raise libvirtError("cannot use sparseSendAll with nonblocking stream")

    def _hand(self, what: str, handler: Callable[..., Any], *args: Any) -> Any:
        try:
            answer = handler(self, *args)
            if type(answer) is int and answer < 0:
                raise RuntimeError(f"{what} returned {answer}")
        except Exception:
            self.abort()
            raise
        return answer

    # -- events

    def eventAddCallback(self, events: int, cb: Callable[..., Any], opaque: Any) -> None:
        """The loop calls ``cb(stream, events, opaque)`` while the stream can be read or written, as ``events`` says."""
        self._opened("virStreamEventAddCallback")
        loop = eventloop.current()
        if loop is None or self._timer >= 0:
            text = "multiple stream callbacks not supported" if loop else "no event loop is registered"
            errors.refuse(
                "virStreamEventAddCallback", errors.INTERNAL, errors.FROM_NONE, f"internal error: {text}",
                "internal error: %s", text,
            )  # fmt: skip
        self._wanted = (events, cb, opaque)
        self._timer = loop.add_timer(-1, self._dispatch, None)
        self._link.watchers.append(self._arrived)
        self._arrived()

    def eventUpdateCallback(self, events: int) -> int:
        self._opened("virStreamEventUpdateCallback")
        if self._wanted is None:
            invalid("virStreamEventUpdateCallback", "stream")
        else:
            self._wanted = (events, *self._wanted[1:])
            self._arrived()
        return 0

    def eventRemoveCallback(self) -> int:
        if self._wanted is None:
            errors.unsupported("virStreamEventRemoveCallback", errors.FROM_STREAMS)
        self._drop_timer()
        return 0

    def _ready(self) -> int:
        events = self._wanted[0] if self._wanted else 0
        there = self._data or self._hole or self._eof or self._link.streams.get(self._where or (0, 0, 0))
        return events & ((eventloop.READABLE if there else 0) | eventloop.WRITABLE)

    def _arrived(self) -> None:
        loop = eventloop.current()
        if loop is not None and self._timer >= 0:
            loop.update_timer(self._timer, 0 if self._ready() or self._link.dead else -1)

    def _dispatch(self, *_: object) -> None:
        wanted, events = self._wanted, self._ready()
        if self._link.dead is not None:
            events |= eventloop.ERROR
        if wanted is not None and events:
            guarded(wanted[1], self, events, wanted[2])
        self._arrived()

    def _drop_timer(self) -> None:
        timer, self._timer, self._wanted = self._timer, -1, None
        loop = eventloop.current()
        if timer >= 0 and loop is not None:
            loop.remove_timer(timer)
            self._link.watchers.remove(self._arrived)
