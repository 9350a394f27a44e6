"""Mount and network namespaces for a daemon under test, so that it meets neither the host's bridges nor its /run.

The holder is a process (a sub-reaper, so that orphaned guests are collected at once, as a real init would) that keeps
the namespaces open; commands enter with nsenter. All ends with :meth:`Namespace.close`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Runs inside the fresh namespaces: PREPARE is shell text; then it reaps until its stdin closes.
_HOLDER = textwrap.dedent(
    """
    import ctypes, os, signal, subprocess, sys, threading
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    subprocess.run(["sh", "-euc", sys.argv[1]], check=True)
    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    while True:
        line = sys.stdin.buffer.readline()
        if not line:
            break
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            words = eval(line)
            out = os.open(words["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0); os.dup2(out, 1); os.dup2(out, 2)
            os.closerange(3, 256)
            os.environ.update(words["env"])
            os.execvp(words["argv"][0], words["argv"])
        print(pid, flush=True)
    """
)

# A /sys that shows the new network namespace, with the cgroups put back.
SYSFS = """
ip link set lo up
old=$(mktemp -d); mount --rbind /sys/fs/cgroup "$old"
mount -t sysfs sysfs /sys; mount --rbind "$old" /sys/fs/cgroup; umount -l "$old"; rmdir "$old"
"""

# A /dev without kvm (what C libvirtd needs to be fast where /dev/kvm only emulates): the other nodes are carried over.
NO_KVM = """
dev=$(mktemp -d); mount -t tmpfs -o mode=0755 tmpfs "$dev"
(cd /dev && find . -xdev \\( -type b -o -type c -o -type l -o -type d \\) ! -path . ! -path ./kvm -print0 |
    cpio -0pdm --quiet "$dev")
for m in pts shm; do mkdir -p "$dev/$m"; mount --rbind "/dev/$m" "$dev/$m"; done
umount -l -R /dev; mount --move "$dev" /dev; rmdir "$dev"
"""


class Namespace:
    """Fresh mount and network namespaces; ``prepare`` is shell text that runs inside first."""

    def __init__(self, prepare: str = SYSFS) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-m", "-n", "--propagation", "private", sys.executable, "-c", _HOLDER, prepare],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("the namespaces could not be made (root is needed)")

    @property
    def pid(self) -> int:
        return self._holder.pid

    def spawn(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> int:
        """Start a daemon inside, its output to ``log``; returns its pid."""
        assert self._holder.stdin is not None and self._holder.stdout is not None
        words = {"argv": [str(a) for a in argv], "log": str(log), "env": dict(env or {})}
        self._holder.stdin.write(repr(words).encode() + b"\n")
        self._holder.stdin.flush()
        return int(self._holder.stdout.readline())

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` inside."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", *map(str, argv)]

    def run(self, *argv: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(argv), capture_output=True, text=True, check=check, timeout=timeout)

    def close(self) -> None:
        """End the holder; what was started inside must have been ended before (see :func:`end`)."""
        if self._holder.stdin:
            self._holder.stdin.close()
        if self._holder.stdout:
            self._holder.stdout.close()
        self._holder.wait(10)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not, unless threads of it still hold its sockets)."""
    try:
        if len(list(Path(f"/proc/{pid}/task").iterdir())) > 1:
            return True
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def end(pid: int, sig: int = signal.SIGTERM, timeout: float = 10) -> None:
    """Signal a process of ours and wait for its end; SIGKILL after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while alive(pid):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return
        for _ in range(20):
            if not alive(pid):
                return
            time.sleep(0.02)
        if time.monotonic() > deadline:
            sig = signal.SIGKILL


def end_pidfiles(*patterns: tuple[Path, str]) -> None:
    """End the processes whose pid files match, as (folder, glob) pairs."""
    for folder, glob in patterns:
        for pid in pids_in(folder, glob):
            if alive(pid):
                end(pid)


def pids_in(folder: Path, glob: str) -> list[int]:
    """What pid files hold; one that its process is just removing is passed by."""
    found = []
    for file in folder.glob(glob):
        with contextlib.suppress(FileNotFoundError):
            found += [int(word) for word in file.read_text().split()[:1]]
    return found


def remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def reachable(path: Path) -> Path:
    """``path`` with the way to it opened: pytest makes its folders 0700, QEMU's unprivileged user must pass."""
    for folder in (path, path.parent, path.parent.parent):
        folder.chmod(0o755)
    return path
