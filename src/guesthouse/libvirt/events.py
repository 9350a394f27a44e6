"""What an event's message tells a program: the arguments of its callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guesthouse.libvirt import errors, typed
from guesthouse.libvirt.connection import Queue
from guesthouse.libvirt.objects import Session, invalid, wrap
from guesthouse.wire.xdr import Record

# scope -> the field that names the object, its type on the wire, the word in libvirt's function, how many events it has
_SCOPES = {
    "domain": ("dom", "nonnull_domain", "Domain", 27),
    "network": ("net", "nonnull_network", "Network", 1),
    "storage_pool": ("pool", "nonnull_storage_pool", "StoragePool", 2),
    "node_device": ("dev", "nonnull_node_device", "NodeDevice", 2),
    "secret": ("secret", "nonnull_secret", "Secret", 2),
}


def _plain(name: str, value: Any) -> Any:
    """Records as libvirt-python shows them: addresses as dictionaries, identities as pairs, parameters as one."""
    if name == "params":
        return typed.values(value)
    if isinstance(value, list):
        return [tuple(item) for item in value]
    return value.asdict() if isinstance(value, Record) else value


def _fields(record: Record, field: str) -> tuple[Any, list[Any]]:
    """The object of an event and what is told of it, in the wire's order."""
    own, rest = None, []
    for name, value in zip(record.fields, record, strict=True):
        if name == "msg":
            own, inner = _fields(value, field)
            rest += inner
        elif name == field:
            own = value
        elif name != "callbackID":
            rest.append(_plain(name, value))
    return own, rest


def queue_of(session: Session) -> Queue:
    """The session's queue of events, made when it is first wanted. Raises libvirtError without an event loop."""
    if session.queue is None:
        session.queue = Queue(session)
    queue: Queue = session.queue
    return queue


def register(conn: Any, scope: str, obj: Any, event: int, cb: Callable[..., Any], opaque: Any) -> int:
    """Have ``cb(conn, object, ..., opaque)`` called with each event of that kind; returns the registration's number."""
    field, kind, word, count = _SCOPES[scope]
    function = f"virConnect{word}EventRegisterAny"
    session = conn._o
    if session is None:
        invalid(function, "connection")
    if not 0 <= event < count:
        errors.virResetLastError()
        raise errors.libvirtError(f"{function}() failed")

    def call(record: Record) -> None:
        own, rest = _fields(record, field)
        cb(conn, wrap(conn, kind, own), *rest, opaque)

    return queue_of(session).register(session, function, scope, event, None if obj is None else obj._o.ref, call)


def deregister(conn: Any, scope: str, number: int) -> None:
    function = f"virConnect{_SCOPES[scope][2]}EventDeregisterAny"
    if conn._o is None:
        invalid(function, "connection")
    queue_of(conn._o).deregister(conn._o, function, number)
