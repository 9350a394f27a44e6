"""The wire against its reference: every row, every field with its limit, every recorded message."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from guesthouse.wire import connection as wire
from guesthouse.wire import xdr
from guesthouse.wire.procedures import BY_NAME, EVENT_BY_ID, EVENTS, KEEPALIVE, PING, PONG, PROCEDURES, VERSION
from guesthouse.wire.types import STRUCTS
from support.reference import REFERENCE, needs_reference

pytestmark = needs_reference
CAPTURES = sorted((REFERENCE / "captures").glob("*.json"))

NUMBERS = {
    "unsigned int": "uint",
    "unsigned hyper": "uhyper",
    "unsigned char": "uchar",
    "unsigned short": "ushort",
    **{name: name for name in ("int", "hyper", "double", "char", "short")},
}
# what has another name, or none of its own, in our table
OURS = {
    "remote_nonnull_string": "str",
    "virNetMessageNonnullString": "str",
    "remote_uuid": "uuid",
    "virNetMessageUUID": "uuid",
    "remote_typed_param": "typed",
    "virNetMessageNonnullDomain": "error_domain",
    "virNetMessageNonnullNetwork": "error_network",
    "virNetMessageError": "error",
    "virNetStreamHole": "stream_hole",
}


@cache
def protocol() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((REFERENCE / "protocol.json").read_text())
    return data


def our_name(name: str) -> str:
    return OURS.get(name, name.removeprefix("remote_"))


def our_type(field: dict[str, Any]) -> set[str]:
    """How our table may write the type of ``field``."""
    name, types = field["type"], protocol()["types"]
    typedef = types.get(name, {})
    if typedef.get("kind") == "typedef" and typedef.get("optional"):
        assert "array" not in field and not field.get("optional")
        return {f"{our_name(typedef['type'])}?"}
    base = {our_name(name)}
    if name in NUMBERS:
        base = {NUMBERS[name]}
    elif name in protocol()["enums"]:
        base = {"int"}
    if "array" in field:
        if name == "char":
            base = {"text", "sasl"}
        size = f"[{field['size']}]" if field["array"] == "fixed" else f"<{field['max']}>"
        base = {kind + size for kind in base}
    return {kind + ("?" if field.get("optional") else "") for kind in base}


STRUCTURES = (
    sorted(
        name
        for name, kind in protocol()["types"].items()
        if kind["kind"] == "struct" and name not in ("virNetMessageHeader", "remote_typed_param")
    )
    if REFERENCE.exists()
    else []
)


# of libvirt 9.7, which the reference is older than
LATER = ("network_set_metadata", "network_get_metadata")


def test_no_structure_is_missing_or_made_up() -> None:
    later = {f"{name}_{end}" for name in LATER for end in ("args", "ret")} & set(STRUCTS)
    assert {our_name(name) for name in STRUCTURES} | later == {
        name for name in STRUCTS if not name.startswith("admin_")
    }


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure(name: str) -> None:
    ours = [(pair.partition(":")[0], pair.partition(":")[2]) for pair in STRUCTS[our_name(name)].split()]
    theirs = protocol()["types"][name]["fields"]
    assert [field for field, _ in ours] == [field["name"] for field in theirs]
    for (field, kind), their in zip(ours, theirs, strict=True):
        assert kind in our_type(their), field


@pytest.mark.parametrize("program", ["remote", "qemu"])
def test_every_procedure(program: str) -> None:
    facts = protocol()["programs"][program]
    rows = {row.number: row for row in PROCEDURES if row.program == facts["number"] and row.name not in LATER}
    assert facts["version"] == VERSION
    assert sorted(rows) == sorted(proc["number"] for proc in facts["procedures"])
    for proc in facts["procedures"]:
        row = rows[proc["number"]]
        args = proc["event_msg"] if proc["is_event"] else proc["args"]
        assert row.name == ("qemu_" if program == "qemu" else "") + proc["short"]
        assert row.args == (our_name(args) if args else None), row.name
        assert row.ret == (our_name(proc["ret"]) if proc["ret"] else None), row.name
        assert (row.access == "event") == proc["is_event"], row.name
        direction = proc["stream"] and proc["stream"]["direction"]
        allowed = {None: {None}, "client_to_server": {"write"}, "server_to_client": {"read", "both"}}[direction]
        assert row.stream in allowed, row.name
    assert len(BY_NAME) == len(PROCEDURES) == 450 + len(LATER) + 19  # those of the admin program


# which permissions a read-only connection does not have (libvirt's access driver of connections)
READS = {"getattr", "read", "none", "detect_storage_pools"}


def test_readonly_access() -> None:
    for proc in protocol()["programs"]["remote"]["procedures"]:
        first = [acl.split(":")[1] for acl in proc["acl"] if ":" in acl and acl.count(":") == 1]
        row = BY_NAME[proc["short"]]
        if not first or proc["is_event"]:
            continue
        may = all(verb in READS or verb.startswith("search_") for verb in first)
        if not may:
            assert row.access == "write", (row.name, first)


def test_keepalive_program() -> None:
    facts = protocol()["programs"]["keepalive"]
    assert (facts["number"], facts["version"]) == (KEEPALIVE, VERSION)
    numbers = {proc["name"]: proc["number"] for proc in facts["procedures"]}
    assert numbers == {"KEEPALIVE_PROC_PING": PING, "KEEPALIVE_PROC_PONG": PONG}


def test_limits() -> None:
    limits = protocol()["limits"]
    assert limits["VIR_NET_MESSAGE_MAX"] == wire.MESSAGE_MAX
    assert limits["VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX"] == wire.STREAM_DATA_MAX
    assert limits["VIR_NET_MESSAGE_NUM_FDS_MAX"] == wire.FDS_MAX
    assert limits["VIR_NET_MESSAGE_STRING_MAX"] == limits["REMOTE_STRING_MAX"] == xdr.STRING_MAX
    kinds = protocol()["message_types"]
    assert [kinds[f"VIR_NET_{name}"] for name in ("CALL", "REPLY", "MESSAGE", "STREAM")] == [
        wire.CALL,
        wire.REPLY,
        wire.MESSAGE,
        wire.STREAM,
    ]
    assert (kinds["VIR_NET_CALL_WITH_FDS"], kinds["VIR_NET_REPLY_WITH_FDS"], kinds["VIR_NET_STREAM_HOLE"]) == (
        wire.CALL_WITH_FDS,
        wire.REPLY_WITH_FDS,
        wire.STREAM_HOLE,
    )


def test_every_event_travels_by_the_right_message() -> None:
    scopes = ("domain", "network", "storage_pool", "node_device", "secret")
    seen = 0
    for scope in scopes:
        for event in protocol()["event_delivery"][scope]["events"]:
            row = EVENT_BY_ID[scope, event["event_id"]]
            assert BY_NAME[row.procedure].number == event["proc_number"], row
            assert (BY_NAME[row.legacy].number if row.legacy else None) == event.get("legacy_proc_number"), row
            seen += 1
    qemu = sum(row.scope == "qemu" for row in EVENTS)  # of a program of its own
    assert (seen, qemu) == (len(EVENTS) - 1, 1)


# -- what was recorded


def same(ours: Any, theirs: Any) -> bool:
    """Whether a decoded value is what the recording says; enumerations and typed parameters are written freely there."""
    if isinstance(ours, xdr.TypedParam):
        return bool(ours.field == theirs["field"])
    if isinstance(ours, xdr.Record):
        return list(ours.fields) == list(theirs) and all(same(getattr(ours, k), v) for k, v in theirs.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, str) and isinstance(theirs, str):
        return ours.replace("-", "") == theirs.replace("-", "")
    if isinstance(ours, bytes):
        return True  # compared as bytes, below
    return isinstance(theirs, str) or bool(ours == theirs)


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_every_recorded_message(file: Path) -> None:
    """Decoded, compared with what the recording says, and encoded again to the same bytes."""
    messages = json.loads(file.read_text())["messages"]
    assert messages
    calls: dict[int, wire.Call] = {}
    client, server = wire.Connection(), wire.Connection()
    for message in messages:
        if "fd_byte" in message:
            continue  # it came with the message before it, see below
        data, decoded = bytes.fromhex(message["hex"]), message["decoded"]
        to_server = message["dir"] == "C->S"
        fds = decoded["header"]["type"] in (wire.CALL_WITH_FDS, wire.REPLY_WITH_FDS)
        assert decoded["length"] == len(data)
        machine = server if to_server else client
        count = int.from_bytes(data[28:32], "big") if fds else 0
        found = machine.feed(data + bytes(count), list(range(1000, 1000 + count)))
        assert len(found) == 1, message["n"]
        (event,) = found
        body, again = None, b""
        if isinstance(event, wire.Call):
            assert event.row is not None and event.serial == decoded["header"]["serial"]
            calls[event.serial], body = event, event.args()
            client._serial = event.serial
            again = client.call(event.row.name, body, count)[1]
        elif isinstance(event, wire.Reply) and event.error is not None:
            code = protocol()["enums"].get("virErrorNumber", {}).get(decoded["body"]["code"], decoded["body"]["code"])
            assert isinstance(code, str) or event.error.number == code
            assert str(event.error) == decoded["body"]["message"]
            mine, theirs = wire.reply_error(calls[event.serial], event.error), xdr.decode("error", data[28:])
            back = xdr.decode("error", mine[28:])
            assert (back.code, back.domain, back.message, back.level) == (
                theirs.code,
                theirs.domain,
                theirs.message,
                theirs.level,
            )
            assert xdr.encode("error", theirs) == data[28:]
            continue
        elif isinstance(event, wire.Reply):
            assert len(event.fds) == count
            body, again = event.value, wire.reply(calls[event.serial], event.value, count)
        elif isinstance(event, wire.Message):
            body, again = event.value, wire.event_message(event.row.name, event.value)
        elif isinstance(event, wire.KeepAlive):
            again = wire.ping() if event.ping else wire.pong()
        else:
            where = (event.program, event.number, event.serial)
            if event.hole:
                again = wire.stream_hole(where, event.hole)
            elif event.status == wire.CONTINUE:
                (again,) = wire.stream_data(where, event.data)
            else:
                again = wire.stream_finish(where)
        assert again == data, message["n"]
        if decoded.get("body") is not None and body is not None:
            assert same(body, decoded["body"]), message["n"]
    assert not client._waiting or file.stem == "keepalive"
