"""What a guest does by itself, and what its definition makes of it: power-off, reboot, and the buttons of the host."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from guesthouse import client
from guesthouse.errors import ConfigUnsupported
from support import media_kernel, namespaces
from support.guesthoused import Guesthoused

DOMAIN = """\
<domain type='qemu'>
  <name>acts</name>
  <memory unit='MiB'>160</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet ip=off</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>{poweroff}</on_poweroff>
  <on_reboot>{reboot}</on_reboot>
  <devices><serial type='pty'/></devices>
</domain>
"""
OFF, RUNNING = (5, 1), (1, 1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("acts")))
    yield guesthoused
    guesthoused.close()


class Guest:
    """A started guest with a shell on its console, and the lifecycle events seen so far."""

    def __init__(self, conn: client.Connect, *, poweroff: str = "destroy", reboot: str = "restart") -> None:
        self.conn = conn
        self.events: list[tuple[int, int]] = []
        conn.domain_event_register_any(None, 0, lambda e: self.events.append((e.msg.event, e.msg.detail)))
        kernel, initrd = media_kernel.kernel_and_initrd()
        xml = DOMAIN.format(kernel=kernel, initrd=initrd, poweroff=poweroff, reboot=reboot)
        self.domain = conn.define_xml(xml)
        self.domain.create()
        self.console = self.domain.open_console()
        self.shown = b""
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait for the shell, and forget what was shown before it."""
        deadline = time.monotonic() + 120
        while b"guest ready" not in self.shown:
            assert time.monotonic() < deadline, self.shown[-500:]
            self.shown += self.console.recv(4096) or b""
        self.shown = b""

    def type(self, line: str) -> None:
        self.console.send(line.encode() + b"\r")

    def wait_state(self, state: tuple[int, int]) -> None:
        deadline = time.monotonic() + 60
        while self.domain.get_state() != state:
            assert time.monotonic() < deadline, self.domain.get_state()
            time.sleep(0.05)

    def clear(self) -> None:
        if self.domain.is_active():
            self.domain.destroy()
        self.domain.undefine()


@pytest.fixture
def conn(daemon: Guesthoused) -> Iterator[client.Connect]:
    with client.connect(daemon.uri) as connection:
        yield connection
        for domain in connection.list_all_domains():
            if domain.is_active():
                domain.destroy()
            domain.undefine()


def test_poweroff_ends_it(conn: client.Connect) -> None:
    guest = Guest(conn)
    guest.type("poweroff -f")
    guest.wait_state(OFF)
    conn.dispatch_events(1)
    assert guest.events[-2:] == [(6, 1), (5, 0)], "shutdown by the guest, then stopped"
    assert guest.console.recv(1 << 16) is not None


def test_poweroff_may_restart_it(conn: client.Connect) -> None:
    guest = Guest(conn, poweroff="restart")
    guest.type("poweroff -f")
    guest.wait_ready()
    assert guest.domain.get_state() == RUNNING


def test_poweroff_does_not_preserve_it(conn: client.Connect) -> None:
    """As with libvirt's QEMU driver, which keeps that for crashes."""
    with pytest.raises(ConfigUnsupported, match="doesn't support the 'preserve' action"):
        Guest(conn, poweroff="preserve")


def test_a_reboot_restarts_it(conn: client.Connect) -> None:
    guest = Guest(conn)
    number = guest.domain.id
    guest.type("reboot -f")
    guest.wait_ready()
    assert (guest.domain.id, guest.domain.get_state()) == (number, RUNNING)


def test_a_reboot_may_end_it(conn: client.Connect) -> None:
    guest = Guest(conn, reboot="destroy")
    guest.type("reboot -f")
    guest.wait_state(OFF)


def test_the_power_button_and_a_reboot_from_the_host(conn: client.Connect) -> None:
    guest = Guest(conn)
    guest.domain.reboot()
    guest.wait_ready()
    assert guest.domain.get_state() == RUNNING
    guest.domain.shutdown()
    guest.wait_state(OFF)


def test_a_reset_starts_it_over(conn: client.Connect) -> None:
    guest = Guest(conn)
    guest.domain.reset()
    guest.wait_ready()
    assert guest.domain.get_state() == RUNNING
