"""How the daemon is run and who gets in: session mode, sockets and groups, configuration, service managers."""

from __future__ import annotations

import grp
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client, errors
from support import namespaces
from support.guesthoused import BIN, Guesthoused
from support.system import System

NOBODY = "65534"
DOMAIN = """\
<domain type='qemu'>
  <name>mine</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='pty'/>
  </devices>
</domain>
"""


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return namespaces.reachable(tmp_path_factory.mktemp("modes"))


@pytest.fixture
def daemon(root: Path) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(root / "root", start=False)
    yield guesthoused
    guesthoused.close()


@pytest.fixture
def system(root: Path) -> Iterator[System]:
    machine = System(root / "system")
    machine.env |= {"XDG_RUNTIME_DIR": str(root / "xdg")}
    (root / "xdg").mkdir(mode=0o700)
    (root / "system/mine.xml").write_text(DOMAIN)
    yield machine
    machine.close()


def test_session_mode_starts_itself_and_serves_both_clients(system: System, root: Path) -> None:
    assert system.ok("virsh -c qemu:///session list --all --name").strip() == ""
    assert system.ok("virsh -c qemu:///session uri").strip() == "qemu:///session"
    system.ok("virsh -c qemu:///session define mine.xml && virsh -c qemu:///session start mine")
    assert (
        system.ok(
            f"/usr/bin/virsh -c 'qemu+unix:///session?socket={root}/xdg/libvirt/libvirt-sock' list --name"
        ).strip()
        == "mine"
    )
    assert system.ok("ip -o link show type bridge") == "", "a session makes no bridges"
    for sock in ("guesthouse/libvirt-sock", "libvirt/libvirt-sock"):
        assert (root / "xdg" / sock).stat().st_mode & 0o777 == 0o700
    assert not list((root / "system/lib").iterdir()), "nothing of the system's is touched"
    # the daemon may go: the guest stays, and the next command finds it
    system.stop_daemon(signal.SIGKILL)
    assert system.ok("virsh -c qemu:///session domstate mine").strip() == "running"
    system.ok("virsh -c qemu:///session destroy mine && virsh -c qemu:///session undefine mine")


def as_nobody(daemon: Guesthoused, *args: str, gid: str = NOBODY, sock: str = "") -> subprocess.CompletedProcess[str]:
    uri = f"qemu+unix:///system?socket={sock or daemon.socket}"
    argv = ["setpriv", "--reuid", NOBODY, "--regid", gid, "--clear-groups", "/usr/bin/virsh", "-c", uri, *args]
    return subprocess.run(daemon.ns.command(argv), capture_output=True, text=True, cwd="/", env={"HOME": "/tmp"})


def test_only_the_group_gets_in_and_the_readonly_socket_changes_nothing(daemon: Guesthoused, root: Path) -> None:
    group = grp.getgrnam("libvirt")
    daemon.start()
    status = daemon.socket.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, group.gr_gid, 0o770)
    stranger = as_nobody(daemon, "list")
    assert stranger.returncode == 1 and "Permission denied" in stranger.stderr
    assert as_nobody(daemon, "list", gid=str(group.gr_gid)).returncode == 0
    (root / "mine.xml").write_text(DOMAIN)
    readonly = f"{daemon.socket}-ro"
    assert as_nobody(daemon, "list", "--all", sock=readonly).returncode == 0
    for line in (f"define {root}/mine.xml", "net-destroy default", f"create {root}/mine.xml"):
        done = as_nobody(daemon, *line.split(), sock=readonly)
        assert done.returncode == 1 and "read only access prevents" in done.stderr, line
    assert daemon.run("net-list", "--name").stdout.strip() == "default"
    assert daemon.run("list", "--all", "--name").stdout.strip() == ""
    # nobody looks at what guests were given, or what the daemon wrote down
    for path in ("lib/guesthouse.db", "run/runtime.db", "log/guesthoused.log"):
        assert (daemon.root / path).stat().st_mode & 0o077 == 0, path


def test_sighup_reads_the_configuration_again(daemon: Guesthoused) -> None:
    file = daemon.root / "etc/guesthoused.toml"
    file.parent.mkdir(parents=True)
    file.write_text("max_clients = 1\n")
    daemon.start()
    _until(lambda: daemon.run("list").returncode == 0)  # the one that looked whether we are up has gone
    with client.connect(daemon.uri):
        assert daemon.run("list").returncode == 1
    file.write_text("max_clients = 'few'\n")
    os.kill(daemon.pid, signal.SIGHUP)
    log = daemon.root / "log/guesthoused.log"
    _until(lambda: "the configuration stays as it is" in log.read_text())
    file.write_text("max_clients = 5\n")
    os.kill(daemon.pid, signal.SIGHUP)
    _until(lambda: "again" in log.read_text())
    with client.connect(daemon.uri):
        assert daemon.run("list").returncode == 0


