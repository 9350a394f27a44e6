"""Every error that Guesthouse raises, in one table: a class for each libvirt error code that is used.

A class carries the code, the usual domain (the part of the system that speaks) and the prefix that libvirt puts
before the detail. The same classes travel: the daemon puts one on the wire, the client raises it again with
:func:`from_wire`. Codes, domains and prefixes are libvirt 9.0's.
"""

from __future__ import annotations

import enum
import os
from typing import ClassVar


class Domain(enum.IntEnum):
    """Which part of the system reports an error (libvirt's virErrorDomain; only those that are used here)."""

    NONE = 0
    XML = 5
    RPC = 7
    CONF = 9
    QEMU = 10
    TEST = 12
    REMOTE = 13
    STORAGE = 18
    NETWORK = 19
    DOMAIN = 20
    NODEDEV = 22
    SECURITY = 24
    INTERFACE = 26
    SECRET = 30
    CPU = 31
    NWFILTER = 33
    STREAMS = 38
    EVENT = 40
    LOCKING = 42
    CAPABILITIES = 44
    URI = 45
    AUTH = 46
    DEVICE = 49
    SSH = 50
    CGROUP = 54
    ACCESS = 55
    FIREWALL = 59
    POLKIT = 60
    ADMIN = 62
    RESCTRL = 67


LEVEL_WARNING = 1
LEVEL_ERROR = 2


class GuesthouseError(Exception):
    """The root of all errors. ``str(error)`` is the whole text that a user sees, prefix included.

    ``detail`` is the text without prefix. ``domain`` defaults to the class's. ``int1`` carries the errno of a
    :class:`SystemFailure`.
    """

    code: ClassVar[int] = 1
    prefix: ClassVar[str] = "internal error: "
    bare: ClassVar[str] = "internal error"
    default_domain: ClassVar[Domain] = Domain.NONE

    def __init__(
        self,
        detail: str = "",
        *,
        domain: int | None = None,
        level: int = LEVEL_ERROR,
        int1: int = -1,
        int2: int = -1,
    ) -> None:
        self.detail = detail
        self.domain: int = int(self.default_domain if domain is None else domain)
        self.level = level
        self.int1 = int1
        self.int2 = int2
        self.message = self.prefix + detail if detail else self.bare
        super().__init__(self.message)

    @property
    def number(self) -> int:
        """The libvirt code (virErrorNumber); of an :class:`UnknownError` the one that the peer sent."""
        return self.code

    @property
    def str1(self) -> str:
        """The pattern that the message was made from, as libvirt sends it in the error structure."""
        return f"{self.prefix}%s" if self.detail else self.bare

    def __reduce__(self) -> tuple[object, ...]:
        return (from_wire, (self.number, self.domain, self.message, self.level, self.int1, self.int2))


_BY_CODE: dict[int, type[GuesthouseError]] = {}


_D = Domain


class InternalError(GuesthouseError):
    """libvirt error 1: the hypervisor said no, or something unforeseen."""

    code = 1
    default_domain = _D.QEMU


class NoSupport(GuesthouseError):
    """libvirt error 3: not implemented. Clients fall back to older calls on this code alone."""

    code = 3
    bare = "this function is not supported by the connection driver"
    prefix = "this function is not supported by the connection driver: "


class NoConnect(GuesthouseError):
    """libvirt error 5: no driver for the URI."""

    code = 5
    bare = "no connection driver available"
    prefix = "no connection driver available for "


class InvalidArg(GuesthouseError):
    """libvirt error 8: an argument out of range, exclusive flags together, an unknown flag."""

    code = 8
    bare = "invalid argument"
    prefix = "invalid argument: "
    default_domain = _D.QEMU


class OperationFailed(GuesthouseError):
    """libvirt error 9: for one, a name that another object has."""

    code = 9
    bare = "operation failed"
    prefix = "operation failed: "
    default_domain = _D.DOMAIN


class XMLError(GuesthouseError):
    """libvirt error 27: well-formed XML that says something wrong."""

    code = 27
    bare = "XML description is invalid or not well formed"
    prefix = "XML error: "
    default_domain = _D.XML


class OperationDenied(GuesthouseError):
    """libvirt error 29: a read-only connection asked for a change."""

    code = 29
    bare = "operation forbidden for read only access"
    prefix = "operation forbidden: "
    default_domain = _D.DOMAIN


class XMLDetail(GuesthouseError):
    """libvirt error 35: XML that is not well formed; the text has line, column and the parser's words."""

    code = 35
    bare = "parser error"
    prefix = ""
    default_domain = _D.DOMAIN


