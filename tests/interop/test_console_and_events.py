"""What a tour of lines cannot show: a console on a terminal, and events; both daemons, both virsh."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from support import media_kernel, tour
from support.guesthoused import BIN, Guesthoused
from support.libvirtd import Libvirtd
from support.terminal import Terminal

PROGRAMS = {"c-virsh": "/usr/bin/virsh", "our-virsh": str(BIN / "virsh")}
NAMES = ("libvirtd", "guesthoused")

GUEST = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>160</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <devices><serial type='pty'/></devices>
</domain>
"""


@pytest.fixture(params=NAMES)
def daemon(request: pytest.FixtureRequest, c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> Libvirtd | Guesthoused:
    return c_libvirtd if request.param == "libvirtd" else guesthoused


@pytest.fixture
def kernel_guest(daemon: Libvirtd | Guesthoused, tmp_path_factory: pytest.TempPathFactory) -> str:
    kernel, initrd = media_kernel.kernel_and_initrd()
    work = tmp_path_factory.mktemp("guest")
    name = "console"
    (work / "guest.xml").write_text(GUEST.format(name=name, kernel=kernel, initrd=initrd))
    assert (run := daemon.run("define", str(work / "guest.xml"))).returncode == 0, run.stderr
    yield name
    daemon.run("destroy", name)
    daemon.run("undefine", name)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_console_talks_both_ways(daemon: Libvirtd | Guesthoused, kernel_guest: str, program: str) -> None:
    argv = daemon.ns.command([program, "-c", daemon.uri, "start", kernel_guest, "--console"])
    terminal = Terminal(argv)
    try:
        terminal.expect(r"Domain 'console' started")
        terminal.expect(r"Connected to domain 'console'")
        terminal.expect(r"Escape character is \^\] \(Ctrl \+ \]\)")
        terminal.expect("guest ready", timeout=120)
        mark = len(terminal.text)
        terminal.send("echo $((6 * 7)) answers\r")
        terminal.expect("42 answers", timeout=30, start=mark)
        terminal.send("\x1d")
        assert terminal.wait() == 0
    finally:
        terminal.close()
    # the power button: the guest obeys
    assert daemon.run("shutdown", kernel_guest).returncode == 0
    deadline = time.monotonic() + 60
    while (state := daemon.run("domstate", "--reason", kernel_guest).stdout.strip()) != "shut off (shutdown)":
        assert time.monotonic() < deadline, state
        time.sleep(0.2)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_console_of_a_stopped_guest(daemon: Libvirtd | Guesthoused, kernel_guest: str, program: str) -> None:
    terminal = Terminal(daemon.ns.command([program, "-c", daemon.uri, "console", kernel_guest]))
    try:
        assert terminal.wait() == 1
        assert "error: The domain is not running" in terminal.text
    finally:
        terminal.close()


def _events(daemon: Libvirtd | Guesthoused, program: str, work: str) -> list[str]:
    """What ``virsh event --all --loop`` prints through the life of a guest."""
    argv = daemon.ns.command([program, "-c", daemon.uri, "event", "--all", "--loop", "--timeout", "8"])
    watcher = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(1.5)
    for line in (
        f"define {work}/plain.xml",
        "start plain",
        "suspend plain",
        "resume plain",
        "reset plain",
        "destroy plain",
        "start plain --paused",
        "destroy plain",
        "undefine plain",
        f"create {work}/plain.xml",
        "destroy plain",
    ):
        done = daemon.run(*line.split())
        assert done.returncode == 0, (line, done.stderr)
    out = watcher.communicate(timeout=30)[0]
    assert watcher.returncode == 0
    # reset reaches us from QEMU on its own time: an RTC or reboot event may fall between any two others
    return [line for line in out.splitlines() if re.search("lifecycle|loop|received", line)]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_events_are_the_same(
    c_libvirtd: Libvirtd, guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory, program: str
) -> None:
    work = tmp_path_factory.mktemp("events")
    tour.prepare(work, work)
    want = _events(c_libvirtd, "/usr/bin/virsh", str(work))
    have = _events(guesthoused, program, str(work))
    # libvirtd tells of the SIGTERM only where QEMU's word of it arrives before its end; ours always does
    racy = "Shutdown Finished after host request"
    assert sum(racy in line for line in have) == 3
    have, want = ([line for line in lines if racy not in line and "received" not in line] for lines in (have, want))
    assert have == want
