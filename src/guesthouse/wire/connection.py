"""One end of an RPC connection as a value machine: bytes in, events out; calls in, bytes out. No I/O, no clock.

Both roles. Framing, header and rules are libvirt 9.0's (virnetprotocol): a length word that counts itself, a header of
six words, the payload; descriptors follow a message one by one, each with a zero byte of its own.
A violation of the protocol is an RPCError after which the connection is of no more use: close it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from guesthouse import errors
from guesthouse.errors import GuesthouseError, RPCError
from guesthouse.wire import xdr
from guesthouse.wire.procedures import BY_NAME, BY_NUMBER, KEEPALIVE, PING, PONG, VERSION, Procedure

CALL, REPLY, MESSAGE, STREAM, CALL_WITH_FDS, REPLY_WITH_FDS, STREAM_HOLE = range(7)
OK, ERROR, CONTINUE = range(3)

MESSAGE_MAX = 33554432  # after the length word
STREAM_DATA_MAX = 262120  # what old peers can take in one packet
FDS_MAX = 32

_HEAD = struct.Struct(">IIIiIIi")
_U32 = struct.Struct(">I")


class Call(NamedTuple):
    """A request. ``row`` is None where the program or the procedure is unknown."""

    row: Procedure | None
    program: int
    number: int
    serial: int
    payload: bytes
    fds: list[int]
    version: int = VERSION

    def args(self) -> xdr.Record | None:
        """The decoded arguments, None where the procedure has none. Raises RPCError."""
        if self.row is None or self.row.args is None:
            return None
        return xdr.decode(self.row.args, self.payload)


class Reply(NamedTuple):
    """The answer to the call ``serial``: its decoded result (None where it has none), or the error."""

    serial: int
    row: Procedure
    value: Any
    error: GuesthouseError | None
    fds: list[int]


class Message(NamedTuple):
    """An event from the server, decoded."""

    row: Procedure
    value: Any


class StreamPacket(NamedTuple):
    """A packet of the stream that the call (``program``, ``number``, ``serial``) opened.

    ``status`` CONTINUE is data (none of it: end of file) or, with ``hole``, that many bytes of nothing; OK is finish;
    ERROR is abort, with the error where it comes from the server.
    """

    program: int
    number: int
    serial: int
    status: int
    data: bytes
    hole: int
    error: GuesthouseError | None


class KeepAlive(NamedTuple):
    """A ping (to be answered at once with :func:`pong`) or a pong."""

    ping: bool


Event = Call | Reply | Message | StreamPacket | KeepAlive


def frame(
    program: int, number: int, kind: int, serial: int, status: int, payload: bytes, version: int = VERSION
) -> bytes:
    """A whole message. Raises RPCError where it would be too long."""
    size = len(payload) + _HEAD.size
    if size - 4 > MESSAGE_MAX:
        raise RPCError(f"message of {size} bytes is too long, at most {MESSAGE_MAX} are allowed")
    return _HEAD.pack(size, program, version, number, kind, serial, status) + payload


def ping() -> bytes:
    return frame(KEEPALIVE, PING, MESSAGE, 0, OK, b"")


def pong() -> bytes:
    return frame(KEEPALIVE, PONG, MESSAGE, 0, OK, b"")


def error_payload(error: GuesthouseError) -> bytes:
    """The error structure (virNetMessageError) that tells a client of ``error``."""
    fields = (
        error.number or 1,
        error.domain,
        error.message,
        error.level,
        None,
        error.str1,
        error.detail or None,
        None,
        error.int1,
        error.int2,
        None,
    )
    return xdr.encode("error", fields)


def read_error(payload: bytes) -> GuesthouseError:
    """The error that a payload describes."""
    record = xdr.decode("error", payload)
    return errors.from_wire(record.code, record.domain, record.message, record.level, record.int1, record.int2)


def event_message(name: str, value: object) -> bytes:
    """An event of the procedure ``name``; libvirtd sends serial 1 with these, which clients ignore."""
    row = BY_NAME[name]
    assert row.args is not None
    return frame(row.program, row.number, MESSAGE, 1, OK, xdr.encode(row.args, value))


def stream_data(call: Call | tuple[int, int, int], data: bytes) -> list[bytes]:
    """Packets with ``data``, none longer than old peers take; no data at all is one packet that says end of file."""
    program, number, serial = _stream(call)
    pieces = range(0, max(len(data), 1), STREAM_DATA_MAX)
    return [frame(program, number, STREAM, serial, CONTINUE, data[at : at + STREAM_DATA_MAX]) for at in pieces]


def stream_hole(call: Call | tuple[int, int, int], length: int) -> bytes:
    program, number, serial = _stream(call)
    return frame(program, number, STREAM_HOLE, serial, CONTINUE, xdr.encode("stream_hole", (length, 0)))


def stream_finish(call: Call | tuple[int, int, int]) -> bytes:
    program, number, serial = _stream(call)
    return frame(program, number, STREAM, serial, OK, b"")


def stream_abort(call: Call | tuple[int, int, int], error: GuesthouseError | None = None) -> bytes:
    """The end of a stream by force: from a client without, from a server with the error."""
    program, number, serial = _stream(call)
    return frame(program, number, STREAM, serial, ERROR, error_payload(error) if error else b"")


def _stream(call: Call | tuple[int, int, int]) -> tuple[int, int, int]:
    return (call.program, call.number, call.serial) if isinstance(call, Call) else call


def reply(call: Call, value: object = None, fd_count: int = 0) -> bytes:
    """The answer to ``call``. ``fd_count`` descriptors must be sent behind it, each with one zero byte."""
    row = call.row
    payload = b"" if row is None or row.ret is None else xdr.encode(row.ret, value)
    kind = REPLY
    if fd_count:
        kind, payload = REPLY_WITH_FDS, _U32.pack(fd_count) + payload
    return frame(call.program, call.number, kind, call.serial, OK, payload)


def reply_error(call: Call, error: GuesthouseError) -> bytes:
    """The answer to ``call`` that it failed."""
    return frame(call.program, call.number, REPLY, call.serial, ERROR, error_payload(error), call.version)


class Connection:
    """The receiving state of one end, and a client's serials."""

    def __init__(self) -> None:
        #: how long a message may be, after its length word
        self.message_max = MESSAGE_MAX
        # the beginning of a message that has not arrived whole
        self._buffer: bytearray | None = None
        self._fds: list[int] = []
        self._serial = 0
        self._waiting: dict[int, Procedure] = {}

    # -- a client's side

    def call(self, name: str, args: object = None, fd_count: int = 0) -> tuple[int, bytes]:
        """The serial and the bytes of a call of the procedure ``name``. Raises RPCError where ``args`` do not fit."""
        row = BY_NAME[name]
        payload = b"" if row.args is None else xdr.encode(row.args, args)
        kind = CALL
        if fd_count:
            kind, payload = CALL_WITH_FDS, _U32.pack(fd_count) + payload
        serial = self._serial
        data = frame(row.program, row.number, kind, serial, OK, payload)
        self._serial += 1
        self._waiting[serial] = row
        return serial, data

    # -- both sides

    def feed(self, data: bytes, fds: Iterable[int] = ()) -> list[Event]:
        """Take what has arrived; returns what it completes, in order. Raises RPCError on a violation."""
        have: bytes | bytearray = data
        if self._buffer is not None:
            self._buffer += data
            have = self._buffer
        self._fds.extend(fds)
        found: list[Event] = []
        try:
            used = self._parse(have, found)
        except RPCError:
            for event in found:
                if isinstance(event, Call | Reply):
                    self._fds.extend(event.fds)  # nobody will see these events: see leftovers
            raise
        if used == len(have):
            self._buffer = None
        elif self._buffer is None:
            self._buffer = bytearray(data[used:])
        else:
            del self._buffer[:used]
        return found

    def _parse(self, buffer: bytes | bytearray, found: list[Event]) -> int:
        """Put the events of the whole messages in ``buffer`` into ``found``; returns how many bytes they take."""
        at = 0
        have = len(buffer)
        while have - at >= 4:
            (size,) = _U32.unpack_from(buffer, at)
            if size < _HEAD.size or size - 4 > self.message_max:
                most = self.message_max + 4
                raise RPCError(f"packet of {size} bytes received, from {_HEAD.size} to {most} are allowed")
            if have - at < size:
                break
            _, program, version, number, kind, serial, status = _HEAD.unpack_from(buffer, at)
            body = at + _HEAD.size
            descriptors: list[int] = []
            extra = 0
            if kind in (CALL_WITH_FDS, REPLY_WITH_FDS):
                if size < _HEAD.size + 4:
                    raise RPCError("packet with descriptors ends before their count")
                (count,) = _U32.unpack_from(buffer, body)
                if count > FDS_MAX:
                    raise RPCError(f"{count} descriptors announced, at most {FDS_MAX} are allowed")
                if have - at < size + count:
                    break
                if len(self._fds) < count:
                    raise RPCError(f"{count} descriptors announced, {len(self._fds)} received")
                descriptors, self._fds = self._fds[:count], self._fds[count:]
                body += 4
                extra = count
            payload = bytes(buffer[body : at + size])
            at += size + extra
            found.append(self._event(program, version, number, kind, serial, status, payload, descriptors))
        if self._fds and (at == have or len(self._fds) > FDS_MAX):
            raise RPCError(f"{len(self._fds)} descriptors received that no message announces")
        return at

    def leftovers(self) -> list[int]:
        """At the end: the descriptors that belong to no message handed out. They are the caller's to close."""
        fds, self._fds = self._fds, []
        return fds

    def _event(
        self,
        program: int,
        version: int,
        number: int,
        kind: int,
        serial: int,
        status: int,
        payload: bytes,
        fds: list[int],
    ) -> Event:
        if program == KEEPALIVE and kind == MESSAGE and number in (PING, PONG):
            return KeepAlive(number == PING)
        if kind in (CALL, CALL_WITH_FDS):
            row = BY_NUMBER.get((program, number)) if version == VERSION else None
            if row is not None and row.access == "event":
                row = None
            return Call(row, program, number, serial, payload, fds, version)
        if kind in (REPLY, REPLY_WITH_FDS):
            waiting = self._waiting.pop(serial, None)
            if waiting is None or (waiting.program, waiting.number) != (program, number):
                raise RPCError(f"no call waiting for reply with prog {program} proc {number} serial {serial}")
            if status == ERROR:
                return Reply(serial, waiting, None, read_error(payload), fds)
            value = None if waiting.ret is None else xdr.decode(waiting.ret, payload)
            return Reply(serial, waiting, value, None, fds)
        if kind == MESSAGE:
            row = BY_NUMBER.get((program, number))
            if row is None or row.access != "event":
                raise RPCError(f"unexpected message with prog {program} proc {number}")
            return Message(row, xdr.decode(row.args, payload) if row.args else None)
        if kind == STREAM_HOLE:
            hole = xdr.decode("stream_hole", payload)
            return StreamPacket(program, number, serial, status, b"", hole.length, None)
        if kind == STREAM and status in (OK, ERROR, CONTINUE):
            error = read_error(payload) if status == ERROR and payload else None
            return StreamPacket(program, number, serial, status, b"" if error else payload, 0, error)
        raise RPCError(f"unexpected message type {kind} with status {status}")
