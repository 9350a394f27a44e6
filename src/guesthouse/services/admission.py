"""What rules of access know an object by, and the question whether an object may be made.

Who calls is the daemon's business. But what a document is about, only the service that reads it knows for certain: it
asks :func:`admit` before it looks whether there is such an object, and before anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from guesthouse.services.refs import (
    DomainRef,
    InterfaceRef,
    NetworkPortRef,
    NetworkRef,
    NodeDeviceRef,
    NWFilterBindingRef,
    NWFilterRef,
    PoolRef,
    SecretRef,
    VolumeRef,
)


class Named(NamedTuple):
    """An object: ``kind`` as libvirt's access control calls it ("storage_vol"), ``within`` the name of the pool of a
    volume or the network of a port. What it does not have is ""."""

    kind: str
    name: str = ""
    uuid: str = ""
    within: str = ""
    key: str = ""
    usage: str = ""
    mac: str = ""


_OF: dict[type, Callable[[Any], Named]] = {
    DomainRef: lambda ref: Named("domain", ref.name, ref.uuid),
    NetworkRef: lambda ref: Named("network", ref.name, ref.uuid),
    NetworkPortRef: lambda ref: Named("network_port", ref.uuid, ref.uuid, within=ref.net.name),
    PoolRef: lambda ref: Named("storage_pool", ref.name, ref.uuid),
    VolumeRef: lambda ref: Named("storage_vol", ref.name, within=ref.pool, key=ref.key),
    SecretRef: lambda ref: Named("secret", uuid=ref.uuid, usage=ref.usageID),
    NWFilterRef: lambda ref: Named("nwfilter", ref.name, ref.uuid),
    NWFilterBindingRef: lambda ref: Named("nwfilter_binding", ref.portdev),
    NodeDeviceRef: lambda ref: Named("node_device", ref.name),
    InterfaceRef: lambda ref: Named("interface", ref.name, mac=ref.mac),
}


def named(ref: Any) -> Named:
    """What the object of a handle is called. The handle must be a service's: a client's may say anything."""
    return _OF[type(ref)](ref)


class Asked(Protocol):
    """Whom a client's call asks, as long as it is under way. All raise AccessDenied."""

    #: the call has its answer: what it has started and goes on is nobody's any more
    over: bool

    def check(self) -> None: ...
    def admit(self, made: Named) -> None: ...
    def use(self, one: Named, *, writes: bool) -> None: ...


_asked: ContextVar[Asked | None] = ContextVar("_asked", default=None)


def _whom() -> Asked | None:
    whom = _asked.get()
    return whom if whom is not None and not whom.over else None


def asked() -> bool:
    """Whether anybody is asked: outside of a client's call nobody is, nor where no rule names objects."""
    return _whom() is not None


def again() -> None:
    """After a wait: raises AccessDenied where what the call is about is no more what who called may have."""
    whom = _whom()
    if whom is not None:
        whom.check()


def admit(made: Named) -> None:
    """Raises AccessDenied where who called may not make, or change, ``made``."""
    whom = _whom()
    if whom is not None:
        whom.admit(made)


def use(one: Named, *, writes: bool) -> None:
    """Raises AccessDenied where who called may not give ``one``, a volume or what another guest has, to a guest."""
    whom = _whom()
    if whom is not None:
        whom.use(one, writes=writes)


@contextmanager
def asking(whom: Asked) -> Iterator[None]:
    """Have ``whom`` asked in the body, and in the tasks and threads that start there."""
    token = _asked.set(whom)
    try:
        yield
    finally:
        _asked.reset(token)
