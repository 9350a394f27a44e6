"""A QEMU process: starting it, knowing it again after a daemon restart, seeing its end."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guesthouse.errors import InternalError, SystemFailure

_TAIL = 4096
_MARKER = "GUESTHOUSE_MACHINE"


@dataclass(frozen=True)
class User:
    """Whom a guest's processes run as: ids, and the groups beside (kvm). ``uid`` -1 means the daemon's own user."""

    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] = ()

    @property
    def same(self) -> bool:
        return self.uid in (-1, os.geteuid())


@dataclass
class Process:
    """A running process, pinned by its pid *and* its start time (clock ticks since boot, /proc/PID/stat field 22), so
    that a recycled pid is never taken for it."""

    pid: int
    start_time: int
    child: subprocess.Popen[bytes] | None = None
    _pidfd: int = -1
    _watching: bool = field(default=False, repr=False)

    @property
    def alive(self) -> bool:
        """A zombie is dead."""
        return _stat(self.pid) == (self.start_time, True)

    def kill(self, number: int = signal.SIGTERM) -> None:
        """Send a signal; nothing happens where the process is gone."""
        try:
            signal.pidfd_send_signal(self._fd(), number)
        except (ProcessLookupError, OSError):
            pass

    def watch(self, callback: Callable[[int | None], None]) -> None:
        """Call ``callback`` once when the process ends: with its exit status (negative: the signal), or None where it
        is not our child and cannot be known."""
        loop = asyncio.get_running_loop()
        fd = self._fd()

        def ended() -> None:
            self.unwatch()
            callback(self._reap())

        self._watching = True
        loop.add_reader(fd, ended)

    def unwatch(self) -> None:
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_reader(self._pidfd)

    def _reap(self) -> int | None:
        if self.child is None:
            return None
        try:
            return self.child.wait(1)
        except subprocess.TimeoutExpired:
            return None

    def _fd(self) -> int:
        if self._pidfd == -1:
            self._pidfd = os.pidfd_open(self.pid)
        return self._pidfd

    def close(self) -> None:
        """Let go of the process; it goes on."""
        self.unwatch()
        if self._pidfd != -1:
            os.close(self._pidfd)
            self._pidfd = -1

    async def wait(self, timeout: float) -> bool:
        """Wait for the end; whether it came within ``timeout`` seconds."""
        if not self.alive:
            return True
        loop = asyncio.get_running_loop()
        try:
            fd = os.pidfd_open(self.pid)  # one of its own: the loop has one reader a descriptor
        except OSError:
            return True
        ended = asyncio.Event()
        loop.add_reader(fd, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), timeout)
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(fd)
            os.close(fd)
        return True


def proc_words(path: str) -> list[str]:
    """The words of a file below /proc/PID, of ``stat`` those from the state on; none where the process is gone."""
    try:
        # not by pathlib: it interns every part of a path, which clients that ask often make Python's table grow by
        with open(path, "rb", buffering=0) as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return []


def _stat(pid: int) -> tuple[int, bool]:
    """Start time, and whether it runs; (0, False) where there is no such process."""
    found = proc_words(f"/proc/{pid}/stat")
    return (int(found[19]), found[0] not in "ZX") if found else (0, False)


def adopt(pid: int, start_time: int) -> Process | None:
    """The process, if it still runs and is the same; else None."""
    process = Process(pid, start_time)
    try:
        process._fd()
    except OSError:
        return None
    if process.alive:
        return process
    process.close()
    return None


def spawn(
    argv: Sequence[str],
    *,
    fds: Sequence[int],
    user: User,
    log: Path,
    marker: str,
    note: str = "",
    environment: dict[str, str] | None = None,
) -> Process:
    """Start ``argv`` in a session of its own, its output going to the end of ``log`` behind a line with the time and
    the command. The process outlives the daemon; ``marker`` in its environment lets :func:`find` know it again.
    Raises SystemFailure where it cannot be started."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    head = f"{stamp}.000+0000: starting up{note}\n{shlex.join(argv)}\n"
    try:
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot open the guest's log '{log}'") from None
    try:
        os.write(out, head.encode())
        who: dict[str, Any] = {}
        if not user.same:
            who = {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)}
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=fds,
            start_new_session=True,
            cwd="/",
            env={
                "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                "HOME": "/",
                "LC_ALL": "C",
                _MARKER: marker,
                **(environment or {}),
            },
            **who,
        )
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot run '{argv[0]}'") from None
    finally:
        os.close(out)
    start_time, _ = _stat(child.pid)
    return Process(child.pid, start_time, child)


def find(marker: str) -> list[Process]:
    """The processes that were started with ``marker``: what a daemon left that died before it wrote down the pid."""
    wanted = f"{_MARKER}={marker}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
        except OSError:
            continue
        pid = int(folder.name)
        start_time, running = _stat(pid)
        if running and (process := adopt(pid, start_time)) is not None:
            found.append(process)
    return found


def cpu_time(pid: int) -> int:
    """Nanoseconds of processor time that the process has used; 0 where it is gone."""
    found = proc_words(f"/proc/{pid}/stat")
    return (int(found[11]) + int(found[12])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK")) if found else 0


def last_words(log: Path) -> str:
    """What a process said since it was started, for an error message: up to some lines from the end of its log."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    # behind the header of the last start: its line with the time, and the command
    said = text.rpartition(": starting up")[2].split("\n", 2)
    return said[2].strip() if len(said) > 2 else ""


def listen_unix(path: Path, mode: int = 0o600) -> socket.socket:
    """A listening Unix socket at ``path``, of any length. Raises InternalError."""
    try:
        path.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InternalError(f"cannot listen on '{path}': {error.strerror}") from None
    sock = socket.socket(socket.AF_UNIX)
    try:
        # by way of the folder's descriptor: a socket's path may have 107 bytes only
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(mode)
        sock.listen(1)
        return sock
    except OSError as error:
        sock.close()
        raise InternalError(f"cannot listen on '{path}': {error.strerror}") from None
    finally:
        os.close(folder)
