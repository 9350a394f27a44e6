"""Devices come to a guest with a real kernel and leave it again, seen in the guest's /sys; and a daemon that is killed in
between any two steps leaves a document that is true."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client
from guesthouse.services.faults import STEPS
from support import media_kernel, namespaces
from support.guesthoused import Guesthoused

DOMAIN = """\
<domain type='qemu'>
  <name>hot</name>
  <memory unit='MiB'>160</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <devices>
    {more}
    <controller type='usb' model='qemu-xhci'/>
    <controller type='scsi' model='virtio-scsi'/>
    <controller type='virtio-serial'/>
    <disk type='file' device='cdrom'><target dev='{drive}'/></disk>
    <serial type='pty'/>
  </devices>
</domain>
"""
RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
CHANNEL = "<channel type='unix'><target type='virtio' name='org.example.hot'/></channel>"
CARD = "<interface type='network'><mac address='52:54:00:00:00:77'/><source network='default'/><model type='virtio'/></interface>"
REMOVED, ADDED, FAILED = 15, 19, 22
LIVE, CONFIG = 1, 2


def disk(image: Path, dev: str, bus: str) -> str:
    kind = f"<driver name='qemu' type='raw'/><source file='{image}'/><target dev='{dev}' bus='{bus}'/>"
    return f"<disk type='file' device='disk'>{kind}</disk>"


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("hot")) / "root", start=False)
    yield guesthoused
    guesthoused.close()


def image(daemon: Guesthoused, name: str, mib: int = 1) -> Path:
    path = daemon.root.parent / name
    path.write_bytes(bytes(mib << 20))
    path.chmod(0o600)
    return path


class Guest:
    """A started guest with a shell on its console, and the events of its devices."""

    def __init__(self, conn: client.Connect, xml: str) -> None:
        self.events: list[tuple[str, str]] = []
        for number, name in ((ADDED, "added"), (REMOVED, "removed"), (FAILED, "failed")):
            conn.domain_event_register_any(None, number, lambda e, n=name: self.events.append((n, _alias(e))))  # type: ignore[misc]
        self.domain = conn.define_xml(xml)
        self.domain.create()
        self.console = self.domain.open_console()
        self.shown = b""
        self.until("guest ready", 120)

    def until(self, text: str, seconds: float = 30) -> str:
        """What is shown up to a line with ``text``."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(rf"^(.*?){text}\r?$".encode(), self.shown, re.S | re.M)):
            assert time.monotonic() < deadline, self.shown[-800:]
            self.shown += self.console.recv(4096) or b""
        self.shown = self.shown[match.end() :]
        return match[1].decode(errors="replace")

    def sees(self, command: str, wanted: str) -> None:
        """Wait until the guest's shell prints ``wanted`` for ``command``."""
        line = (
            f'for i in $(seq 60); do [ "$({command})" = "{wanted}" ] && break; sleep 0.2; done; echo "=$({command})="'
        )
        self.console.send(f"{line}\r".encode())
        self.until(f"={re.escape(wanted)}=", 40)

    def heard(self, name: str, alias: str) -> None:
        deadline = time.monotonic() + 20
        while (name, alias) not in self.events:
            assert time.monotonic() < deadline, self.events
            self.domain.conn.dispatch_events(0.1)

    def gone(self, alias: str) -> None:
        self.heard("removed", alias)
        assert f"'{alias}'" not in self.domain.get_xml_desc()


def _alias(event: object) -> str:
    found = getattr(event, "msg", event)
    return str(found.devAlias)  # type: ignore[attr-defined]


MACHINES = {
    "pc": ("hdc", ""),
    "q35": (
        "sdc",
        "<controller type='pci' index='0' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 11,
    ),
}


@pytest.mark.parametrize("machine", [pytest.param("pc", marks=pytest.mark.slow), "q35"])
def test_a_guest_sees_devices_come_and_go(daemon: Guesthoused, machine: str) -> None:
    daemon.start()
    kernel, initrd = media_kernel.kernel_and_initrd()
    boot = f"<kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 quiet ip=off</cmdline>"
    drive, more = MACHINES[machine]
    one, two, cd = image(daemon, "one.raw", 3), image(daemon, "two.raw", 5), image(daemon, "cd.iso", 7)
    with client.connect(daemon.uri) as conn:
        guest = Guest(conn, DOMAIN.format(machine=machine, boot=boot, more=more, drive=drive))
        dom = guest.domain
        try:
            owner = one.stat().st_uid
            for device, alias, command, there in (
                (disk(one, "vda", "virtio"), "virtio-disk0", "cat /sys/block/vda/size", str(3 << 11)),
                (disk(two, "sdb", "scsi"), "scsi0-0-0-1", "cat /sys/block/sd*/size", str(5 << 11)),
                (
                    RNG,
                    "rng0",
                    "cat /sys/class/misc/hw_random/rng_current",
                    "virtio_rng.0",
                ),
                (CARD, "net0", "cat /sys/class/net/eth0/address", "52:54:00:00:00:77"),
                (CHANNEL, "channel0", "cat /sys/class/virtio-ports/*/name", "org.example.hot"),
            ):
                dom.attach_device_flags(device, LIVE | CONFIG)
                guest.heard("added", alias)
                guest.sees(command, there)
            assert (one.stat().st_uid != owner) == (owner == 0), "the guest's user has the image"
            xml = dom.get_xml_desc(2)
            for part in ("dev='vda'", "dev='sdb'", "/dev/urandom", "52:54:00:00:00:77", "org.example.hot"):
                assert part in xml
            # the cable, and the network that it goes to
            dom.update_device_flags(CARD.replace("</interface>", "<link state='down'/></interface>"), LIVE)
            guest.sees("ip link set eth0 up; cat /sys/class/net/eth0/carrier", "0")
            dom.update_device_flags(CARD, LIVE)
            guest.sees("cat /sys/class/net/eth0/carrier", "1")
            # media come and go
            node = "sr0"
            medium = f"<disk type='file' device='cdrom'><source file='{cd}'/><target dev='{drive}'/><readonly/></disk>"
            dom.update_device_flags(medium, LIVE)
            guest.sees(f"dd if=/dev/{node} bs=1M 2>/dev/null | wc -c", str(7 << 20))
            dom.update_device_flags(f"<disk type='file' device='cdrom'><target dev='{drive}'/><readonly/></disk>", LIVE)
            guest.sees(f"dd if=/dev/{node} bs=1M 2>/dev/null | wc -c", "0")
            # what the guest lets go
            for device, alias, command, left in (
                (disk(one, "vda", "virtio"), "virtio-disk0", "ls /sys/block | grep -c vd", "0"),
                (disk(two, "sdb", "scsi"), "scsi0-0-0-1", "ls /sys/block | grep -c sd", "0"),
                (RNG, "rng0", "cat /sys/class/misc/hw_random/rng_available | wc -w", "0"),
                (CARD, "net0", "ls /sys/class/net | grep -c eth", "0"),
            ):
                dom.detach_device_flags(device, LIVE | CONFIG)
                guest.gone(alias)
                guest.sees(command, left)
            dom.detach_device_alias("channel0", LIVE)
            guest.gone("channel0")
            assert one.stat().st_uid == owner, "the image is its owner's again"
            assert "vnet" not in daemon.ns.run("ip", "-o", "link", "show", "type", "tun").stdout
            xml = dom.get_xml_desc(2)
            assert "vda" not in xml and "52:54:00:00:00:77" not in xml and "org.example.hot" in xml
            assert not any(name == "failed" for name, _ in guest.events)
        finally:
            dom.destroy()


