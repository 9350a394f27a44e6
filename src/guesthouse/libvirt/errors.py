"""libvirtError, the last error of each thread, and whoever wants to hear of errors."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from guesthouse.errors import GuesthouseError

# code, domain, message, level, str1, str2, str3, int1, int2
Error = tuple[int, int, str, int, str | None, str | None, str | None, int, int]

FROM_NONE, FROM_DOMAIN, FROM_STREAMS = 0, 20, 38
INTERNAL, NO_SUPPORT, NO_CONNECT, INVALID_CONN, INVALID_ARG, OPERATION_DENIED = 1, 3, 5, 6, 8, 29
INVALID_STREAM, ARGUMENT_UNSUPPORTED, OVERFLOW = 73, 74, 82

_LEVELS = {1: "warning", 2: "error"}
# what libvirt calls the parts that report errors, by number
_SPEAKERS = [
    "",
    "Xen Driver",
    "Xen Daemon",
    "Xen Store",
    "S-Expression",
    "XML Util",
    "Domain",
    "XML-RPC",
    "Proxy Daemon",
    "Config File",
    "QEMU Driver",
    "Network",
    "Test Driver",
    "Remote Driver",
    "OpenVZ Driver",
    "Xen XM Driver",
    "Linux Statistics",
    "LXC Driver",
    "Storage Driver",
    "Network Driver",
    "Domain Config",
    "User Mode Linux Driver",
    "Node Device Driver",
    "Xen Inotify Driver",
    "Security Driver",
    "VirtualBox Driver",
    "Network Interface Driver",
    "Open Nebula Driver",
    "ESX Driver",
    "Power Hypervisor Driver",
    "Secrets Driver",
    "CPU Driver",
    "XenAPI Driver",
    "Network Filter Driver",
    "Lifecycle Hook",
    "Domain Snapshot",
    "Audit Utils",
    "Sysinfo Utils",
    "I/O Stream Utils",
    "VMware Driver",
    "Event Loop",
    "Xen Light Driver",
    "Lock Driver",
    "Hyper-V Driver",
    "Capabilities Utils",
    "URI Utils",
    "Authentication Utils",
    "DBus Utils",
    "Parallels Cloud Server",
    "Device Config",
    "SSH transport layer",
    "Lock Space",
    "Init control",
    "Identity",
    "Cgroup",
    "Access Manager",
    "Systemd",
    "Bhyve",
    "Crypto",
    "Firewall",
    "Polkit",
    "Thread jobs",
    "Admin Interface",
    "Log Manager",
    "Xen XL Config",
    "Perf",
    "Libssh transport layer",
    "Resource control",
    "FirewallD",
    "Domain Checkpoint",
    "TPM",
    "BPF",
    "Cloud-Hypervisor Driver",
]


class _Last(threading.local):
    error: Error | None = None


_last = _Last()
_handler: tuple[Callable[[Any, Error], object] | None, Any] | None = None


class libvirtError(Exception):
    """An error of a call. ``err`` is the thread's last error when it was made, None where there was none."""

    def __init__(self, defmsg: str) -> None:
        self.err = _last.error
        super().__init__(defmsg if self.err is None else self.err[2])

    def _item(self, index: int) -> Any:
        return None if self.err is None else self.err[index]

    def get_error_code(self) -> Any:
        return self._item(0)

    def get_error_domain(self) -> Any:
        return self._item(1)

    def get_error_message(self) -> Any:
        return self._item(2)

    def get_error_level(self) -> Any:
        return self._item(3)

    def get_str1(self) -> Any:
        return self._item(4)

    def get_str2(self) -> Any:
        return self._item(5)

    def get_str3(self) -> Any:
        return self._item(6)

    def get_int1(self) -> Any:
        return self._item(7)

    def get_int2(self) -> Any:
        return self._item(8)


def virGetLastError() -> Error | None:
    """This thread's last error."""
    return _last.error


def virGetLastErrorCode() -> int:
    return 0 if _last.error is None else _last.error[0]


def virGetLastErrorDomain() -> int:
    return 0 if _last.error is None else _last.error[1]


def virGetLastErrorMessage() -> str:
    return "no error" if _last.error is None else _last.error[2]


def virResetLastError() -> None:
    _last.error = None


def registerErrorHandler(f: Callable[[Any, Error], object] | None, ctx: Any) -> int:
    """Have ``f(ctx, error)`` called with each error, instead of a line on standard error; twice None brings that back."""
    global _handler
    _handler = None if f is None and ctx is None else (f, ctx)
    return 1


def fail(error: GuesthouseError, function: str) -> NoReturn:
    """Raise what a call of ``function`` failed with."""
    texts = getattr(error, "texts", None) or (error.str1, error.detail or None, None)
    raise failure(
        function, (error.number, error.domain, error.message, error.level, *texts, error.int1, error.int2)
    ) from None


def refuse(function: str, code: int, domain: int, message: str, str1: str, str2: str | None = None) -> NoReturn:
    """Raise an error that no daemon was asked for."""
    integers = (0, 0) if code == INVALID_ARG else (-1, -1)
    raise failure(function, (code, domain, message, 2, str1, str2, None, *integers))


def unsupported(function: str, domain: int = FROM_DOMAIN) -> NoReturn:
    text = "this function is not supported by the connection driver: %s"
    refuse(function, NO_SUPPORT, domain, text % function, text, function)


def failure(function: str, error: Error) -> libvirtError:
    """The exception for ``error``, which becomes the thread's last and is told to whoever listens."""
    _last.error = error
    if _handler is None:
        speaker = _SPEAKERS[error[1]] if 0 <= error[1] < len(_SPEAKERS) else "Unknown"
        print(f"libvirt: {speaker} {_LEVELS.get(error[3], '')} : {error[2]}", file=sys.stderr)
    elif _handler[0] is not None:
        _handler[0](_handler[1], error)
    return libvirtError(f"{function}() failed")
