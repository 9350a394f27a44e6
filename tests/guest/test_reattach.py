"""Guests outlive their daemon: kill -9 at any time, between any two steps of a start or a stop, and a new daemon knows
each guest again, without a duplicate and without an orphan."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.services.faults import STEPS
from support import cgroups, media_kernel, namespaces
from support.guesthoused import BIN, Guesthoused
from support.terminal import Terminal

DOMAIN = """\
<domain type='qemu'>
  <name>hardy</name>
  <uuid>7a6c2d9a-3e7e-4b4c-9d9b-0e0d7c1c5e01</uuid>
  <memory unit='MiB'>160</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:ab:cd:01'/><source network='default'/><model type='virtio'/>
    </interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' passwd='Secret12'/>
  </devices>
</domain>
"""
BIOS = "<boot dev='hd'/>"


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    root = namespaces.reachable(tmp_path_factory.mktemp("reattach"))
    guesthoused = Guesthoused(root / "root", start=False)
    try:
        yield guesthoused
    finally:
        guesthoused.close()


@pytest.fixture
def disk(daemon: Guesthoused) -> Path:
    path = daemon.root.parent / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    path.chmod(0o600)
    return path


def define(daemon: Guesthoused, disk: Path, boot: str = BIOS, machine: str = "q35") -> None:
    file = daemon.root.parent / "hardy.xml"
    file.write_text(DOMAIN.format(disk=disk, boot=boot, machine=machine))
    ok(daemon, "define", str(file))


def ok(daemon: Guesthoused, *args: str) -> str:
    done = daemon.run(*args)
    assert done.returncode == 0, (args, done.stdout, done.stderr, daemon.output()[-2000:])
    return done.stdout.strip()


def has_died(pid: int) -> None:
    deadline = time.monotonic() + 5
    while namespaces.alive(pid):
        assert time.monotonic() < deadline, "the daemon must die at this step"
        time.sleep(0.01)


def taps(daemon: Guesthoused) -> list[str]:
    out = daemon.ns.run("ip", "-o", "link", "show", "type", "tun").stdout
    return re.findall(r"vnet\d+", out)


def leftovers(daemon: Guesthoused, disk: Path) -> list[str]:
    """Everything of a guest that is off and should not be there."""
    found = [f"qemu {pid}" for pid in daemon.qemu_pids()]
    found += [f"tap {name}" for name in taps(daemon)]
    found += [f"row {row['phase']}" for row in daemon.runtime_rows().values()]
    found += [str(group) for group in cgroups.of(daemon.root)]
    for folder in ("run/qemu", "run/channel/target"):
        path = daemon.root / folder
        found += [str(child) for child in path.iterdir()] if path.exists() else []
    if (owner := disk.stat().st_uid) != os.geteuid():
        found.append(f"{disk} belongs to {pwd.getpwuid(owner).pw_name}")
    return found


def test_a_killed_daemon_leaves_its_guests_to_the_next(daemon: Guesthoused, disk: Path) -> None:
    kernel, initrd = media_kernel.kernel_and_initrd()
    boot = f"<kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet</cmdline>"
    daemon.start()
    define(daemon, disk, boot, "pc")
    console = Terminal(daemon.ns.command([str(BIN / "virsh"), "-c", daemon.uri, "start", "hardy", "--console"]))
    try:
        console.expect("guest ready", timeout=120)
    finally:
        console.close()
    before = ok(daemon, "dumpxml", "hardy", "--security-info")
    pids = daemon.qemu_pids()
    leases = ok(daemon, "net-dhcp-leases", "default")
    assert len(pids) == 1 and "52:54:00:ab:cd:01" in leases

    daemon.kill(signal.SIGKILL)
    assert daemon.qemu_pids() == pids
    daemon.start()

    assert ok(daemon, "list", "--name") == "hardy"
    assert ok(daemon, "dumpxml", "hardy", "--security-info") == before
    assert daemon.qemu_pids() == pids
    assert ok(daemon, "net-dhcp-leases", "default") == leases
    console = Terminal(daemon.ns.command(["/usr/bin/virsh", "-c", daemon.uri, "console", "hardy"]))
    try:
        console.expect("Escape character")
        for _ in range(10):  # what is typed before the terminal is set up is lost
            console.send("\recho $((6 * 7)) answers\r")
            try:
                console.expect("42 answers", timeout=3)
                break
            except TimeoutError:
                continue
        console.expect("42 answers", timeout=1)
        console.send("\x1d")
        assert console.wait() == 0
    finally:
        console.close()
    assert ok(daemon, "screenshot", "hardy", str(daemon.root / "shot.png"))

    # it powers off while nobody watches: the next daemon ends it as its definition says
    daemon.kill(signal.SIGTERM)
    qmp = daemon.ns.command(["bash", "-c", f"cd {daemon.root}/run/qemu/domain-1-hardy && exec {_POWERDOWN}"])
    subprocess.run(qmp, check=True, timeout=60)
    daemon.start()
    deadline = time.monotonic() + 60
    while ok(daemon, "domstate", "--reason", "hardy") != "shut off (shutdown)":
        assert time.monotonic() < deadline, ok(daemon, "domstate", "--reason", "hardy")
        time.sleep(0.1)
    assert leftovers(daemon, disk) == []


# presses the power button past the daemon, and waits until the guest has obeyed
_POWERDOWN = f"""{BIN / "python"} -c '
import json, socket
s = socket.socket(socket.AF_UNIX); s.connect("monitor.sock"); f = s.makefile("rw")
f.readline()
for name in ("qmp_capabilities", "system_powerdown"):
    f.write(json.dumps(dict(execute=name))); f.flush()
