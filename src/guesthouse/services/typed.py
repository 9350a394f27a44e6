"""Typed parameters as clients give them, checked as libvirt checks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guesthouse.errors import ArgumentUnsupported, InvalidArg, from_wire
from guesthouse.errors import Domain as ErrorDomain


def checked(params: Iterable[Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Name -> value, in the order in which they were given. ``kinds`` are the names that are taken, with their kinds.

    Raises InvalidArg for a name that comes twice or has another kind, ArgumentUnsupported for one that is not taken.
    """
    found: dict[str, Any] = {}
    unknown = None
    for param in sorted(params, key=lambda param: str(param.field)):
        want = kinds.get(param.field)
        if want is None:
            unknown = unknown or param.field
        elif param.field in found:
            raise _bad(InvalidArg.code, f"parameter '{param.field}' occurs multiple times")
        elif param.kind != want:
            text = f"invalid type '{param.kind}' for parameter '{param.field}', expected '{want}'"
            raise _bad(InvalidArg.code, text)
        else:
            found[param.field] = param.value
    if unknown is not None:
        raise ArgumentUnsupported(f"parameter '{unknown}' not supported", domain=ErrorDomain.NONE)
    return {param.field: found[param.field] for param in params}


def _bad(code: int, text: str) -> Exception:
    return from_wire(code, ErrorDomain.NONE, f"invalid argument: {text}")
