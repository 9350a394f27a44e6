"""A machine of its own for whole sessions: plain ``qemu:///system``, our commands first in PATH, nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from support import namespaces
from support.guesthoused import BIN

# the folders of a system daemon, which the machine has for itself
_PLACES = {
    "etc": "/etc/guesthouse",
    "lib": "/var/lib/guesthouse",
    "cache": "/var/cache/guesthouse",
    "log": "/var/log/guesthouse",
    "run": "/run/guesthouse",
    "libvirt": "/run/libvirt",
}


class System:
    """Namespaces in which /etc/guesthouse, /var/lib/guesthouse, /run/guesthouse, /run/libvirt and so on are private."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[Path] = []
        binds = ""
        for here, there in _PLACES.items():
            (root / here).mkdir(parents=True)
            if not Path(there).exists():
                Path(there).mkdir(parents=True)
                self.made.append(Path(there))
            binds += f"mount --bind {root}/{here} {there}\n"
        self.ns = namespaces.Namespace(binds + namespaces.SYSFS)
        self.env = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(root),
            "TERM": "linux",
            "LC_ALL": "C.UTF-8",
        }
        for name in ("LIBVIRT_DEFAULT_URI", "VIRSH_DEFAULT_CONNECT_URI"):
            self.env.pop(name, None)

    def sh(self, line: str, *, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """A line as a user types it, in ``root``."""
        argv = self.ns.command(["bash", "-c", f"cd '{self.root}' && {line}"])
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=timeout, env=self.env, stdin=subprocess.DEVNULL
        )

    def ok(self, line: str, *, timeout: float = 180) -> str:
        """The same, and it must succeed; returns what it printed."""
        run = self.sh(line, timeout=timeout)
        assert run.returncode == 0, f"$ {line}\n{run.stdout}{run.stderr}"
        return run.stdout

    def processes(self, *names: str) -> list[int]:
        """Processes inside whose program is one of ``names`` (or whose script, for Python programs)."""
        mine = Path(f"/proc/{self.ns.pid}/ns/mnt").readlink()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "ns/mnt").readlink() != mine:
                    continue
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            programs = {Path(word.decode(errors="replace")).name for word in words[:2]}
            if programs & set(names) and namespaces.alive(int(folder.name)):
                found.append(int(folder.name))
        return sorted(found)

    def stop_daemon(self, sig: int = signal.SIGTERM) -> None:
        for pid in self.processes("guesthoused"):
            namespaces.end(pid, sig)

    def power_off(self) -> None:
        """As if the host lost power: all processes die, /run is empty afterwards."""
        self.stop_daemon(signal.SIGKILL)
        for pid in self.processes("qemu-system-x86_64", "dnsmasq"):
            namespaces.end(pid, signal.SIGKILL)
        for folder in ("run", "libvirt"):
            for path in (self.root / folder).iterdir():
                namespaces.remove_tree(path) if path.is_dir() else path.unlink()

    def close(self) -> None:
        self.power_off()
        self.ns.close()
        for folder in reversed(self.made):
            folder.rmdir()
