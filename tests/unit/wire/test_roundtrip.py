"""Values of every structure, made at random: encoded and decoded they are the same; cut or changed they are refused
or something else, but never an unforeseen error."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guesthouse.errors import RPCError
from guesthouse.wire import connection as wire
from guesthouse.wire import xdr
from guesthouse.wire.procedures import PROCEDURES
from guesthouse.wire.types import STRUCTS

NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "uint": st.integers(0, 2**32 - 1),
    "hyper": st.integers(-(2**63), 2**63 - 1),
    "uhyper": st.integers(0, 2**64 - 1),
    "double": st.floats(allow_nan=False),
    "char": st.integers(-128, 255),
    "uchar": st.integers(0, 255),
    "short": st.integers(-(2**15), 2**15 - 1),
    "ushort": st.integers(0, 2**16 - 1),
    "str": st.text(max_size=20),
    "uuid": st.uuids().map(str),
}
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int": NUMBERS["int"],
    "uint": NUMBERS["uint"],
    "llong": NUMBERS["hyper"],
    "ullong": NUMBERS["uhyper"],
    "double": NUMBERS["double"],
    "boolean": st.booleans(),
    "string": NUMBERS["str"],
}
TYPED = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.builds(xdr.TypedParam, st.text("abc._0", max_size=79), st.just(kind), KINDS[kind])
)
LETTERS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@cache
def values(kind: str) -> st.SearchStrategy[Any]:
    """Values of the type ``kind``, as they are above the wire."""
    if kind.endswith("?"):
        return st.none() | values(kind[:-1])
    if kind.endswith(("]", ">")):
        base, _, size = kind[:-1].partition("[" if kind.endswith("]") else "<")
        low = int(size) if kind.endswith("]") else 0
        if base == "opaque":
            return st.binary(min_size=low, max_size=low or min(int(size), 30))
        if base == "text":
            return LETTERS
        if base == "sasl":
            return st.binary(max_size=30)
        return st.lists(values(base), min_size=low, max_size=low or min(int(size), 3))
    if kind == "typed":
        return TYPED
    if kind in NUMBERS:
        return NUMBERS[kind]
    return structure(kind)


@cache
def structure(name: str) -> st.SearchStrategy[dict[str, Any]]:
    pairs = [word.partition(":")[::2] for word in STRUCTS[name].split()]
    return st.fixed_dictionaries({field: values(kind) for field, kind in pairs})


def plain(value: Any) -> Any:
    """A decoded value in the form that it was made in."""
    if isinstance(value, xdr.Record):
        return {field: plain(getattr(value, field)) for field in value.fields}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(STRUCTS))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_round_trip_of_every_structure(name: str, data: st.DataObject) -> None:
    value = data.draw(structure(name))
    encoded = xdr.encode(name, value)
    assert len(encoded) % 4 == 0
    decoded = xdr.decode(name, encoded)
    assert plain(decoded) == value
    assert xdr.encode(name, decoded) == encoded
    if encoded:
        cut = data.draw(st.integers(0, len(encoded) - 1))
        with pytest.raises(RPCError):
            xdr.decode(name, encoded[:cut])
    with pytest.raises(RPCError):
        xdr.decode(name, encoded + bytes(4))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_changed_bytes_are_refused_or_mean_something_else(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(STRUCTS)))
    encoded = bytearray(xdr.encode(name, data.draw(structure(name))))
    for _ in range(data.draw(st.integers(1, 4))):
        if encoded:
            encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        value = xdr.decode(name, bytes(encoded))
    except RPCError:
        return
    xdr.encode(name, value)


CALLS = [row for row in PROCEDURES if row.access != "event"]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_calls_and_replies_in_any_pieces(data: st.DataObject) -> None:
    client, server = wire.Connection(), wire.Connection()
    rows = data.draw(st.lists(st.sampled_from(CALLS), min_size=1, max_size=4))
    sent, args = b"", []
    for row in rows:
        args.append(data.draw(structure(row.args)) if row.args else None)
        sent += client.call(row.name, args[-1])[1]
    calls = [event for piece in pieces(data, sent) for event in server.feed(piece)]
    assert [call.row for call in calls if isinstance(call, wire.Call)] == rows
    answers, results = b"", {}
    for call, given_args in zip(calls, args, strict=True):
        assert isinstance(call, wire.Call) and plain(call.args()) == given_args
        assert call.row is not None
        results[call.serial] = data.draw(structure(call.row.ret)) if call.row.ret else None
    for call in data.draw(st.permutations(calls)):
        assert isinstance(call, wire.Call)
        answers += wire.reply(call, results[call.serial])
    replies = [event for piece in pieces(data, answers) for event in client.feed(piece)]
    assert {reply.serial: plain(reply.value) for reply in replies if isinstance(reply, wire.Reply)} == results


def pieces(data: st.DataObject, whole: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
