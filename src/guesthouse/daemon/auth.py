"""Who a client is, and what it may do: the rows ``[[access]]`` of the configuration. Fails closed.

Without rows everybody who gets in may do all that the socket allows, as with libvirt. With rows a client may do what
the rows that name it say, together, and nothing else. Root and the daemon's own user on a Unix socket are held to no
row: what the daemon guards is theirs anyway. A row with ``on`` counts for the objects that it names; what of a call
depends on them is decided in :mod:`guesthouse.daemon.narrowed`.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from guesthouse.daemon.granted import Granted, Pattern, pattern
from guesthouse.errors import AccessDenied
from guesthouse.wire import permissions
from guesthouse.wire.procedures import Procedure

_log = logging.getLogger(__name__)

_SO_PEERGROUPS = 59
_GROUPS_MAX = 65536  # what Linux lets a process have


@dataclass(slots=True)
class Identity:
    """Who is on the other side, as far as it is proven: by the kernel (a Unix socket; -1: unknown), by a certificate
    (its distinguished name), by SASL."""

    uid: int = -1
    gid: int = -1
    pid: int = -1
    groups: frozenset[int] = field(default=frozenset())
    address: str = ""
    certificate: str = ""
    sasl: str = ""

    @classmethod
    def of(cls, sock: socket.socket) -> Identity:
        """Of the peer of an accepted socket."""
        if sock.family != socket.AF_UNIX:
            try:
                host, port = sock.getpeername()[:2]
            except OSError:  # gone already
                return cls(address="?")
            return cls(address=f"{host}:{port}")
        pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return cls(uid, gid, pid, _groups(_peer_groups(sock), gid))

    def __str__(self) -> str:
        """For the log; what a client could choose is quoted."""
        words = [f"pid {self.pid}", f"uid {self.uid}"] if self.pid != -1 else []
        words += [f"from {self.address}"] if self.address else []
        words += [f"certificate {self.certificate!r}"] if self.certificate else []
        words += [f"SASL user {self.sasl!r}"] if self.sasl else []
        return ", ".join(words)


#: What a client may be said to be (virIdentity's names), and the kinds of the parameters.
FORWARDED = {
    "user-name": "string",
    "unix-user-id": "ullong",
    "group-name": "string",
    "unix-group-id": "ullong",
    "process-id": "llong",
    "process-time": "ullong",
    "sasl-user-name": "string",
    "x509-distinguished-name": "string",
    "selinux-context": "string",
}


def forwarded(old: Identity, said: Mapping[str, Any]) -> Identity:
    """Who a client is that has come through somebody who is trusted, as that one says; nothing of ``old`` but where it
    came from stays."""
    uid, gid = int(said.get("unix-user-id", -1)), int(said.get("unix-group-id", -1))
    groups = {gid} - {-1}
    if uid != -1:
        try:
            entry = pwd.getpwuid(uid)
            groups |= set(os.getgrouplist(entry.pw_name, entry.pw_gid))
        except KeyError:
            pass
    return Identity(
        uid,
        gid,
        int(said.get("process-id", -1)),
        frozenset(groups),
        old.address,
        said.get("x509-distinguished-name", ""),
        said.get("sasl-user-name", ""),
    )


@lru_cache(maxsize=64)
def _groups(listed: bytes, gid: int) -> frozenset[int]:
    """One set for all clients that have the same groups."""
    return frozenset(struct.unpack(f"{len(listed) // 4}I", listed)) | {gid}


def _peer_groups(sock: socket.socket) -> bytes:
    """All groups that the peer had when it connected; none where the kernel does not say."""
    size = 4 * 64
    while size <= 4 * _GROUPS_MAX:
        try:
            return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size)
        except OSError as error:
            if error.errno != 34:  # ERANGE: there are more
                return b""
            size *= 4
    return b""


class Rules:
    """The rows of the configuration, made ready."""

    def __init__(self, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Raises ValueError with what is wrong with which row."""
        self._rows = [_row(number, row) for number, row in enumerate(rows, 1)]

    def granted(self, identity: Identity) -> frozenset[str] | None:
        """The permissions of ``identity`` (:class:`Granted` where some are for named objects alone); None: all."""
        if not self._rows or identity.uid in (0, os.geteuid()):
            return None
        rows = [row for row in self._rows if any(match(identity) for match in row.who)]
        return Granted.of([(row.allowed, row.on) for row in rows])


class _Row(NamedTuple):
    """``on``: the objects that are meant; none: all."""

    who: list[Callable[[Identity], bool]]
    allowed: frozenset[str]
    on: tuple[Pattern, ...]


