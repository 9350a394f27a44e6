"""Debian's installer from its first screen to a login in the installed system, with virt-install's answers alone.

The mirror that it takes all from is on the guest's own network; what it serves is Debian's own and signed by Debian, so
that the installer checks it as it would the real one.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client
from support import namespaces
from support.debian_mirror import Mirror, socket_inside
from support.guesthoused import BIN, Guesthoused
from support.terminal import Terminal

pytestmark = pytest.mark.slow

_PASSWORD = "three blind mice"
_MINUTES = 40
_LOCATION = "/usr/lib/debian-installer/images/12/amd64/text"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path) / "root")
    yield guesthoused
    guesthoused.close()


@pytest.fixture
def mirror(daemon: Guesthoused, tmp_path: Path) -> Iterator[Mirror]:
    made = Mirror(socket_inside(daemon.ns.pid, ("192.168.122.1", 8000)), tmp_path / "mirror")
    try:
        if lacks := made.lacks("apt-mirror-setup", "debootstrap-udeb", "grub-installer", "user-setup-udeb"):
            pytest.skip(f"the mirror of this host's apt has no installer: {', '.join(lacks)} are missing")
        yield made
    finally:
        made.close()


def test_debian_installs_itself(daemon: Guesthoused, mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{_PASSWORD}\n")
    unattended = (
        f"admin-password-file={tmp_path}/password,user-login=mouse,user-password-file={tmp_path}/password,hostname=cheese,"
        f"locale=en_GB,timezone=Europe/Berlin,mirror={mirror.url},tasks=none,late-command=echo done >/etc/late"
    )
    console = tmp_path / "console.log"
    argv = [
        *("virt-install", "--connect", daemon.uri, "--name", "cheese", "--osinfo", "debian11", "--virt-type", "qemu"),
        *("--memory", "1200", "--vcpus", "2", "--disk", "size=4,cache=unsafe", "--network", "default"),
        *("--graphics", "none", "--serial", f"pty,log.file={console}", "--location", _LOCATION),
        *("--unattended", unattended, "--extra-args", "console=ttyS0 DEBIAN_FRONTEND=text"),
        *("--noautoconsole", "--wait", str(_MINUTES)),
    ]
    argv[0] = str(BIN / argv[0])
    begin = time.monotonic()
    done = subprocess.run(daemon.ns.command(argv), capture_output=True, text=True, timeout=(_MINUTES + 5) * 60)
    said = console.read_text(errors="replace")[-4000:] if console.exists() else ""
    assert done.returncode == 0, (done.stdout, done.stderr, said)
    assert "Domain creation completed." in done.stdout
    print(f"installed in {time.monotonic() - begin:.0f} s; {len(set(mirror.asked))} files of the mirror")

    # passwords are nowhere but hashed
    with client.connect(daemon.uri) as conn:
        assert _PASSWORD not in conn.lookup_by_name("cheese").get_xml_desc(1)
    terminal = Terminal(daemon.ns.command([str(BIN / "virsh"), "-c", daemon.uri, "console", "cheese"]))
    try:
        with pressed_again(terminal):
            terminal.expect("cheese login: ", timeout=600)
        for user, prompt in (("root", "root@cheese:~#"), ("mouse", "mouse@cheese:~\\$")):
            start = len(terminal.text)
            terminal.send("\r")
            terminal.expect("cheese login: ", start=start)
            start = len(terminal.text)
            terminal.send(f"{user}\r")
            terminal.expect("Password: ", start=start)
            terminal.send(f"{_PASSWORD}\r")
            terminal.expect(prompt, timeout=120, start=start)
            if user == "root":
                start = len(terminal.text)
                terminal.send("cat /etc/late /etc/timezone; findmnt -no SOURCE /; cat /etc/apt/sources.list\r")
                seen = terminal.expect(r"(?s)done\s+Europe/Berlin\s+/dev/vda1\s.*# $", start=start)
                assert f"deb {mirror.url} bookworm main" in seen[0]
            terminal.send("exit\r")
    finally:
        terminal.close()


@contextlib.contextmanager
def pressed_again(terminal: Terminal) -> Iterator[None]:
    """Enter, now and then: a prompt that was there before the console was opened is shown again."""
    over = threading.Event()

    def press() -> None:
        while not over.wait(10):
            terminal.send("\r")

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
