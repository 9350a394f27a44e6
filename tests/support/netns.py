"""Tests in a network namespace of their own, and further hosts beside it, without leaving the test process."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def in_netns(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a thread with a fresh network namespace; its threads and processes are in it too. Needs root."""

    @functools.wraps(test)
    def wrapped(*args: Any, **kw: Any) -> None:
        failure: list[BaseException] = []

        def body() -> None:
            try:
                if _libc.unshare(_CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "unshare")
                run("ip", "link", "set", "lo", "up")
                test(*args, **kw)
            except BaseException as error:
                failure.append(error)

        if os.geteuid():
            pytest.skip("network namespaces need root")
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]

    return wrapped


def run(*argv: str, check: bool = True, timeout: float = 30) -> str:
    """What a command prints, both streams."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.stdout}")
    return done.stdout


class Host:
    """Another machine: a network namespace, tied to the test's by a veth pair whose near end is ``near``.

    ``bridge`` makes the near end a port of it, ``address`` (with prefix) is what the near end gets.
    """

    def __init__(self, near: str, *, bridge: str | None = None, address: str | None = None) -> None:
        self._holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        run("ip", "link", "set", near, "up", *(["master", bridge] if bridge else []))
        if address:
            run("ip", "address", "add", address, "dev", near)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "up")

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-n", *argv]

    def run(self, *argv: str, check: bool = True) -> str:
        return run(*self.command(*argv), check=check)

    def reaches(self, address: str) -> bool:
        """Whether ping gets an answer within a second."""
        return "1 packets received" in self.run("busybox", "ping", "-c", "1", "-W", "1", address, check=False)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()