def _row(number: int, row: Mapping[str, Any]) -> _Row:
    where = f"[[access]] row {number}"
    if not isinstance(row, Mapping) or set(row) - {"on"} != {"who", "may"}:
        raise ValueError(f"{where} needs the keys 'who' and 'may', may have 'on', and has no others")
    who, may = (_texts(where, key, row[key]) for key in ("who", "may"))
    allowed: set[str] = set()
    for word in may:
        found = [name for name in permissions.every_permission() if fnmatchcase(name, word.replace("-", "_"))]
        if not found:
            raise ValueError(f"{where}: there is no permission '{word}'")
        if "on" in row:
            found = [name for name in found if not name.startswith(_HOST)]
            if not found:
                raise ValueError(f"{where}: '{word}' is about no object: it needs a row without 'on'")
        allowed.update(found)
    on = tuple(pattern(where, text) for text in _texts(where, "on", row["on"])) if "on" in row else ()
    return _Row([_matcher(where, text) for text in who], frozenset(allowed), on)


# the permissions that are not on an object
_HOST = "connect:"


def _texts(where: str, key: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{where}: '{key}' is {value!r}, expected a text or a list of texts")
    return texts


def _matcher(where: str, text: str) -> Callable[[Identity], bool]:
    kind, _, name = text.partition(":")
    if text == "everybody":
        return lambda _: True
    if not name:
        kind = ""
    if kind == "user":
        uid = _number(where, text, name, lambda: pwd.getpwnam(name).pw_uid)
        return lambda identity: uid is not None and identity.uid == uid
    if kind == "group":
        gid = _number(where, text, name, lambda: grp.getgrnam(name).gr_gid)
        return lambda identity: gid is not None and gid in identity.groups
    if kind == "sasl":
        return lambda identity: bool(identity.sasl) and fnmatchcase(identity.sasl, name)
    if kind == "cert":
        return lambda identity: bool(identity.certificate) and fnmatchcase(identity.certificate, name)
    raise ValueError(f"{where}: who is '{text}'? expected user:, group:, sasl: or cert: and a name, or everybody")


def _number(where: str, text: str, name: str, lookup: Callable[[], int]) -> int | None:
    """The id of a user or group; None, for nobody, where there is none (a directory may be down at the moment)."""
    if name.isdecimal():
        return int(name)
    try:
        return lookup()
    except KeyError:
        _log.warning("%s: there is no %s: nobody is meant by it", where, text)
        return None


def check(
    row: Procedure, args: Mapping[str, Any], granted: frozenset[str] | None, identity: Identity
) -> tuple[str, ...]:
    """Let a call pass, or raise AccessDenied and write it to the log. Returns the permissions that the client has on
    some objects alone: whether on those of the call, is for :class:`guesthouse.daemon.narrowed.Narrowed` to say."""
    if granted is None:
        return ()
    needs = permissions.needs(row)
    if needs is None:
        raise refuse(row, "what nobody may", identity)
    left: tuple[str, ...] = ()
    for need in needs:
        if need.permission not in granted and need.applies(args):
            if not isinstance(granted, Granted) or need.permission not in granted.somewhere:
                raise refuse(row, need.permission, identity)
            left += (need.permission,)
    return left


def refuse(row: Procedure, permission: str, identity: Identity, about: str = "") -> AccessDenied:
    """Write down that ``identity`` may not call ``row`` (for the object that ``about`` tells of), and give the error that
    says so."""
    where = about and f" on {about}"
    _log.warning("access denied: %s needs %s%s: %s", row.name, permission, where, identity)
    return AccessDenied(f"'{_driver(row.name)}' denied access")


def shown(row: Procedure, value: Any, granted: frozenset[str] | None) -> Any:
    """Of ``value``, what ``row`` gives, what may be seen: of a listing all or nothing (or its count, 0)."""
    if granted is None:
        return value
    permission = permissions.shown_by(row)
    if not permission or permission in granted:
        return value
    return 0 if isinstance(value, int) else []


# libvirt's names of the parts that say no; what is none of them belongs to the hypervisor
_DRIVERS = (
    ("nwfilter", "nwfilter"),
    ("network", "network"),
    ("storage", "storage"),
    ("node_device", "nodedev"),
    ("node_list_devices", "nodedev"),
    ("node_num_of_devices", "nodedev"),
    ("interface", "interface"),
    ("secret", "secret"),
)


def _driver(procedure: str) -> str:
    if procedure.startswith("domain"):
        return "QEMU"
    return next((driver for word, driver in _DRIVERS if word in procedure), "QEMU")


def allowed_name(patterns: Sequence[str], name: str) -> bool:
    """Whether a certificate's name is in the list; without one every certificate that is verified is."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
