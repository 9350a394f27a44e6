"""The connection machine: recorded exchanges through both roles, cuts anywhere, and what a stranger may send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guesthouse.errors import NoDomain, RPCError
from guesthouse.wire import connection as wire
from guesthouse.wire.procedures import BY_NAME, KEEPALIVE
from support.reference import REFERENCE, needs_reference

CAPTURES = [
    "list-all",
    "domstats",
    "nodeinfo",
    "event-lifecycle",
    "event-all",
    "error-no-domain",
    "keepalive",
    "vol-download",
    "vol-download-sparse",
    "vol-upload",
    "vol-upload-sparse",
    "destroy-not-running",
]


@needs_reference
@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("piece", [1, 7, 1 << 30])
def test_recorded_exchange_through_both_roles(name: str, piece: int) -> None:
    client, server = wire.Connection(), wire.Connection()
    calls: dict[int, wire.Call] = {}
    for message in json.loads((REFERENCE / "captures" / f"{name}.json").read_text())["messages"]:
        data = bytes.fromhex(message["hex"])
        head = message["decoded"]["header"]
        to_server = message["dir"] == "C->S"
        machine = server if to_server else client
        found = [event for at in range(0, len(data), piece) for event in machine.feed(data[at : at + piece])]
        assert len(found) == 1
        event = found[0]
        if isinstance(event, wire.Call):
            assert event.row is not None
            calls[event.serial] = event
            client._serial = event.serial
            serial, again = client.call(event.row.name, event.args())
            assert (serial, again) == (head["serial"], data)
        elif isinstance(event, wire.Reply):
            call = calls[event.serial]
            again = wire.reply_error(call, event.error) if event.error else wire.reply(call, event.value)
            if event.error is None:
                assert again == data
            else:
                assert wire.Connection  # the pattern in str1 is free; code, domain and text are not
                other = wire.read_error(again[28:])
                assert (other.number, other.domain, str(other)) == (
                    event.error.number,
                    event.error.domain,
                    str(event.error),
                )
        elif isinstance(event, wire.Message):
            assert wire.event_message(event.row.name, event.value)[28:] == data[28:]
        elif isinstance(event, wire.StreamPacket):
            where = (event.program, event.number, event.serial)
            if event.hole:
                assert wire.stream_hole(where, event.hole) == data
            elif event.status == wire.CONTINUE:
                assert wire.stream_data(where, event.data) == [data]
            else:
                assert wire.stream_finish(where) == data
        else:
            assert data in (wire.ping(), wire.pong())


def test_error_over_the_wire() -> None:
    client, server = wire.Connection(), wire.Connection()
    _, data = client.call("domain_lookup_by_name", {"name": "x"})
    (call,) = server.feed(data)
    assert isinstance(call, wire.Call) and call.args().name == "x"  # type: ignore[union-attr]
    (reply,) = client.feed(wire.reply_error(call, NoDomain("no domain with matching name 'x'")))
    assert isinstance(reply, wire.Reply)
    assert isinstance(reply.error, NoDomain)
    assert str(reply.error) == "Domain not found: no domain with matching name 'x'"


def test_large_stream_data_is_cut() -> None:
    call = wire.Call(BY_NAME["storage_vol_upload"], 1, 2, 3, b"", [])
    packets = wire.stream_data(call, bytes(600_000))
    assert [len(p) for p in packets] == [262_148, 262_148, 600_000 - 2 * 262_120 + 28]


def test_descriptors_follow_their_message() -> None:
    client, server = wire.Connection(), wire.Connection()
    _, data = client.call("domain_open_graphics", {"dom": ("d", "0" * 32, 1), "idx": 0, "flags": 0}, fd_count=1)
    assert server.feed(data) == []
    (call,) = server.feed(b"\0", [77])
    assert isinstance(call, wire.Call) and call.fds == [77]
    (row,) = server.feed(client.call("connect_get_type")[1])
    assert isinstance(row, wire.Call) and row.fds == []


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0",
        b"\0\0\0\x1b" + bytes(40),
        b"\x02\0\0\x05",
        b"GET / HTTP/1.1\r\n\r\n",
        wire.frame(BY_NAME["connect_open"].program, 1, 9, 0, 0, b""),
        wire.frame(BY_NAME["connect_open"].program, 1, wire.REPLY, 5, 0, b""),
        wire.frame(BY_NAME["connect_open"].program, 1, wire.MESSAGE, 0, 0, b""),
        wire.frame(BY_NAME["connect_open"].program, 1, wire.CALL_WITH_FDS, 0, 0, b"\0\0\0\x21"),
        wire.frame(BY_NAME["connect_open"].program, 1, wire.CALL_WITH_FDS, 0, 0, b"\0\0\0\1") + b"\0",
        wire.frame(BY_NAME["connect_open"].program, 1, wire.CALL_WITH_FDS, 0, 0, b""),
        wire.frame(BY_NAME["connect_open"].program, 1, wire.STREAM, 0, 1, b"junk"),
    ],
)
def test_violations(data: bytes) -> None:
    with pytest.raises(RPCError):
        wire.Connection().feed(data)


def test_unknown_procedures_are_calls_without_a_row() -> None:
    for program, number in ((BY_NAME["connect_open"].program, 9999), (12345, 1), (KEEPALIVE, 7)):
        (call,) = wire.Connection().feed(wire.frame(program, number, wire.CALL, 3, 0, b"x"))
        assert isinstance(call, wire.Call) and call.row is None and call.serial == 3


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_garbage_is_an_rpc_error_or_nothing(pieces: list[bytes]) -> None:
    machine = wire.Connection()
    try:
        for piece in pieces:
            machine.feed(piece)
    except RPCError:
        pass