for line in f:
    if "SHUTDOWN" in line: break
'"""


def test_a_guest_that_died_meanwhile_is_off(daemon: Guesthoused, disk: Path) -> None:
    daemon.start()
    define(daemon, disk)
    ok(daemon, "start", "hardy")
    daemon.kill(signal.SIGKILL)
    (pid,) = daemon.qemu_pids()
    namespaces.end(pid, signal.SIGKILL)
    daemon.start()
    assert ok(daemon, "domstate", "--reason", "hardy") == "shut off (crashed)"
    assert leftovers(daemon, disk) == []
    ok(daemon, "start", "hardy")
    assert ok(daemon, "domid", "hardy") == "2", "ids are not given twice"


def test_a_recycled_pid_is_not_taken_for_the_guest(daemon: Guesthoused, disk: Path) -> None:
    daemon.start()
    define(daemon, disk)
    ok(daemon, "start", "hardy")
    daemon.kill(signal.SIGKILL)
    (pid,) = daemon.qemu_pids()
    namespaces.end(pid, signal.SIGKILL)
    other = subprocess.Popen(["sleep", "60"])
    try:
        _rewrite_row(daemon, pid=other.pid)
        daemon.start()
        assert ok(daemon, "domstate", "hardy") == "shut off"
        assert other.poll() is None, "somebody else's process must live"
    finally:
        other.kill()
        other.wait()


def _rewrite_row(daemon: Guesthoused, **changes: object) -> None:
    import json
    import sqlite3

    with sqlite3.connect(daemon.root / "run/runtime.db") as db:
        for uuid, doc in db.execute("SELECT uuid, doc FROM runtime WHERE kind = 'domain'").fetchall():
            db.execute("UPDATE runtime SET doc = ? WHERE uuid = ?", (json.dumps(json.loads(doc) | changes), uuid))
    db.close()


@pytest.mark.parametrize("step", [s for s in STEPS if s.startswith("start-")])
def test_killed_between_two_steps_of_a_start(daemon: Guesthoused, disk: Path, step: str) -> None:
    daemon.start(env={"GUESTHOUSE_CRASH_AT": step})
    define(daemon, disk)
    pid = daemon.pid
    assert daemon.run("start", "hardy").returncode != 0
    has_died(pid)
    daemon.start()
    if step == "start-running":
        assert ok(daemon, "list", "--name") == "hardy"
        assert ok(daemon, "domstate", "--reason", "hardy") == "running (booted)"
        assert len(daemon.qemu_pids()) == 1
    else:
        assert ok(daemon, "list", "--name") == ""
        assert ok(daemon, "domstate", "hardy") == "shut off"
        assert leftovers(daemon, disk) == []
        ok(daemon, "start", "hardy")
        assert len(daemon.qemu_pids()) == len(taps(daemon)) == 1
    ok(daemon, "destroy", "hardy")
    assert leftovers(daemon, disk) == []
    ok(daemon, "undefine", "hardy")
    assert ok(daemon, "list", "--all", "--name") == ""


@pytest.mark.parametrize("step", [s for s in STEPS if s.startswith("stop-")])
def test_killed_between_two_steps_of_a_stop(daemon: Guesthoused, disk: Path, step: str) -> None:
    daemon.start(env={"GUESTHOUSE_CRASH_AT": step})
    define(daemon, disk)
    ok(daemon, "start", "hardy")
    pid = daemon.pid
    assert daemon.run("destroy", "hardy").returncode != 0
    has_died(pid)
    daemon.start()
    assert ok(daemon, "domstate", "hardy") == "shut off"
    assert leftovers(daemon, disk) == []
    ok(daemon, "start", "hardy")
    ok(daemon, "destroy", "hardy")


def test_a_transient_guest_is_known_again_and_goes_when_it_ends(daemon: Guesthoused, disk: Path) -> None:
    daemon.start()
    file = daemon.root.parent / "hardy.xml"
    file.write_text(DOMAIN.format(disk=disk, boot=BIOS, machine="pc"))
    ok(daemon, "create", str(file))
    daemon.kill(signal.SIGKILL)
    daemon.start()
    assert "Persistent:     no" in ok(daemon, "dominfo", "hardy")
    ok(daemon, "destroy", "hardy")
    assert ok(daemon, "list", "--all", "--name") == ""
    assert leftovers(daemon, disk) == []


def test_autostart_happens_at_boot_and_not_at_a_restart_of_the_daemon(daemon: Guesthoused, disk: Path) -> None:
    daemon.start()
    define(daemon, disk)
    ok(daemon, "autostart", "hardy")
    daemon.kill(signal.SIGTERM)
    daemon.start()
    assert ok(daemon, "list", "--name") == ""
    daemon.kill(signal.SIGTERM)
    # what a reboot does; the bridge and its dnsmasq stay here, and must not be in the way
    for path in (daemon.root / "run").glob("runtime.db*"):
        path.unlink()
    daemon.start()
    assert ok(daemon, "list", "--name") == "hardy"
    ok(daemon, "destroy", "hardy")


def test_two_daemons_do_not_share_a_folder(daemon: Guesthoused) -> None:
    daemon.start()
    second = daemon.ns.run(str(BIN / "guesthoused"), "--root", str(daemon.root), check=False)
    assert second.returncode == 1
    assert f"another guesthoused (pid {daemon.pid}) runs on" in second.stderr
    ok(daemon, "list")
