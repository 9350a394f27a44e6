"""XDR (RFC 4506) as libvirt uses it: structures of :mod:`guesthouse.wire.types` to bytes and back.

A structure is compiled when it is first used. Decoded structures are :class:`Record` tuples with named fields; to
encode, any object with the fields as attributes will do, or a dict, or a tuple in wire order. Whatever does not fit
(a string or list over its limit, a number out of range, bytes that end early or say too much) is an RPCError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from guesthouse.errors import RPCError
from guesthouse.wire.types import STRUCTS

Encoder = Callable[[Any, bytearray], None]
Decoder = Callable[[bytes, int], tuple[Any, int]]

# small structures that a daemon sends over and over, the same each time: their bytes are kept
_HANDLES = frozenset(f"nonnull_{kind}" for kind in ("domain", "network", "storage_pool", "storage_vol"))
_HANDLES_KEPT = 4096

STRING_MAX = 4 * 1024 * 1024

# typed parameter kinds (virTypedParameterType) and how their values travel
KINDS = {"int": 1, "uint": 2, "llong": 3, "ullong": 4, "double": 5, "boolean": 6, "string": 7}
KIND_NAMES = {number: name for name, number in KINDS.items()}
_KIND_TYPES = {1: "int", 2: "uint", 3: "hyper", 4: "uhyper", 5: "double", 6: "int", 7: "str"}
_FIELD_MAX = 79


class TypedParam(NamedTuple):
    """A typed parameter: ``kind`` is a name of :data:`KINDS`."""

    field: str
    kind: str
    value: Any


class Record(tuple[Any, ...]):
    """A decoded structure: a tuple whose items also have names."""

    __slots__ = ()
    fields: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no field {name!r}, only {self.fields}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in zip(self.fields, self, strict=True))})"

    def asdict(self) -> dict[str, Any]:
        """Field name -> value, in wire order."""
        return dict(zip(self.fields, self, strict=True))


class Codec(NamedTuple):
    """How one type is written and read. ``encode(value, out)`` appends; ``decode(data, at)`` -> (value, next)."""

    encode: Encoder
    decode: Decoder


class StructCodec(NamedTuple):
    """A structure: its codec, its record class and its fields as (name, type) pairs in wire order."""

    encode: Encoder
    decode: Decoder
    record: type[Record]
    fields: tuple[tuple[str, str], ...]


_codecs: dict[str, Codec] = {}
_structs: dict[str, StructCodec] = {}


def encode(name: str, value: object) -> bytes:
    """The bytes of ``value`` as the structure ``name``. Raises RPCError where a value does not fit."""
    out = bytearray()
    struct_codec(name).encode(value, out)
    return bytes(out)


def decode(name: str, data: bytes) -> Record:
    """The structure ``name`` that fills ``data`` exactly. Raises RPCError where it does not."""
    try:
        value, end = struct_codec(name).decode(data, 0)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise RPCError(f"Unable to decode message payload: {name}: {error}") from None
    if end != len(data):
        raise RPCError(f"Unable to decode message payload: {name} leaves {len(data) - end} bytes")
    assert isinstance(value, Record)
    return value


def struct_codec(name: str) -> StructCodec:
    """The compiled structure ``name``; KeyError for a name that the table does not have."""
    codec = _structs.get(name)
    if codec is None:
        codec = _structs[name] = _compile_struct(name)
    return codec


def _compile_struct(name: str) -> StructCodec:
    pairs: list[tuple[str, str]] = []
    for word in STRUCTS[name].split():
        field, _, kind = word.partition(":")
        pairs.append((field, kind))
    names = tuple(field for field, _ in pairs)
    members: dict[str, Any] = {field: property(itemgetter(i)) for i, field in enumerate(names)}
    record = type(name, (Record,), {**members, "__slots__": (), "fields": names})
    codecs = [_codec(kind) for _, kind in pairs]
    decoders = [codec.decode for codec in codecs]
    encoders = [codec.encode for codec in codecs]
    new = tuple.__new__
    count = len(pairs)

    def decode_struct(data: bytes, at: int) -> tuple[Any, int]:
        values = []
        for read in decoders:
            value, at = read(data, at)
            values.append(value)
        return new(record, values), at

    def encode_struct(value: Any, out: bytearray) -> None:
        if isinstance(value, tuple) and getattr(value, "_fields", names) == names:
            values: Iterable[Any] = value
            if len(value) != count:
                raise RPCError(f"Unable to encode message payload: {name} has {count} fields, not {len(value)}")
        elif isinstance(value, Mapping):
            values = [value[field] for field in names]
        else:
            values = [getattr(value, field) for field in names]
        for write, item in zip(encoders, values, strict=True):
            write(item, out)

    encode = _remembered(encode_struct) if name in _HANDLES else encode_struct
    return StructCodec(encode, decode_struct, record, tuple(pairs))


def _remembered(encode: Encoder) -> Encoder:
    """``encode`` for tuples that come again and again."""

    @lru_cache(maxsize=_HANDLES_KEPT)
    def packed(value: tuple[Any, ...]) -> bytes:
        out = bytearray()
        encode(value, out)
        return bytes(out)

    def write(value: Any, out: bytearray) -> None:
        if isinstance(value, tuple):
            out += packed(value)
        else:
            encode(value, out)

    return write


def _codec(kind: str) -> Codec:
    codec = _codecs.get(kind)
    if codec is None:
        codec = _codecs[kind] = _compile(kind)
    return codec


def _compile(kind: str) -> Codec:
    if kind.endswith("?"):
        return _optional(_codec(kind[:-1]))
    if kind.endswith(("]", ">")):
        base, _, size = kind[:-1].partition("[" if kind.endswith("]") else "<")
        fixed = kind.endswith("]")
        if base == "opaque":
            return _opaque(int(size), fixed)
        if base in ("text", "sasl"):
            return _characters(int(size), fixed, base == "text")
        return _array(_codec(base), int(size), fixed)
    if kind == "typed":
        return _TYPED
    # a nested structure compiles when it is first met in a message, so that unused branches cost nothing
    return Codec(
        lambda value, out: struct_codec(kind).encode(value, out),
        lambda data, at: struct_codec(kind).decode(data, at),
    )


def _number(form: str, low: float, high: float) -> Codec:
    packer = struct.Struct(form)
    pack, unpack_from, size = packer.pack, packer.unpack_from, packer.size

    def write(value: Any, out: bytearray) -> None:
        try:
            out += pack(value)
        except struct.error:
            raise RPCError(f"Unable to encode message payload: {value!r} is not in {low}..{high}") from None

    def read(data: bytes, at: int) -> tuple[Any, int]:
        return unpack_from(data, at)[0], at + size

    return Codec(write, read)


def _small(low: int, high: int) -> Codec:
    wide = _codecs["int"]

    def write(value: Any, out: bytearray) -> None:
        if not low <= value <= high:
            raise RPCError(f"Unable to encode message payload: {value!r} is not in {low}..{high}")
        wide.encode(value, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        value, at = wide.decode(data, at)
        if not low <= value <= high:
            raise RPCError(f"Unable to decode message payload: {value} is not in {low}..{high}")
        return value, at

    return Codec(write, read)


_U32 = struct.Struct(">I")


def _length(data: bytes, at: int, limit: int, item: int) -> tuple[int, int]:
    """A count and where its items begin; never more than ``limit``, nor than the bytes at hand can hold."""
    (count,) = _U32.unpack_from(data, at)
    if count > limit:
        raise RPCError(f"Unable to decode message payload: {count} items, at most {limit} are allowed")
    if count * item > len(data) - at - 4:
        raise RPCError("Unable to decode message payload: it ends early")
    return count, at + 4


def _put_bytes(value: bytes, out: bytearray) -> None:
    out += value
    out += bytes(-len(value) % 4)


def _string() -> Codec:
    def write(value: Any, out: bytearray) -> None:
        raw = value.encode("utf-8", "surrogateescape")
        if len(raw) > STRING_MAX:
            raise RPCError(f"Unable to encode message payload: a string of {len(raw)} bytes, at most {STRING_MAX}")
        out += _U32.pack(len(raw))
        _put_bytes(raw, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        count, at = _length(data, at, STRING_MAX, 1)
        end = at + count
        return data[at:end].decode("utf-8", "surrogateescape"), _padded(data, end, count)

    return Codec(write, read)


def _padded(data: bytes, end: int, count: int) -> int:
    end += -count % 4
    if end > len(data):
        raise RPCError("Unable to decode message payload: it ends early")
    return end


def _opaque(size: int, fixed: bool) -> Codec:
    def write(value: Any, out: bytearray) -> None:
        if len(value) != size if fixed else len(value) > size:
            raise RPCError(f"Unable to encode message payload: {len(value)} bytes where {size} are allowed")
        if not fixed:
            out += _U32.pack(len(value))
        _put_bytes(value, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        count, at = (size, at) if fixed else _length(data, at, size, 1)
        end = _padded(data, at + count, count)
        return bytes(data[at : at + count]), end

    return Codec(write, read)


def _uuid() -> Codec:
    def write(value: Any, out: bytearray) -> None:
        try:
            raw = bytes.fromhex(value.replace("-", ""))
        except ValueError:
            raw = b""
        if len(raw) != 16:
            raise RPCError(f"Unable to encode message payload: {value!r} is no UUID")
        out += raw

    def read(data: bytes, at: int) -> tuple[Any, int]:
        text = data[at : at + 16].hex()
        if len(text) != 32:
            raise RPCError("Unable to decode message payload: it ends early")
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}", at + 16

    return Codec(write, read)


def _characters(size: int, fixed: bool, text: bool) -> Codec:
    """Arrays of char: four bytes for each on the wire."""

    def write(value: Any, out: bytearray) -> None:
        raw = value.encode() if isinstance(value, str) else bytes(value)
        if len(raw) > size - (1 if fixed and text else 0):
            raise RPCError(f"Unable to encode message payload: {len(raw)} characters where {size} are allowed")
        if fixed:
            raw = raw.ljust(size, b"\0")
        else:
            if text:
                raw += b"\0"  # libvirt counts the terminator
            out += _U32.pack(len(raw))
        out += struct.pack(f">{len(raw)}i", *(byte if byte < 128 else byte - 256 for byte in raw))

    def read(data: bytes, at: int) -> tuple[Any, int]:
        count, at = (size, at) if fixed else _length(data, at, size, 4)
        numbers = struct.unpack_from(f">{count}i", data, at)
        if not all(-128 <= number <= 255 for number in numbers):
            raise RPCError("Unable to decode message payload: a character out of range")
        raw = bytes(number & 0xFF for number in numbers)
        at += 4 * count
        return (raw.partition(b"\0")[0].decode("utf-8", "replace") if text else raw), at

    return Codec(write, read)


def _optional(inner: Codec) -> Codec:
    encode_inner, decode_inner = inner

    def write(value: Any, out: bytearray) -> None:
        if value is None:
            out += b"\0\0\0\0"
        else:
            out += b"\0\0\0\1"
            encode_inner(value, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        (there,) = _U32.unpack_from(data, at)
        if there > 1:
            raise RPCError("Unable to decode message payload: an option that is neither there nor absent")
        return decode_inner(data, at + 4) if there else (None, at + 4)

    return Codec(write, read)


def _array(inner: Codec, size: int, fixed: bool) -> Codec:
    encode_item, decode_item = inner

    def write(value: Any, out: bytearray) -> None:
        items = list(value) if not isinstance(value, Mapping) else list(value.items())
        if len(items) != size if fixed else len(items) > size:
            raise RPCError(f"Unable to encode message payload: {len(items)} items where {size} are allowed")
        if not fixed:
            out += _U32.pack(len(items))
        for item in items:
            encode_item(item, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        count, at = (size, at) if fixed else _length(data, at, size, 4)
        items = []
        for _ in range(count):
            item, at = decode_item(data, at)
            items.append(item)
        return items, at

    return Codec(write, read)


def _typed() -> Codec:
    """Typed parameters. To encode: a :class:`TypedParam`, or (field, (kind, value)) as from a dict's items."""

    def write(value: Any, out: bytearray) -> None:
        field, kind, content = value if len(value) == 3 else (value[0], *value[1])
        number = KINDS[kind]
        if len(field) > _FIELD_MAX:
            raise RPCError(f"Unable to encode message payload: field name '{field}' is too long")
        _codec("str").encode(field, out)
        out += _U32.pack(number)
        _codec(_KIND_TYPES[number]).encode(int(content) if kind == "boolean" else content, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        field, at = _codec("str").decode(data, at)
        if len(field) > _FIELD_MAX:
            raise RPCError(f"Unable to decode message payload: field name '{field[:20]}...' is too long")
        (number,) = _U32.unpack_from(data, at)
        kind = KIND_NAMES.get(number)
        if kind is None:
            raise RPCError(f"Unable to decode message payload: unknown parameter type {number}")
        content, at = _codec(_KIND_TYPES[number]).decode(data, at + 4)
        return TypedParam(field, kind, bool(content) if kind == "boolean" else content), at

    return Codec(write, read)


_codecs["int"] = _number(">i", -(2**31), 2**31 - 1)
_codecs["uint"] = _number(">I", 0, 2**32 - 1)
_codecs["hyper"] = _number(">q", -(2**63), 2**63 - 1)
_codecs["uhyper"] = _number(">Q", 0, 2**64 - 1)
_codecs["double"] = _number(">d", float("-inf"), float("inf"))
_codecs["char"] = _small(-128, 255)
_codecs["uchar"] = _small(0, 255)
_codecs["short"] = _small(-(2**15), 2**15 - 1)
_codecs["ushort"] = _small(0, 2**16 - 1)
_codecs["str"] = _string()
_codecs["uuid"] = _uuid()
_TYPED = _typed()