class SystemFailure(GuesthouseError):
    """libvirt error 38: an operating-system error; ``int1`` is its errno and the text ends with strerror's."""

    code = 38
    bare = "system call error"
    prefix = ""

    @classmethod
    def from_os(cls, error: OSError, what: str, *, domain: int | None = None) -> SystemFailure:
        """The error for ``what`` ("cannot open file '/x'"), which failed with ``error``."""
        number = error.errno or 0
        text = error.strerror or os.strerror(number)
        return cls(f"{what}: {text}", domain=domain, int1=number)


class RPCError(GuesthouseError):
    """libvirt error 39: misuse of the protocol."""

    code = 39
    bare = "RPC error"
    prefix = ""
    default_domain = _D.RPC


class NoDomain(GuesthouseError):
    """libvirt error 42."""

    code = 42
    bare = "Domain not found"
    prefix = "Domain not found: "
    default_domain = _D.QEMU


class NoNetwork(GuesthouseError):
    """libvirt error 43."""

    code = 43
    bare = "Network not found"
    prefix = "Network not found: "
    default_domain = _D.NETWORK


class AuthFailed(GuesthouseError):
    """libvirt error 45."""

    code = 45
    bare = "authentication failed"
    prefix = "authentication failed: "
    default_domain = _D.RPC


class NoStoragePool(GuesthouseError):
    """libvirt error 49."""

    code = 49
    bare = "Storage pool not found"
    prefix = "Storage pool not found: "
    default_domain = _D.STORAGE


class NoStorageVol(GuesthouseError):
    """libvirt error 50."""

    code = 50
    bare = "Storage volume not found"
    prefix = "Storage volume not found: "
    default_domain = _D.STORAGE


class NoNodeDevice(GuesthouseError):
    """libvirt error 53."""

    code = 53
    bare = "Node device not found"
    prefix = "Node device not found: "
    default_domain = _D.NODEDEV


class OperationInvalid(GuesthouseError):
    """libvirt error 55: the object is in the wrong state for this."""

    code = 55
    bare = "Requested operation is not valid"
    prefix = "Requested operation is not valid: "
    default_domain = _D.DOMAIN


class NoInterface(GuesthouseError):
    """libvirt error 57: the host has no such network interface."""

    code = 57
    bare = "Interface not found"
    prefix = "Interface not found: "
    default_domain = _D.INTERFACE


class MultipleInterfaces(GuesthouseError):
    """libvirt error 59: a MAC address that is not one interface's alone."""

    code = 59
    bare = "multiple matching interfaces found"
    prefix = "multiple matching interfaces found: "
    default_domain = _D.INTERFACE


class InvalidSecret(GuesthouseError):
    """libvirt error 65: a secret that does not let this be done with it."""

    code = 65
    bare = "Invalid secret"
    prefix = "Invalid secret: "
    default_domain = _D.SECRET


class NoNWFilter(GuesthouseError):
    """libvirt error 62."""

    code = 62
    bare = "Network filter not found"
    prefix = "Network filter not found: "
    default_domain = _D.NWFILTER


class NoNWFilterBinding(GuesthouseError):
    """libvirt error 101."""

    code = 101
    bare = "Network filter binding not found"
    prefix = "Network filter binding not found: "
    default_domain = _D.NWFILTER


class NoSecret(GuesthouseError):
    """libvirt error 66."""

    code = 66
    bare = "Secret not found"
    prefix = "Secret not found: "
    default_domain = _D.SECRET


class ConfigUnsupported(GuesthouseError):
    """libvirt error 67: a configuration that this driver or this host cannot give."""

    code = 67
    bare = "unsupported configuration"
    prefix = "unsupported configuration: "
    default_domain = _D.QEMU


class OperationTimeout(GuesthouseError):
    """libvirt error 68: the domain's job lock could not be had in time."""

    code = 68
    bare = "Timed out during operation"
    prefix = "Timed out during operation: "
    default_domain = _D.QEMU


class NoDomainSnapshot(GuesthouseError):
    """libvirt error 72."""

    code = 72
    bare = "Domain snapshot not found"
    prefix = "Domain snapshot not found: "
    default_domain = _D.QEMU


class ArgumentUnsupported(GuesthouseError):
    """libvirt error 74: a valid argument that is not supported."""

    code = 74
    bare = "argument unsupported"
    prefix = "argument unsupported: "
    default_domain = _D.QEMU


