"""A place for a demonstration that the host does not notice: process, mount and network namespaces of its own.

All that runs inside ends with the first process in it, however it ends, and the bridges and firewall rules with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import NoReturn

_NEWNS, _NEWPID, _NEWNET = 0x00020000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_PR_SET_PDEATHSIG = 1
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """The namespaces cannot be made here; the text says why."""


def call(work: Callable[[], int]) -> int:
    """Run ``work`` in fresh namespaces and return its exit code; Ctrl-C and SIGTERM become KeyboardInterrupt in it.

    Nothing that it started runs any more then. Raises Unavailable before ``work`` has begun.
    """
    if os.geteuid() != 0:
        raise Unavailable("you are not root")
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    parent = os.getpid()
    # each process takes signals once it has its own handlers, and not by those that it was born with
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _supervise(work, write, parent)
    os.close(write)
    # what ends this process shall end the work first, which then cleans up
    former = {number: signal.signal(number, _passing_on(pid)) for number in ENDING}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    try:
        with open(read, "rb") as problem:
            text = problem.read()
        _, status = os.waitpid(pid, 0)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if text:
        raise Unavailable(text.decode(errors="replace"))
    return os.waitstatus_to_exitcode(status)


class Interrupt:
    """A signal handler: the first signal raises KeyboardInterrupt, later ones do nothing."""

    def __init__(self) -> None:
        self._came = False

    def __call__(self, *_: object) -> None:
        if not self._came:
            self._came = True
            raise KeyboardInterrupt


def _passing_on(pid: int) -> Callable[[int, object], None]:
    def pass_on(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    return pass_on


def _supervise(work: Callable[[], int], problem: int, parent: int) -> NoReturn:
    """Between both sides: makes the namespaces, waits for their first process, and lets nobody outlive its parent."""
    code = 1
    try:
        _end_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        _unshare(_NEWNS | _NEWPID | _NEWNET)
        pid = os.fork()
        if pid == 0:
            _first_process(work, problem)
        os.close(problem)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _passing_on(pid))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except OSError as error:
        os.write(problem, (error.strerror or str(error)).encode())
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _first_process(work: Callable[[], int], problem: int) -> NoReturn:
    """Process 1 inside: collects what others leave behind; the kernel ends all the others when it ends."""
    code = 1
    try:
        _end_with_parent()
        _mount_own()
        _loopback_up()
        worker = os.fork()
        if worker == 0:
            os.close(problem)
            _work(work)
        os.close(problem)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _passing_on(worker))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        while True:
            pid, status = os.wait()
            if pid == worker:
                code = os.waitstatus_to_exitcode(status)
                break
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(problem, (error.strerror or str(error)).encode())
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _work(work: Callable[[], int]) -> NoReturn:
    code = 1
    interrupt = Interrupt()
    for number in ENDING:
        signal.signal(number, interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        code = work()
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}")


def _mount_own() -> None:
    """/proc and /sys show the new namespaces. There are no control groups, which would outlive what ends in here."""
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE)
    _mount(b"proc", b"/proc", b"proc", 0)
    _mount(b"sysfs", b"/sys", b"sysfs", 0)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {target.decode()}: {os.strerror(number)}")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
