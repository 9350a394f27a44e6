"""Cards on a device of the host's, and taps that somebody else connects: made, used, and taken away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client, errors
from guesthouse.model.domain import Domain
from support import namespaces
from support.guesthoused import Guesthoused

_PAUSED = 1
_QBG = "managerid='1' typeid='1' typeidversion='1' instanceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'"
_FIRST, _SECOND, _THIRD = (f"52:54:00:00:0a:0{number}" for number in (1, 2, 3))


def direct(mac: str, mode: str, more: str = "", device: str = "lower0") -> str:
    return (
        f"<interface type='direct'><mac address='{mac}'/><source dev='{device}' mode='{mode}'/>{more}"
        "<model type='virtio'/></interface>"
    )


def guest(name: str, *devices: str) -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>"
        f"<features><acpi/></features><devices>{''.join(devices)}</devices></domain>"
    )


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("cards")))
    for near, far in (("lower0", "far0"), ("lower1", "far1")):
        guesthoused.ns.run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        guesthoused.ns.run("ip", "link", "set", near, "up")
        guesthoused.ns.run("ip", "link", "set", far, "up")
    yield guesthoused
    guesthoused.close()


def link(daemon: Guesthoused, name: str) -> str:
    return daemon.ns.run("ip", "-d", "link", "show", name, check=False).stdout


def queues(daemon: Guesthoused) -> list[str]:
    """What the guest's process has open of macvtap devices."""
    (pid,) = daemon.qemu_pids()
    folder = Path(f"/proc/{pid}/fd")
    return sorted(text for fd in folder.iterdir() if "/dev/tap" in (text := str(fd.readlink())))


@pytest.mark.slow
def test_a_guest_gets_an_address_through_a_card_of_the_hosts(daemon: Guesthoused, tmp_path: Path) -> None:
    """Its firmware asks for one and takes it: frames go both ways."""
    daemon.ns.run("ip", "address", "add", "10.9.0.1/24", "dev", "far0")
    leases = tmp_path / "leases"
    words = ("--interface=far0", "--bind-interfaces", "--dhcp-range=10.9.0.5,10.9.0.9", "--port=0", "--no-ping")
    argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=", f"--dhcp-leasefile={leases}", "--user=root", *words]
    dnsmasq = daemon.ns.spawn(argv, tmp_path / "dnsmasq.log")
    try:
        with client.connect(daemon.uri) as conn:
            domain = conn.create_xml(guest("asking", direct(_FIRST, "vepa", "<boot order='1'/>")), 0)
            deadline = time.monotonic() + 60
            while not (leases.exists() and _FIRST in leases.read_text()):
                assert time.monotonic() < deadline, (tmp_path / "dnsmasq.log").read_text()
                time.sleep(0.1)
            domain.destroy()
    finally:
        namespaces.end(dnsmasq)


def test_cards_on_devices_of_the_hosts_come_and_go(daemon: Guesthoused) -> None:
    own = [line for line in link(daemon, "lower1").splitlines() if "link/ether" in line]
    with client.connect(daemon.uri) as conn:
        bandwidth = "<bandwidth><inbound average='5000'/><outbound average='4000'/></bandwidth>"
        domain = conn.create_xml(guest("direct", direct(_FIRST, "bridge", bandwidth)), _PAUSED)
        assert f"link/ether {_FIRST}" in link(daemon, "macvtap0") and "mode bridge" in link(daemon, "macvtap0")
        assert "rate 32Mbit" in daemon.ns.run("tc", "class", "show", "dev", "macvtap0").stdout
        domain.attach_device_flags(direct(_SECOND, "private", "<driver queues='2'/>"), 1)
        domain.attach_device_flags(direct(_THIRD, "passthrough", "<target dev='pass0'/>", "lower1"), 1)
        live = Domain.from_xml(domain.get_xml_desc()).dev.interfaces
        assert [nic.target and nic.target.dev for nic in live] == ["macvtap0", "macvtap1", "pass0"]
        assert len(queues(daemon)) == 4
        assert _THIRD in link(daemon, "lower1")
        fourth = "52:54:00:00:0a:09"
        for text, words in (
            (direct(fourth, "passthrough"), "error creating macvtap interface macvtap2@lower0"),
            (direct(fourth, "vepa", device="none0"), "Unable to get index for interface none0: No such device"),
            (direct(fourth, "vepa", "<vlan><tag id='3'/></vlan>"), "vlan tag not supported for this connection type"),
            (
                direct(fourth, "vepa", f"<virtualport type='802.1Qbg'><parameters {_QBG}/></virtualport>"),
                "Error opening file /run/lldpad.pid: No such file or directory",
            ),
        ):
            with pytest.raises(errors.GuesthouseError, match=words):
                domain.attach_device_flags(text, 1)
        daemon.kill()
        daemon.start()
    with client.connect(daemon.uri) as conn:
        assert _SECOND in link(daemon, "macvtap1") and _THIRD in link(daemon, "lower1")
        conn.lookup_by_name("direct").destroy()
    assert [link(daemon, name) for name in ("macvtap0", "macvtap1", "pass0")] == ["", "", ""]
    assert [line for line in link(daemon, "lower1").splitlines() if "link/ether" in line] == own