class OperationAborted(GuesthouseError):
    """libvirt error 78."""

    code = 78
    bare = "operation aborted"
    prefix = "operation aborted: "
    default_domain = _D.QEMU


class NoDomainMetadata(GuesthouseError):
    """libvirt error 80: no metadata of that kind, or in that namespace."""

    code = 80
    bare = "metadata not found"
    prefix = "metadata not found: "
    default_domain = _D.DOMAIN


class OperationUnsupported(GuesthouseError):
    """libvirt error 84: implemented, but not with these flags or for this object."""

    code = 84
    bare = "Operation not supported"
    prefix = "Operation not supported: "
    default_domain = _D.QEMU


class Overflow(GuesthouseError):
    """libvirt error 82: a number that is too large."""

    code = 82
    bare = "numerical overflow"
    prefix = "numerical overflow: "


class AgentUnresponsive(GuesthouseError):
    """libvirt error 86."""

    code = 86
    bare = "Guest agent is not responding"
    prefix = "Guest agent is not responding: "
    default_domain = _D.QEMU


class ResourceBusy(GuesthouseError):
    """libvirt error 87."""

    code = 87
    bare = "resource busy"
    prefix = "resource busy: "


class AccessDenied(GuesthouseError):
    """libvirt error 88: access control said no."""

    code = 88
    bare = "access denied"
    prefix = "access denied: "
    default_domain = _D.ACCESS


class StorageProbeFailed(GuesthouseError):
    """libvirt error 75: nobody can tell what is on a device, or nothing is."""

    code = 75
    bare = "Storage pool probe failed"
    prefix = "Storage pool probe failed: "
    default_domain = _D.STORAGE


class StoragePoolBuilt(GuesthouseError):
    """libvirt error 76: there is something on the device already."""

    code = 76
    bare = "Storage pool already built"
    prefix = "Storage pool already built: "
    default_domain = _D.STORAGE


class StorageVolExist(GuesthouseError):
    """libvirt error 90."""

    code = 90
    bare = "this storage volume exists already"
    prefix = "storage volume "
    default_domain = _D.STORAGE

    def __init__(self, detail: str = "", **kw: int) -> None:
        super().__init__(f"{detail} exists already" if detail else "", **kw)


class CpuIncompatible(GuesthouseError):
    """libvirt error 91."""

    code = 91
    bare = "the CPU is incompatible with host CPU"
    prefix = "the CPU is incompatible with host CPU: "
    default_domain = _D.CPU


class DeviceMissing(GuesthouseError):
    """libvirt error 99: the device to change or remove is not there."""

    code = 99
    bare = "device not found"
    prefix = "device not found: "
    default_domain = _D.DOMAIN


class NoHostname(GuesthouseError):
    """libvirt error 108: a guest whose host name nobody knows."""

    code = 108
    bare = "no hostname found"
    prefix = "no hostname found: "
    default_domain = _D.QEMU


class UnknownError(GuesthouseError):
    """What a peer sent with a code that has no class here; ``number`` is that code."""

    bare = ""
    prefix = ""

    def __init__(self, detail: str = "", *, number: int = 1, domain: int | None = None) -> None:
        super().__init__(detail, domain=domain)
        self._number = number

    @property
    def number(self) -> int:
        return self._number


def _register(cls: type[GuesthouseError]) -> None:
    for sub in cls.__subclasses__():
        if sub is not UnknownError:
            _BY_CODE[sub.code] = sub
        _register(sub)


_register(GuesthouseError)


def from_wire(
    code: int,
    domain: int,
    message: str | None,
    level: int = LEVEL_ERROR,
    int1: int = -1,
    int2: int = -1,
) -> GuesthouseError:
    """The error that a peer described. ``message`` is its whole text and stays as it is, whatever its prefix."""
    cls = _BY_CODE.get(code)
    text = message or ""
    if cls is None:
        return UnknownError(text, number=code, domain=domain)
    error = cls.__new__(cls)
    GuesthouseError.__init__(error, "", domain=domain, level=level, int1=int1, int2=int2)
    error.detail = text.removeprefix(cls.prefix)
    error.message = text or cls.bare
    error.args = (error.message,)
    return error


def check_flags(flags: int, supported: int, function: str, domain: int = Domain.QEMU) -> None:
    """Raises InvalidArg where ``flags`` has more than ``supported``; libvirt names its own function, and does not say
    that this is an invalid argument."""
    if flags & ~supported:
        raise from_wire(InvalidArg.code, domain, f"unsupported flags (0x{flags & ~supported:x}) in function {function}")