def bios(daemon: Guesthoused, machine: str = "pc", more: str = "") -> None:
    file = daemon.root.parent / "hot.xml"
    file.write_text(DOMAIN.format(machine=machine, boot="<boot dev='hd'/>", more=more, drive="sdc"))
    for words in (("define", str(file)), ("start", "hot")):
        done = daemon.run(*words)
        assert done.returncode == 0, done.stderr


def test_no_place_is_left(daemon: Guesthoused) -> None:
    """A q35 guest has one port to spare."""
    daemon.start()
    bios(daemon, "q35")
    text = daemon.root.parent / "rng.xml"
    text.write_text(RNG)
    assert daemon.run("attach-device", "hot", str(text), "--live").returncode == 0
    before = daemon.run("dumpxml", "hot").stdout
    done = daemon.run("attach-device", "hot", str(text), "--live")
    assert "internal error: No more available PCI slots" in done.stderr
    assert daemon.run("dumpxml", "hot").stdout == before


@pytest.mark.slow
@pytest.mark.parametrize("step", [s for s in STEPS if s.startswith(("attach-", "detach-", "media-"))])
def test_killed_between_two_steps_of_a_change(daemon: Guesthoused, step: str) -> None:
    daemon.start(env={"GUESTHOUSE_CRASH_AT": step})
    bios(daemon)
    pid, one, cd = daemon.pid, image(daemon, "one.raw"), image(daemon, "cd.iso")
    owner = one.stat().st_uid
    lines = [("attach-disk", "hot", str(one), "sdb", "--targetbus", "scsi", "--live")]
    if step.startswith("detach-"):
        lines.append(("detach-disk", "hot", "sdb", "--live"))
    elif step.startswith("media-"):
        lines = [("change-media", "hot", "sdc", str(cd), "--insert", "--live", "--force")]
    codes = [daemon.run(*line).returncode for line in lines]
    assert codes[-1] != 0, "the daemon must die at this step"
    deadline = time.monotonic() + 30
    while namespaces.alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    daemon.start()
    devices = daemon.run(
        "qemu-monitor-command", "hot", '{"execute":"qom-list","arguments":{"path":"/machine/peripheral"}}'
    )
    blocks = daemon.run("qemu-monitor-command", "hot", '{"execute":"query-named-block-nodes"}').stdout
    listed = daemon.run("domblklist", "hot").stdout
    if step.startswith("media-"):
        assert (str(cd) in listed) == (str(cd) in blocks), "what is in the drive is what is said to be"
    else:
        assert ("scsi0-0-0-1" in devices.stdout) == (str(one) in listed)
        assert (str(one) in blocks) == (str(one) in listed), "no image is left open"
        assert (one.stat().st_uid != owner) == (str(one) in listed)
    if not step.startswith("media-") and str(one) in listed:
        assert daemon.run("detach-disk", "hot", "sdb", "--live").returncode == 0
    done = daemon.run(*lines[0])
    assert done.returncode == 0 or str(cd) in listed, done.stderr
    assert daemon.run("destroy", "hot").returncode == 0
    assert one.stat().st_uid == cd.stat().st_uid == owner


@pytest.mark.slow
def test_a_guest_that_does_not_answer(daemon: Guesthoused) -> None:
    """Firmware lets go of no PCI device: the request stands, the device stays, and a new daemon knows it still."""
    daemon.start()
    bios(daemon)
    text = daemon.root.parent / "rng.xml"
    text.write_text(RNG)
    assert daemon.run("attach-device", "hot", str(text), "--live").returncode == 0
    before = time.monotonic()
    assert daemon.run("detach-device", "hot", str(text), "--live").returncode == 0
    assert 4.5 < time.monotonic() - before < 8
    assert "<rng" in daemon.run("dumpxml", "hot").stdout
    daemon.kill(signal.SIGKILL)
    daemon.start()
    assert "<rng" in daemon.run("dumpxml", "hot").stdout