def test_what_a_daemon_left_that_was_killed_is_taken_away(daemon: Guesthoused) -> None:
    daemon.kill()
    daemon.start(env={"GUESTHOUSE_CRASH_AT": "start-plugged"})
    with client.connect(daemon.uri) as conn, pytest.raises(errors.GuesthouseError):
        conn.create_xml(guest("cut", direct(_FIRST, "bridge")), 0)
    left = link(daemon, "macvtap0")
    daemon.kill()
    daemon.start()
    assert "macvtap" in left
    assert link(daemon, "macvtap0") == "" and daemon.runtime_rows("macvtap") == {}


def test_taps_that_others_connect(daemon: Guesthoused, tmp_path: Path) -> None:
    namespaces.reachable(tmp_path)
    log = tmp_path / "log"
    for name, line in (("up", 'echo up "$1"'), ("down", 'echo down "$1"'), ("broken", "echo no such >&2; exit 3")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line} >> {log}\n" if name != "broken" else f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    daemon.ns.run("ip", "tuntap", "add", "own0", "mode", "tap", "multi_queue")

    def ethernet(mac: str, more: str) -> str:
        return f"<interface type='ethernet'><mac address='{mac}'/>{more}<model type='virtio'/></interface>"

    scripts = f"<script path='{tmp_path}/up'/><downscript path='{tmp_path}/down'/>"
    devices = (
        ethernet(_FIRST, f"{scripts}<target dev='mine0'/><mtu size='1400'/>"),
        ethernet(_SECOND, "<driver queues='3'/>"),
        ethernet(_THIRD, "<target dev='own0' managed='no'/><driver queues='2'/>"),
    )
    with client.connect(daemon.uri) as conn:
        domain = conn.create_xml(guest("ethernet", *devices), _PAUSED)
        live = Domain.from_xml(domain.get_xml_desc()).dev.interfaces
        assert [nic.target and nic.target.dev for nic in live] == ["mine0", "vnet0", "own0"]
        assert "fe:54:00:00:0a:01" in link(daemon, "mine0") and "mtu 1400" in link(daemon, "mine0")
        assert ",UP" in link(daemon, "vnet0") and "multi_queue" in link(daemon, "vnet0")
        assert ",UP" not in link(daemon, "own0")
        assert log.read_text() == "up mine0\n"
        domain.destroy()
        assert log.read_text() == "up mine0\ndown mine0\n"
        assert link(daemon, "mine0") == "" and link(daemon, "own0") != ""
        vdpa = "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/><model type='virtio'/></interface>"
        for device, words in (
            (ethernet(_FIRST, f"<script path='{tmp_path}/broken'/>"), "vnet0. unexpected exit status 3: no such"),
            (ethernet(_FIRST, "<target managed='no'/>"), "target dev must be supplied when managed='no'"),
            (ethernet(_FIRST, "<target dev='x0' managed='no'/>"), "target managed='no' but specified dev doesn't exi"),
            (ethernet(_FIRST, "<vlan><tag id='3'/></vlan>"), "vlan tag not supported for this connection type"),
            (vdpa, "Unable to open '/dev/vhost-vdpa-0' for vdpa device: No such file or directory"),
        ):
            with pytest.raises(errors.GuesthouseError, match=words):
                conn.create_xml(guest("refused", device), _PAUSED)
        assert link(daemon, "vnet0") == "" and daemon.qemu_pids() == []


def test_a_tap_of_several_queues_on_a_bridge_gathers_frames(daemon: Guesthoused) -> None:
    daemon.ns.run("ip", "link", "add", "br0", "type", "bridge")
    bridge = (
        f"<interface type='bridge'><mac address='{_FIRST}'/><source bridge='br0'/><model type='virtio'/>"
        "<driver queues='4'/><coalesce><rx><frames max='32'/></rx></coalesce></interface>"
    )
    with client.connect(daemon.uri) as conn:
        domain = conn.create_xml(guest("queues", bridge), _PAUSED)
        (nic,) = Domain.from_xml(domain.get_xml_desc()).dev.interfaces
        assert nic.coalesce and nic.coalesce.rx and nic.coalesce.rx.frames and nic.coalesce.rx.frames.max == 32
        assert "multi_queue" in link(daemon, "vnet0")
        (pid,) = daemon.qemu_pids()
        folder = Path(f"/proc/{pid}/fd")
        assert sum(str(fd.readlink()) == "/dev/net/tun" for fd in folder.iterdir()) == 4
        domain.destroy()
