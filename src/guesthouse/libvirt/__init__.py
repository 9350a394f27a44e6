"""libvirt-python's module in pure Python, over the client library: ``import guesthouse.libvirt as libvirt``.

The names, the ways to call them, what they return and how they fail are those of libvirt-python 9.0.
"""

from __future__ import annotations

from typing import Any

from guesthouse.libvirt import connection as _connection
from guesthouse.libvirt import constants as _constants
from guesthouse.libvirt.connect import virConnect
from guesthouse.libvirt.constants import *  # noqa: F403 - they are the module's
from guesthouse.libvirt.domain import virDomain, virDomainCheckpoint, virDomainSnapshot
from guesthouse.libvirt.errors import (
    libvirtError,
    registerErrorHandler,
    virGetLastError,
    virGetLastErrorCode,
    virGetLastErrorDomain,
    virGetLastErrorMessage,
    virResetLastError,
)
from guesthouse.libvirt.eventloop import (
    _EventCB,
    _eventInvokeHandleCallback,
    _eventInvokeTimeoutCallback,
    _TimerCB,
    virEventAddHandle,
    virEventAddTimeout,
    virEventInvokeFreeCallback,
    virEventRegisterDefaultImpl,
    virEventRegisterImpl,
    virEventRemoveHandle,
    virEventRemoveTimeout,
    virEventRunDefaultImpl,
    virEventUpdateHandle,
    virEventUpdateTimeout,
)
from guesthouse.libvirt.host import virInterface, virNodeDevice, virNWFilter, virNWFilterBinding, virSecret
from guesthouse.libvirt.network import virNetwork, virNetworkPort
from guesthouse.libvirt.storage import virStoragePool, virStorageVol
from guesthouse.libvirt.stream import virStream

__all__ = [
    "_EventCB",
    "_TimerCB",
    "_eventInvokeHandleCallback",
    "_eventInvokeTimeoutCallback",
    "getVersion",
    "libvirtError",
    "open",
    "openAuth",
    "openReadOnly",
    "registerErrorHandler",
    "virConnect",
    "virDomain",
    "virDomainCheckpoint",
    "virDomainSnapshot",
    "virEventAddHandle",
    "virEventAddTimeout",
    "virEventInvokeFreeCallback",
    "virEventRegisterDefaultImpl",
    "virEventRegisterImpl",
    "virEventRemoveHandle",
    "virEventRemoveTimeout",
    "virEventRunDefaultImpl",
    "virEventUpdateHandle",
    "virEventUpdateTimeout",
    "virGetLastError",
    "virGetLastErrorCode",
    "virGetLastErrorDomain",
    "virGetLastErrorMessage",
    "virInitialize",
    "virInterface",
    "virNWFilter",
    "virNWFilterBinding",
    "virNetwork",
    "virNetworkPort",
    "virNodeDevice",
    "virResetLastError",
    "virSecret",
    "virStoragePool",
    "virStorageVol",
    "virStream",
]
__all__ += _constants.__all__

_VERSION = 9_000_000
_CREDENTIALS = {"name": 2, "password": 5}  # VIR_CRED_AUTHNAME, VIR_CRED_PASSPHRASE
_READONLY = 1


def open(name: str | None = None) -> virConnect:
    """A connection to the host that ``name`` means (None: the default). Raises libvirtError."""
    return virConnect(_connection.start(name, readonly=False))


def openReadOnly(name: str | None = None) -> virConnect:
    """As :func:`open`, for what changes nothing."""
    return virConnect(_connection.start(name, readonly=True))


def openAuth(uri: str | None, auth: list[Any], flags: int = 0) -> virConnect:
    """As :func:`open`; ``auth`` is what kinds of credentials are had, a callback that fills lists of (kind, prompt,
    challenge, default, answer) and returns 0, and what it gets beside."""
    if not isinstance(auth, list | tuple) or len(auth) < 3:
        raise TypeError("auth wants a list of kinds, a callback and its data")
    kinds, callback, data = auth[:3]

    def ask(what: str, prompt: str) -> str | None:
        kind = _CREDENTIALS[what]
        if kind not in (kinds or []) or callback is None:
            return None
        wanted: list[Any] = [kind, prompt, None, None, None]
        return None if callback([wanted], data) else wanted[4]

    return virConnect(_connection.start(uri, bool(flags & _READONLY), ask))


def getVersion(name: str | None = None) -> int | tuple[int, int]:
    """The version of libvirt that this is like; with the name of a driver a pair of the same."""
    return _VERSION if name is None else (_VERSION, _VERSION)


def virInitialize() -> int:
    """There is nothing to do."""
    return 0


def __getattr__(name: str) -> int | str:
    """For type checkers: the constants are made from a table."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
