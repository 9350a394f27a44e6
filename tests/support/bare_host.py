"""A whole host of its own: a fresh Debian in a folder, with its own systemd, network, processes and control groups.

Its packages come from the mirror that this host's apt uses, through a server inside its network (debian_mirror), so that
nothing leads out of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from support import debian_mirror, installer_udebs

_GROUPS = "/sys/fs/cgroup/unified"
_PORT = 8080
_MAKE = ("mmdebstrap", "--quiet", "--variant=minbase")
_SEPARATE = ("unshare", "-m", "-p", "-n", "-u", "-i", "-f", "--propagation", "private")
# What a machine's kernel and container managers give a system: devices, file systems, an empty /run, one control group.
_BOOT = """
cd "$1"; mount --bind . .; cd "$1"
mount -t proc proc proc; mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev; mkdir -p dev/net dev/pts dev/shm
for d in null zero full random urandom tty net/tun; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts; mount -t tmpfs tmpfs dev/shm; mount -t tmpfs tmpfs run
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
ip link set lo up; hostname bare
exec unshare -C sh -euc 'mount -t cgroup2 cgroup2 sys/fs/cgroup; mkdir -p oldroot; pivot_root . oldroot; umount -l /oldroot
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd'
"""


class BareHost:
    """Boot one below ``folder`` (about 40 s and 400 MB); ``packages`` are there beside the base system."""

    def __init__(self, folder: Path, packages: Sequence[str] = (), codename: str = "bookworm") -> None:
        self.root = folder / "root"
        words = ["systemd-sysv", "dbus", "iproute2", "procps", *packages]
        subprocess.run(
            [*_MAKE, f"--include={','.join(words)}", codename, str(self.root), debian_mirror.source(codename)],
            check=True,
        )
        (self.root / "etc/machine-id").write_text("uninitialized\n")
        self._group = Path(_GROUPS, f"bare-{os.getpid()}")
        self._group.mkdir()
        with open(folder / "boot.log", "wb") as log:
            self._holder = subprocess.Popen(
                [*_SEPARATE, "sh", "-euc", f"echo 0 >{self._group}/cgroup.procs\n{_BOOT}", "sh", str(self.root)],
                stdout=log,
                stderr=log,
            )
        self._mirror: debian_mirror.Mirror | None = None
        try:
            self._wait()
            inside = debian_mirror.socket_inside(self._init, ("127.0.0.1", _PORT))
            kept = folder / "mirror"
            self._mirror = debian_mirror.Mirror(inside, kept, installer_udebs.Repository(kept))
            (self.root / "etc/apt/sources.list").write_text(f"deb {self._mirror.url} {codename} main\n")
        except BaseException:
            self.close()
            raise

    @property
    def _init(self) -> int:
        """systemd's number out here."""
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        return int(children[0])

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, IndexError, subprocess.TimeoutExpired):
                if self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.3)
        raise TimeoutError("the bare host's systemd did not come up")

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` in it."""
        return ["nsenter", "-t", str(self._init), "-m", "-p", "-n", "-u", "-i", "-C", *argv]

    def run(self, *argv: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(
                [
                    "env",
                    "-i",
                    "--chdir=/root",
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    *argv,
                ]
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done

    def sh(self, text: str, timeout: float = 120) -> str:
        """What shell text prints; it must succeed."""
        return self.run("sh", "-euc", text, timeout=timeout).stdout

    def close(self) -> None:
        """End it with all that runs in it, and remove its folder and its groups."""
        if self._mirror is not None:
            self._mirror.close()
        with contextlib.suppress(OSError, IndexError):
            os.kill(self._init, signal.SIGKILL)
        self._holder.wait(20)
        for folder, _, _ in os.walk(self._group, topdown=False):
            for _ in range(50):  # the kernel takes a moment after the last process
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
                    break
                time.sleep(0.1)
        shutil.rmtree(self.root)
