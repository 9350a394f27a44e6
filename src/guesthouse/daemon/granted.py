"""What a client is granted: permissions, on every object or on those that a row of rules names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

from guesthouse.services.admission import Named

#: Whether an object is meant.
Pattern = Callable[[Named], bool]


class Granted(frozenset[str]):
    """The permissions that hold for every object, and beside them those that hold for some."""

    _on: tuple[tuple[frozenset[str], tuple[Pattern, ...]], ...]
    #: what holds for some object
    somewhere: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[tuple[frozenset[str], tuple[Pattern, ...]]]) -> frozenset[str]:
        """What rows of permissions and objects (none: all) say together; a plain set where none names objects."""
        everywhere: frozenset[str] = frozenset().union(*(allowed for allowed, on in rows if not on))
        on = tuple(row for row in rows if row[1])
        if not on:
            return everywhere
        granted = cls(everywhere)
        granted._on = on
        granted.somewhere = frozenset().union(*(allowed for allowed, _ in on))
        return granted

    def on(self, permission: str, one: Named) -> bool:
        """Whether ``permission`` holds for this object."""
        return permission in self or any(
            permission in allowed and any(pattern(one) for pattern in patterns) for allowed, patterns in self._on
        )


_KEYS = ("name", "uuid", "key", "usage", "mac")


def pattern(where: str, text: str) -> Pattern:
    """``NAME``, ``POOL/VOLUME``, ``NETWORK/PORT`` or ``KEY:VALUE``, with the shell's signs. An object that lacks what
    the pattern asks for is never meant. Raises ValueError, which begins with ``where``."""
    key, colon, value = text.partition(":")
    if not colon:
        key, value = "name", text
    if key not in _KEYS or not value:
        raise ValueError(f"{where}: on '{text}'? expected a name, or name:, uuid:, key:, usage: or mac: and a value")
    if key in ("uuid", "mac"):
        value = value.lower()
    fits = re.compile(translate(value)).match
    if key != "name":
        return lambda one: (found := getattr(one, key)) != "" and fits(found) is not None
    outer, slash, inner = value.partition("/")
    if not slash:
        return lambda one: one.kind not in _WITHIN and one.name != "" and fits(one.name) is not None
    around, inside = re.compile(translate(outer)).match, re.compile(translate(inner)).match
    return lambda one: one.kind in _WITHIN and around(one.within) is not None and inside(one.name) is not None


# what has its name within another object
_WITHIN = ("storage_vol", "network_port")


def told(one: Named) -> str:
    """For the log; quoted, for a client may have chosen it."""
    name = f"{one.within}/{one.name}" if one.within else one.name
    return " ".join(repr(word) for word in (name, one.uuid, one.usage) if word)