def test_a_wrong_configuration_is_told_at_start(daemon: Guesthoused) -> None:
    file = daemon.root / "etc/guesthoused.toml"
    file.parent.mkdir(parents=True)
    file.write_text("max_clents = 1\n")
    run = daemon.ns.run(str(BIN / "guesthoused"), "--root", str(daemon.root), check=False)
    assert run.returncode == 1
    assert "unknown key 'max_clents'" in run.stderr and "Traceback" not in run.stderr


def test_a_root_that_is_too_deep_for_sockets_is_told(daemon: Guesthoused, root: Path) -> None:
    deep = root / ("deep" * 30)
    run = daemon.ns.run(str(BIN / "guesthoused"), "--root", str(deep), check=False)
    assert run.returncode == 1 and "107 bytes at most" in run.stderr
    assert not deep.exists()


def test_sigterm_leaves_guests_and_idle_time_ends_the_daemon(daemon: Guesthoused, root: Path) -> None:
    daemon.start("--timeout", "1")
    (root / "mine.xml").write_text(DOMAIN)
    assert daemon.run("create", str(root / "mine.xml")).returncode == 0
    time.sleep(1.5)
    assert namespaces.alive(daemon.pid), "a guest that runs keeps its daemon"
    daemon.kill(signal.SIGTERM)
    assert len(daemon.qemu_pids()) == 1
    assert not daemon.socket.exists()
    daemon.start("--timeout", "1")
    assert daemon.run("destroy", "mine").returncode == 0
    _until(lambda: not namespaces.alive(daemon.pid))


def test_libvirts_own_socket_is_never_taken_from_a_running_libvirtd(system: System, root: Path) -> None:
    holder = "import socket,time; s=socket.socket(socket.AF_UNIX); s.bind('/run/libvirt/libvirt-sock'); s.listen(); print(1, flush=True); time.sleep(600)"
    libvirtd = subprocess.Popen(system.ns.command(["/usr/bin/python3", "-c", holder]), stdout=subprocess.PIPE)
    try:
        assert libvirtd.stdout is not None and libvirtd.stdout.readline() == b"1\n"
        inode = (root / "system/libvirt/libvirt-sock").stat().st_ino
        pid = system.ns.spawn([str(BIN / "guesthoused")], root / "daemon.out", system.env)
        _until(lambda: (root / "system/run/libvirt-sock").exists())
        assert (root / "system/libvirt/libvirt-sock").stat().st_ino == inode
        assert "a libvirt daemon owns /run/libvirt/libvirt-sock" in (root / "daemon.out").read_text()
        assert system.ok("virsh -c 'qemu+unix:///system?socket=/run/guesthouse/libvirt-sock' uri").strip()
        namespaces.end(pid)
    finally:
        libvirtd.kill()
        libvirtd.wait()
        libvirtd.stdout.close()


def test_a_socket_that_nobody_serves_any_more_is_taken(system: System, root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(root / "system/libvirt/libvirt-sock"))
    assert system.ok("virsh list --all --name").strip() == ""
    assert system.ok("/usr/bin/virsh -c qemu:///system uri").strip() == "qemu:///system"


ACTIVATE = """\
import fcntl, os, socket, sys
for name in ("libvirt-sock", "libvirt-sock-ro"):
    s = socket.socket(socket.AF_UNIX); s.bind(f"{sys.argv[1]}/{name}"); s.listen()
    high = fcntl.fcntl(s.detach(), fcntl.F_DUPFD, 10)
    os.dup2(high, 3 if name == "libvirt-sock" else 4)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=sys.argv[1] + "/notify")
os.execv(sys.argv[2], [sys.argv[2], "--root", sys.argv[3]])
"""


def test_sockets_of_a_service_manager_are_served_and_it_is_told(daemon: Guesthoused, root: Path) -> None:
    place = root / "manager"
    place.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(30)
        argv = ["/usr/bin/python3", "-c", ACTIVATE, str(place), str(BIN / "guesthoused"), str(daemon.root)]
        daemon.root.mkdir(exist_ok=True)
        daemon.pid = daemon.ns.spawn(argv, root / "daemon.out")
        assert manager.recv(100) == b"READY=1", (root / "daemon.out").read_text()
        assert not daemon.socket.exists(), "no other socket is opened"
        with client.connect(f"qemu+unix:///system?socket={place}/libvirt-sock") as conn:
            assert [n.name for n in conn.list_all_networks()] == ["default"]
        with client.connect(f"qemu+unix:///system?socket={place}/libvirt-sock-ro") as conn:
            network = conn.network_lookup_by_name("default")
            with pytest.raises(errors.OperationDenied):
                network.destroy()
        daemon.kill(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
    assert (place / "libvirt-sock").exists(), "the socket is the manager's"


def _until(condition: object, timeout: float = 15) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
