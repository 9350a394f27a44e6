"""A private C libvirtd (Debian's), in namespaces of its own, to compare with."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from support import cgroups, namespaces

_CONF = """\
listen_tls = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0777"
log_level = 4
"""


class Libvirtd:
    """Runs until :meth:`close`. /dev/kvm is masked: where it only emulates, libvirtd's probing takes a minute."""

    def __init__(self, root: Path, *, conf: str = "", listen: bool = False, prepare: str = "") -> None:
        """``conf`` is more of libvirtd.conf; with ``listen`` its network sockets open; ``prepare`` is shell text that
        runs inside first."""
        self.root = root
        self._listen = ["--listen"] if listen else []
        for name in (
            "etc",
            "lib/images",
            "lib/qemu/channel/target",
            "lib/boot",
            "lib/dnsmasq",
            "cache",
            "log/qemu",
            "run",
        ):
            (root / name).mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "/etc/libvirt/.", str(root / "etc")], check=True)
        for pattern in ("qemu/*.xml", "qemu/autostart", "storage/*", "qemu/networks/autostart/*"):
            for path in (root / "etc").glob(pattern):
                namespaces.remove_tree(path) if path.is_dir() else path.unlink()
        (root / "etc/libvirtd.conf").write_text(conf + _CONF)  # what is said first counts
        root.chmod(0o755)
        binds = "".join(
            f"mkdir -p {there}; mount --bind {root}/{here} {there}\n"
            for here, there in {
                "etc": "/etc/libvirt",
                "lib": "/var/lib/libvirt",
                "cache": "/var/cache/libvirt",
                "log": "/var/log/libvirt",
                "run": "/run/libvirt",
            }.items()
        )
        owner = "chown -R libvirt-qemu:libvirt-qemu /var/lib/libvirt/qemu\n"
        no_bus = f"mkdir -p {root}/nobus; if [ -d /run/dbus ]; then mount --bind {root}/nobus /run/dbus; fi\n"
        self.ns = namespaces.Namespace(binds + prepare + owner + no_bus + namespaces.SYSFS + namespaces.NO_KVM)
        self.pids: list[int] = []
        try:
            for daemon, sock in (
                ("virtlogd", "virtlogd-sock"),
                ("virtlockd", "virtlockd-sock"),
                ("libvirtd", "libvirt-sock"),
            ):
                self._start(daemon, root / "run" / sock)
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, sock: Path) -> None:
        log = self.root / "log" / f"{name}.out"
        more = self._listen if name == "libvirtd" else []
        pid = self.ns.spawn([name, "-p", f"{self.root}/run/{name}.lock", *more], log)
        self.pids.append(pid)
        deadline = time.monotonic() + 60
        while not sock.exists():
            if not namespaces.alive(pid) or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)

    def restart(self) -> None:
        """End libvirtd itself and start it anew."""
        namespaces.end(self.pids.pop())
        self.socket.unlink(missing_ok=True)
        self._start("libvirtd", self.socket)

    @property
    def pid(self) -> int:
        """The pid of libvirtd itself."""
        return self.pids[-1]

    @property
    def socket(self) -> Path:
        return self.root / "run/libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    def run(self, *args: str, timeout: float = 120, virsh: str = "/usr/bin/virsh") -> subprocess.CompletedProcess[str]:
        """Debian's virsh with ``args`` against this daemon, inside its namespaces."""
        argv = self.ns.command([virsh, "-c", self.uri, *args])
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def close(self) -> None:
        for pid in reversed(self.pids):
            namespaces.end(pid)
        groups = cgroups.of_processes(namespaces.pids_in(self.root / "run/qemu", "*.pid"))
        namespaces.end_pidfiles((self.root / "run/qemu", "*.pid"), (self.root / "run/network", "*.pid"))
        cgroups.remove(groups)
        self.ns.close()
