"""Saved guests: a real one goes on where it was; a save that is given up, fails or is cut off at any step by kill -9
leaves a guest that runs, and one that is decided leaves an image and no guest."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.services.faults import STEPS
from support import media_kernel, namespaces
from support.guesthoused import BIN, Guesthoused
from support.terminal import Terminal

DOMAIN = """\
<domain type='qemu'>
  <name>kept</name>
  <uuid>7a6c2d9a-3e7e-4b4c-9d9b-0e0d7c1c5e02</uuid>
  <memory unit='MiB'>{memory}</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:ab:cd:02'/><source network='default'/><model type='virtio'/>
    </interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' passwd='Secret12'/>
  </devices>
</domain>
"""
BIOS = "<boot dev='hd'/>"
UUID = "7a6c2d9a-3e7e-4b4c-9d9b-0e0d7c1c5e02"


class Host:
    """A daemon with one guest, and a folder for images that fills up soon."""

    def __init__(self, base: Path) -> None:
        self.daemon = Guesthoused(base / "root", start=False)
        self.disk = base / "disk.raw"
        self.disk.write_bytes(bytes(1 << 20))
        self.disk.chmod(0o600)
        self.images = base / "images"
        self.images.mkdir()
        self.image = self.images / "kept.img"
        self.xml = base / "kept.xml"

    def define(self, boot: str = BIOS, memory: int = 64) -> None:
        self.xml.write_text(DOMAIN.format(disk=self.disk, boot=boot, memory=memory))
        self.ok("define", str(self.xml))

    def ok(self, *args: str) -> str:
        done = self.daemon.ours(*args)
        assert done.returncode == 0, (args, done.stdout, done.stderr, self.daemon.output()[-2000:])
        return done.stdout.strip()

    def fails(self, *args: str) -> str:
        done = self.daemon.ours(*args)
        assert done.returncode != 0, (args, done.stdout)
        return done.stderr

    @property
    def state(self) -> str:
        return self.ok("domstate", "--reason", "kept")

    @property
    def managed(self) -> Path:
        return self.daemon.root / "lib/save" / f"{UUID}.save"

    def files(self) -> list[str]:
        """All images and drafts."""
        folders = [folder for folder in (self.images, self.managed.parent) if folder.exists()]
        return sorted(file.name for folder in folders for file in folder.iterdir())

    def assert_off(self) -> None:
        """Nothing of a guest is left but its image."""
        assert self.daemon.qemu_pids() == []
        assert self.daemon.runtime_rows() == {}
        assert self.disk.stat().st_uid == os.geteuid()


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(namespaces.reachable(tmp_path_factory.mktemp("save")))
    try:
        yield host
    finally:
        host.daemon.close()


class Console:
    """The guest's shell, over virsh console."""

    def __init__(self, host: Host, *argv: str) -> None:
        command = [str(BIN / "virsh"), "-c", host.daemon.uri, *(argv or ("console", "kept"))]
        self._terminal = Terminal(host.daemon.ns.command(command))
        self._seen = 0

    def expect(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        found = self._terminal.expect(pattern, timeout, start=self._seen)
        self._seen = found.end()
        return found

    def sees(self, pattern: str, timeout: float) -> bool:
        try:
            self.expect(pattern, timeout)
        except TimeoutError:
            return False
        return True

    def type(self, line: str) -> None:
        self._terminal.send(f"{line}\r")

    def close(self) -> None:
        self._terminal.close()


def test_a_guest_goes_on_where_it_was(host: Host) -> None:
    host.daemon.start()
    kernel, initrd = media_kernel.kernel_and_initrd()
    cmdline = "console=ttyS0 quiet ip=off"
    host.define(f"<kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline>", memory=480)
    console = Console(host, "start", "kept", "--console")
    try:
        console.expect("guest ready", timeout=120)
        console.type("secret=$((6 * 7))")
        # memory that takes a while to write: what is all zero does not
        console.type("tr '\\0' x </dev/zero | head -c 200000000 >/tmp/fill; echo fil''led $?")
        console.expect("filled 0", timeout=120)
    finally:
        console.close()

    # to a file, and back
    host.image.write_text("what was here before")
    done = host.daemon.ours("save", "kept", str(host.image), "--verbose")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Save: \[ *\d+ %\]\n?.*Save: \[100 %\]$", done.stderr, re.S), done.stderr
    assert host.state == "shut off (saved)"
    assert host.image.stat().st_mode & 0o777 == 0o600 and host.image.stat().st_size > 200_000_000
    assert host.files() == ["kept.img"]
    host.assert_off()
    assert "Secret12" not in host.ok("save-image-dumpxml", str(host.image))
    host.ok("restore", str(host.image), "--bypass-cache")
    assert host.state == "running (restored)"
    _says_42(host)

    # given up by a client, in the middle
    worker, result = _in_background(host, "managedsave", "kept")
    _wait(lambda: host.state == "paused (saving)")
    (pid,) = host.daemon.qemu_pids()
    os.kill(pid, signal.SIGSTOP)  # so that the end cannot come first
    aborting, _ = _in_background(host, "domjobabort", "kept", virsh="/usr/bin/virsh")
    time.sleep(0.5)
    assert "Unbounded" in host.daemon.run("domjobinfo", "kept").stdout
    assert "background job" in host.daemon.run("domcontrol", "kept").stdout
    os.kill(pid, signal.SIGCONT)
    worker.join(60)
    aborting.join(60)
    assert result[0].returncode == 1
    assert "operation aborted: job 'domain save' canceled by client" in result[0].stderr
    assert host.state == "running (save canceled)"
    assert host.files() == ["kept.img"]
    _says_42(host)

    # no room
    small = host.daemon.root.parent / "small"
    small.mkdir()
    host.daemon.ns.run("mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", str(small))
    said = host.fails("save", "kept", str(small / "kept.img"))
    assert "No space left on device" in said, said
    assert host.state == "running (save canceled)"
    assert host.daemon.ns.run("ls", "-A", str(small)).stdout == ""
    _says_42(host)

    # kept by the daemon, over a restart of it, and used by the next start
    host.ok("managedsave", "kept")
    host.daemon.kill(signal.SIGTERM)
    host.daemon.start()
    assert "saved" in host.ok("list", "--all", "--managed-save")
    host.ok("start", "kept")
    assert host.state == "running (restored)"
    assert host.files() == ["kept.img"]
    _says_42(host)


def _says_42(host: Host) -> None:
    console = Console(host)
    try:
        console.expect("Escape character")
        for _ in range(10):  # what is typed before the terminal is virsh's is lost
            console.type("echo $secret answers")
            if console.sees("42 answers", timeout=6):
                return
        pytest.fail("the guest's shell does not answer as it should")
    finally:
        console.close()


def _in_background(
    host: Host, *args: str, virsh: str = str(BIN / "virsh")
) -> tuple[threading.Thread, list[subprocess.CompletedProcess[str]]]:
    result: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: result.append(host.daemon.run(*args, virsh=virsh)))
    thread.start()
    return thread, result


