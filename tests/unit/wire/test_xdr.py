"""Structures against recorded traffic, and against bytes that nobody should send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guesthouse.errors import RPCError
from guesthouse.wire import xdr
from guesthouse.wire.procedures import ADMIN, BY_NUMBER, EVENTS, PROCEDURES
from guesthouse.wire.types import STRUCTS
from support.reference import REFERENCE, needs_reference


def test_every_structure_compiles_and_every_row_names_one() -> None:
    for name in STRUCTS:
        for _, kind in xdr.struct_codec(name).fields:
            base = kind.rstrip("?").partition("<")[0].partition("[")[0]
            known = {"opaque", "text", "sasl", "typed", "str", "uuid"} | {k for k in xdr._codecs if k.isalpha()}
            assert base in known or base in STRUCTS, (name, kind)
    for row in PROCEDURES:
        for struct in (row.args, row.ret):
            assert struct is None or struct in STRUCTS, row
    for event in EVENTS:
        assert event.procedure in {row.name for row in PROCEDURES}


@needs_reference
def test_table_is_the_protocol() -> None:
    programs = json.loads((REFERENCE / "protocol.json").read_text())["programs"]
    rows = [(programs[p]["number"], proc) for p in ("remote", "qemu") for proc in programs[p]["procedures"]]
    assert len(rows) == len([row for row in PROCEDURES if row.program != ADMIN and row.number < 444]) == 450
    for program, proc in rows:
        row = BY_NUMBER[program, proc["number"]]
        assert row.name.removeprefix("qemu_") == proc["short"]
        assert (row.args is None, row.ret is None) == (
            (proc["args"] or proc["event_msg"]) is None,
            proc["ret"] is None,
        )
        assert (row.stream is None) == (proc["stream"] is None)


@needs_reference
@pytest.mark.parametrize("name", ["list-all", "domstats", "nodeinfo", "event-lifecycle", "event-all"])
def test_recorded_bodies_decode_and_encode_to_the_same_bytes(name: str) -> None:
    seen = 0
    for message in json.loads((REFERENCE / "captures" / f"{name}.json").read_text())["messages"]:
        body_type = message["decoded"]["body_type"]
        if body_type is None or message["decoded"]["type"].endswith("_WITH_FDS"):
            continue
        payload = bytes.fromhex(message["hex"])[28:]
        struct = body_type.removeprefix("remote_")
        value = xdr.decode(struct, payload)
        assert xdr.encode(struct, value) == payload
        assert xdr.encode(struct, value.asdict()) == payload
        assert list(value.asdict()) == list(message["decoded"]["body"])
        seen += 1
    assert seen


def test_values() -> None:
    ref = {"name": "dömo", "uuid": "c7a5fdbd-edaf-9455-926a-d65c16db1809", "id": -1}
    data = xdr.encode("domain_lookup_by_name_ret", {"dom": ref})
    back = xdr.decode("domain_lookup_by_name_ret", data).dom
    assert (back.name, back.uuid, back.id) == tuple(ref.values())
    info = {"model": "x86_64", "memory": 2**40, "cpus": 2, "mhz": 1, "nodes": 1, "sockets": 1, "cores": 2, "threads": 1}
    data = xdr.encode("node_get_info_ret", info)
    assert len(data) == 4 * 32 + 8 + 6 * 4
    assert xdr.decode("node_get_info_ret", data).model == "x86_64"
    params = {"a": ("int", -1), "b": ("ullong", 2**64 - 1), "c": ("string", "x"), "d": ("boolean", True)}
    data = xdr.encode("domain_get_scheduler_parameters_ret", {"params": params})
    assert {
        p.field: (p.kind, p.value) for p in xdr.decode("domain_get_scheduler_parameters_ret", data).params
    } == params


@pytest.mark.parametrize(
    ("struct", "value"),
    [
        ("connect_open_args", {"name": "x" * (4 * 2**20 + 1), "flags": 0}),
        ("connect_open_args", {"name": None, "flags": 2**32}),
        ("domain_get_info_ret", (256, 0, 0, 0, 0)),
        ("domain_lookup_by_uuid_args", {"uuid": "nonsense"}),
        ("connect_list_domains_ret", {"ids": [1] * 16385}),
        ("domain_get_info_ret", (1, 2, 3)),
    ],
)
def test_what_does_not_fit_is_refused(struct: str, value: object) -> None:
    with pytest.raises(RPCError):
        xdr.encode(struct, value)


@pytest.mark.parametrize(
    ("struct", "data"),
    [
        ("connect_open_args", b""),
        ("connect_open_args", b"\0\0\0\2\0\0\0\0"),
        ("domain_lookup_by_name_args", b"\xff\xff\xff\xff"),
        ("domain_lookup_by_name_args", b"\0\0\0\5abc"),
        ("domain_lookup_by_name_args", b"\0\0\0\1a"),
        ("domain_lookup_by_name_args", b"\0\0\0\0\0\0\0\0"),
        ("domain_lookup_by_uuid_args", b"\0" * 15),
        ("connect_list_domains_ret", b"\0\0\x3f\xff"),
        ("domain_get_scheduler_parameters_ret", b"\0\0\0\1\0\0\0\0\0\0\0\x09\0\0\0\0"),
    ],
)
def test_short_long_and_oversized_payloads(struct: str, data: bytes) -> None:
    with pytest.raises(RPCError):
        xdr.decode(struct, data)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(STRUCTS)), st.binary(max_size=300))
def test_any_bytes_decode_or_are_an_rpc_error(struct: str, data: bytes) -> None:
    try:
        value = xdr.decode(struct, data)
    except RPCError:
        return
    xdr.encode(struct, value)
