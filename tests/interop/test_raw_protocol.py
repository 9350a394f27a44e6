"""What C libvirtd answers to those who do not keep to the protocol, guesthoused answers too."""

from __future__ import annotations

import struct

import pytest

from guesthouse.wire import connection as wire
from guesthouse.wire import xdr
from guesthouse.wire.procedures import BY_NAME, KEEPALIVE, REMOTE
from support.door import Raw
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd


def call(number: int, payload: bytes = b"", program: int = REMOTE, version: int = 1, kind: int = wire.CALL) -> bytes:
    return wire.frame(program, number, kind, 5, 0, payload, version)


def named(name: str, *values: object) -> bytes:
    row = BY_NAME[name]
    return call(row.number, xdr.encode(row.args, values) if row.args else b"", row.program)


ANSWERED = {
    "unknown procedure": call(9999),
    "procedure 0": call(0),
    "an event's procedure": call(BY_NAME["domain_event_lifecycle"].number),
    "unknown program": call(1, program=12345),
    "other version": call(3, version=7),
    "keepalive as a call": call(1, program=KEEPALIVE),
    "ping": wire.ping(),
    "second open": named("connect_open", "qemu:///system", 0),
    "short arguments": call(BY_NAME["domain_lookup_by_name"].number, b"\0\0"),
    "long string": call(BY_NAME["domain_lookup_by_name"].number, struct.pack(">I", 5 << 20) + bytes(5 << 20)),
    "descriptors, none of them": call(3, struct.pack(">I", 0), kind=wire.CALL_WITH_FDS),
    "arguments where none belong": call(3, b"junkjunk"),
    "unknown event": named("connect_domain_event_callback_register_any", 99, None),
    "unknown registration": named("connect_domain_event_callback_deregister_any", 999_999),
    "no such guest": named("domain_lookup_by_name", "absent"),
    "no such id": named("domain_lookup_by_id", 4711),
    "feature": named("connect_supports_feature", 14),
    "feature of tomorrow": named("connect_supports_feature", 4711),
    "leave": named("connect_close"),
}
BEFORE_OPEN = {
    "type": call(3),
    "open something else": named("connect_open", "foo:///bar", 0),
    "open elsewhere": named("connect_open", "qemu:///elsewhere", 0),
    "open with unknown flags": named("connect_open", "qemu:///system", 64),
    "open without a name": named("connect_open", "", 0),
}
IGNORED = {
    "data of no stream": call(208, b"abc", kind=wire.STREAM),
    "data of no program": call(208, b"abc", program=12345, kind=wire.STREAM),
}
CLOSED = {
    "length 0": b"\0\0\0\0",
    "length 27": struct.pack(">I", 27) + bytes(23),
    "oversized": struct.pack(">I", wire.MESSAGE_MAX + 5),
    "33 descriptors": call(3, struct.pack(">I", 33), kind=wire.CALL_WITH_FDS),
}


def answer(daemon: Libvirtd | Guesthoused, data: bytes, *, opened: bool = True) -> object:
    """The header's fields and the result, or code, domain, level and text of the error."""
    with Raw(daemon.socket, opened=opened) as client:
        if not opened:
            client.call("auth_list")
        client.send(data)
        head, payload = client.message()
        if head[6] != wire.ERROR:
            return head[1:], payload
        error = xdr.decode("error", payload)
        text = error.message
        # ours may say more about what did not decode
        text = "Unable to decode message payload" if text.startswith("Unable to decode message payload") else text
        return head[1:], error.code, error.domain, error.level, text


@pytest.mark.parametrize("name", ANSWERED)
def test_answered(c_libvirtd: Libvirtd, guesthoused: Guesthoused, name: str) -> None:
    assert answer(guesthoused, ANSWERED[name]) == answer(c_libvirtd, ANSWERED[name])


@pytest.mark.parametrize("name", BEFORE_OPEN)
def test_before_open(c_libvirtd: Libvirtd, guesthoused: Guesthoused, name: str) -> None:
    mine, theirs = (answer(daemon, BEFORE_OPEN[name], opened=False) for daemon in (guesthoused, c_libvirtd))
    assert mine == theirs


@pytest.mark.parametrize("name", IGNORED)
def test_ignored(c_libvirtd: Libvirtd, guesthoused: Guesthoused, name: str) -> None:
    for daemon in (c_libvirtd, guesthoused):
        with Raw(daemon.socket) as client:
            client.send(IGNORED[name])
            assert client.call("connect_get_type").type == "QEMU"


@pytest.mark.parametrize("name", CLOSED)
def test_closed(c_libvirtd: Libvirtd, guesthoused: Guesthoused, name: str) -> None:
    for daemon in (c_libvirtd, guesthoused):
        with Raw(daemon.socket) as client:
            client.send(CLOSED[name])
            assert client.closed()
