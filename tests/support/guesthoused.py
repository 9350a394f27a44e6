"""Our daemon on a folder of its own, in namespaces of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from support import cgroups, namespaces

BIN = Path(sys.executable).parent


class Guesthoused:
    """``guesthoused --root ROOT``; may be killed and started again on the same folder."""

    def __init__(self, root: Path, *, ns: namespaces.Namespace | None = None, start: bool = True) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o755)
        self._own_ns = ns is None
        self.ns = ns or namespaces.Namespace()
        self.pid = 0
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def start(self, *args: str, env: Mapping[str, str] | None = None, wait: bool = True) -> None:
        """Start the daemon; with ``wait`` return once it answers, else at once."""
        argv = [str(BIN / "guesthoused"), "--root", str(self.root), *args]
        self.pid = self.ns.spawn(argv, self.root / "daemon.out", env)
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(self.socket))
                    return
            except OSError:
                if not namespaces.alive(self.pid) or time.monotonic() > deadline:
                    raise RuntimeError(f"guesthoused does not start: {self.output()[-3000:]}") from None
                time.sleep(0.02)

    def output(self) -> str:
        file = self.root / "daemon.out"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def socket(self) -> Path:
        return self.root / "run/libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    def run(self, *args: str, timeout: float = 120, virsh: str = "/usr/bin/virsh") -> subprocess.CompletedProcess[str]:
        """C virsh (or ``virsh``) with ``args`` against this daemon, inside its namespaces."""
        argv = self.ns.command([virsh, "-c", self.uri, *args])
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def ours(self, *args: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Our own virsh, likewise."""
        return self.run(*args, timeout=timeout, virsh=str(BIN / "virsh"))

    def qemu_pids(self) -> list[int]:
        """The QEMU processes of this daemon's guests, known by their environment."""
        mark = f"GUESTHOUSE_MACHINE={self.root}/".encode()
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes() and namespaces.alive(int(folder.name)):
                    pids.append(int(folder.name))
            except OSError:
                continue
        return sorted(pids)

    def runtime_rows(self, kind: str = "domain") -> dict[str, dict[str, object]]:
        """What the daemon wrote down about running things, read past it."""
        file = self.root / "run/runtime.db"
        if not file.exists():
            return {}
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT uuid, doc FROM runtime WHERE kind = ?", (kind,)).fetchall()
        return {uuid: json.loads(doc) for uuid, doc in rows}

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Kill the daemon alone; guests live on."""
        namespaces.end(self.pid, sig)

    def close(self) -> None:
        """End the daemon, its guests and its network helpers, and the namespaces."""
        if self.pid:
            namespaces.end(self.pid)
        for pid in self.qemu_pids():
            os.kill(pid, signal.SIGKILL)
        self.end_helpers()
        cgroups.remove(cgroups.of(self.root))
        if self._own_ns:
            self.ns.close()

    def end_helpers(self) -> None:
        """End every dnsmasq of this daemon."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                argv = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"dnsmasq" in argv.split(b"\0")[0] and str(self.root).encode() in argv:
                namespaces.end(int(folder.name))
