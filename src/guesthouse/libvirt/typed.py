"""Dictionaries to the wire's typed parameters and back; lists of strings; CPU maps."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

Param = tuple[str, str, Any]

# the fields of parameters that are given without asking what they are; others follow the type of their value
_KINDS = {
    **dict.fromkeys(
        ("bandwidth", "granularity", "buf-size", "bandwidth.postcopy", "compression.xbzrle.cache"), "ullong"
    ),
    **dict.fromkeys(("destination_xml", "destination_name", "migrate_uri", "graphics_uri", "listen_address"), "string"),
    **dict.fromkeys(("persistent_xml", "disks_uri", "tls.destination", "file", "dxml", "migrate_disks"), "string"),
    **dict.fromkeys(("disks_port", "auto_converge.initial", "auto_converge.increment", "parallel.connections"), "int"),
    **dict.fromkeys(("compression.mt.level", "compression.mt.threads", "compression.mt.dthreads"), "int"),
    **dict.fromkeys(("poll_grow", "poll_shrink", "sev-secret-set-address-unused"), "uint"),
    "poll_max_ns": "ullong",
    "sev-secret-set-address": "ullong",
    "unix-process-id": "llong",
}


def values(params: Iterable[Any]) -> dict[str, Any]:
    """Field -> value."""
    return {field: value for field, _, value in params}


def guess(values: Any) -> list[Param]:
    """Typed parameters for a dictionary whose fields are known, or else are what their values are."""
    if values is None:
        return []
    if not isinstance(values, dict):
        raise TypeError("dictionary is expected")
    found = []
    for field, value in values.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            found.append((field, _KINDS.get(field) or _kind(item), item))
    return found


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "double"
    return "ullong" if operator.index(value) >= 1 << 63 else "llong"


def fitting(known: Iterable[Any], values: Any) -> list[Param]:
    """Typed parameters for a dictionary of some of the ``known`` ones. Raises LookupError for another."""
    if not isinstance(values, dict):
        raise TypeError("dictionary is expected")
    if not values:
        raise LookupError("Need non-empty dictionary to set attributes")
    kinds = {field: kind for field, kind, _ in known}
    for field in values:
        if field not in kinds:
            raise LookupError(f'Attribute name "{field}" could not be recognized')
    return [(field, kinds[field], value) for field, value in values.items()]


def switches(values: dict[str, Any]) -> list[Param]:
    return [(field, "boolean", bool(value)) for field, value in values.items()]


def strings(values: Any, function: str) -> list[str]:
    """A list of strings, None being none."""
    if values is None:
        return []
    if isinstance(values, str) or not all(isinstance(item, str) for item in values):
        raise TypeError(f"{function}() wants a list of strings")
    return list(values)


def raw(value: Any) -> bytes:
    """Bytes that have to be bytes."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a bytes-like object is required, not '{type(value).__name__}'")
    return bytes(value)


def bits(cpumap: bytes, count: int) -> list[bool]:
    """The first ``count`` bits of a CPU map."""
    return [at // 8 < len(cpumap) and bool(cpumap[at // 8] >> at % 8 & 1) for at in range(count)]


def bitmap(cpus: Any, count: int) -> bytes:
    """A CPU map for ``count`` CPUs from a tuple of truths; those that are not given are off."""
    if not isinstance(cpus, tuple):
        raise TypeError("Unexpected type, tuple is required")
    found = bytearray((count + 7) // 8)
    for at, on in enumerate(cpus[:count]):
        if on:
            found[at // 8] |= 1 << at % 8
    return bytes(found)