def _wait(condition: object, timeout: float = 30) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


BEFORE = ("save-row", "save-paused", "save-written", "save-flushed")
AFTER = ("save-decided", "save-named")
RESTORE = tuple(step for step in STEPS if step.startswith("restore-"))


def test_all_steps_are_tried() -> None:
    assert {*BEFORE, *AFTER, *RESTORE} == {step for step in STEPS if step.startswith(("save-", "restore-"))}


@pytest.mark.parametrize("step", BEFORE)
def test_killed_before_a_save_is_decided(host: Host, step: str) -> None:
    host.daemon.start(env={"GUESTHOUSE_CRASH_AT": step})
    host.define()
    host.ok("start", "kept")
    pids = host.daemon.qemu_pids()
    host.image.write_text("old")
    host.fails("save", "kept", str(host.image))
    host.daemon.start()
    assert host.state.startswith("running")
    assert host.daemon.qemu_pids() == pids
    assert host.files() == ["kept.img"] and host.image.read_text() == "old"
    assert [row["phase"] for row in host.daemon.runtime_rows().values()] == ["running"]
    host.ok("save", "kept", str(host.image))  # nothing of the first one is in the way
    host.assert_off()
    host.ok("restore", str(host.image), "--paused")
    assert host.state == "paused (migrating)"


@pytest.mark.parametrize("step", AFTER)
def test_killed_after_a_save_was_decided(host: Host, step: str) -> None:
    host.daemon.start(env={"GUESTHOUSE_CRASH_AT": step})
    host.define()
    host.ok("start", "kept")
    host.fails("managedsave", "kept")
    host.daemon.start()
    assert host.state == "shut off (saved)"
    assert host.files() == [host.managed.name]
    host.assert_off()
    assert "Refusing to undefine" in host.fails("undefine", "kept")
    host.ok("start", "kept")
    assert host.state == "running (restored)"
    assert host.files() == []


@pytest.mark.parametrize("step", RESTORE)
def test_killed_while_a_saved_guest_is_started(host: Host, step: str) -> None:
    host.daemon.start()
    host.define()
    host.ok("start", "kept")
    host.ok("managedsave", "kept")
    host.daemon.kill(signal.SIGTERM)
    host.daemon.start(env={"GUESTHOUSE_CRASH_AT": step})
    host.fails("start", "kept")
    host.daemon.start()
    if step == "restore-loaded":
        assert host.state == "shut off (failed)"
        host.assert_off()
        assert host.files() == [host.managed.name]
        host.ok("start", "kept")
    assert host.state.startswith("running")
    assert host.files() == []
    assert "Managed save:   no" in host.ok("dominfo", "kept")
    assert len(host.daemon.qemu_pids()) == 1


def test_an_image_that_does_not_load_is_kept(host: Host) -> None:
    host.daemon.start()
    host.define()
    host.ok("start", "kept")
    host.ok("managedsave", "kept")
    whole = host.managed.read_bytes()
    host.managed.write_bytes(whole[: len(whole) // 2])
    host.fails("start", "kept")
    host.assert_off()
    assert host.state == "shut off (failed)"
    host.managed.write_bytes(whole)
    host.ok("start", "kept")
    assert host.state == "running (restored)"
    host.ok("managedsave", "kept")
    host.ok("start", "kept", "--force-boot")
    assert host.state == "running (booted)"
    host.ok("managedsave", "kept")
    host.ok("undefine", "kept", "--managed-save")
    assert host.files() == []
