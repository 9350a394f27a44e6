"""Refusing flags as libvirt does."""

from __future__ import annotations

from guesthouse.errors import Domain, InvalidArg, from_wire


def check_flags(flags: int, supported: int, function: str, domain: Domain) -> None:
    """Raises InvalidArg where ``flags`` has more than ``supported``; libvirt names its own function, and does not say
    that this is an invalid argument."""
    if flags & ~supported:
        text = f"unsupported flags (0x{flags & ~supported:x}) in function {function}"
        raise from_wire(InvalidArg.code, domain, text)
