from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, InternalError, SystemFailure
from guesthouse.model.network_rules import parse
from guesthouse.network import bridges, dnsmasq
from guesthouse.network.dnsmasq import Files, LeaseEntry
from support.netns import Host, in_netns, run
from support.networks import document, network
from support.reference import REFERENCE, needs_reference

CASES = sorted((REFERENCE / "xml/networkconf").glob("*.xml"))
_OURS = ("#", "pid-file=", "dhcp-leasefile=")
_PATHS = ("dhcp-hostsfile=", "addn-hosts=")


def files(folder: Path, name: str = "net") -> Files:
    return Files(*(folder / f"{name}.{end}" for end in ("conf", "hosts", "names", "leases", "pid")))


def meaning(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.startswith(_OURS)]
    return [line.partition("=")[0] + "=" if line.startswith(_PATHS) else line for line in lines]


@needs_reference
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_configuration_is_what_libvirt_makes(case: Path, tmp_path: Path) -> None:
    made = parse(case.read_text())
    assert meaning(dnsmasq.configuration(made, files(tmp_path))) == meaning(case.with_suffix(".conf").read_text())
    for suffix, make in ((".hostsfile", dnsmasq.hosts_file), (".addnhosts", dnsmasq.names_file)):
        expected = case.with_suffix(suffix)
        assert make(made) == (expected.read_text() if expected.exists() else make(made))


def test_a_reverse_domain_needs_whole_labels(tmp_path: Path) -> None:
    odd = document("<ip address='10.0.0.1' prefix='21' localPtr='yes'/>")
    with pytest.raises(ConfigUnsupported, match="PTR domain for IPv4 network with prefix 21"):
        dnsmasq.configuration(odd, files(tmp_path))


def test_leases(tmp_path: Path) -> None:
    later = int(time.time()) + 1000
    path = tmp_path / "leases"
    assert dnsmasq.read_leases(path) == []
    path.write_text(
        f"{later} 52:54:00:00:00:01 10.0.0.5 box 01:52:54:00:00:00:01\n"
        "0 52:54:00:00:00:02 10.0.0.6 * *\n"
        f"{later - 2000} 52:54:00:00:00:03 10.0.0.7 gone *\n"
        "duid 00:01:00:01:2f\n"
        f"{later} 12345 fd00::5 six 00:01:00:02\n"
        "garbage\n"
    )
    assert dnsmasq.read_leases(path) == [
        LeaseEntry(later, "52:54:00:00:00:01", None, "10.0.0.5", "box", "01:52:54:00:00:00:01"),
        LeaseEntry(0, "52:54:00:00:00:02", None, "10.0.0.6", None, None),
        LeaseEntry(later, None, "12345", "fd00::5", "six", "00:01:00:02"),
    ]
    with pytest.raises(SystemFailure, match="Unable to read leases file"):
        dnsmasq.read_leases(tmp_path)


def test_a_pid_file_left_behind_does_not_fool(tmp_path: Path) -> None:
    made = files(tmp_path)
    assert dnsmasq.running_pid(made) is None
    made.pid.write_text(f"{os.getpid()}\n")
    assert dnsmasq.running_pid(made) is None
    made.pid.write_text("nonsense")
    assert dnsmasq.running_pid(made) is None


def test_dnsmasq_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InternalError, match="install the package dnsmasq-base"):
        dnsmasq.start(network(), files(tmp_path))


def open_up(folder: Path) -> Path:
    # dnsmasq reads its host files as an unprivileged user
    for part in (folder, folder.parent, folder.parent.parent):
        part.chmod(0o755)
    return folder


def lease_of(host: Host, script: Path) -> dict[str, str]:
    """What a DHCP client is given: udhcpc's variables."""
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && env && ip address add $ip/$mask dev $interface; exit 0\n')
    script.chmod(0o755)
    shown = host.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1", "-s", str(script))
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


@in_netns
def test_dhcp_and_dns_for_a_guest(tmp_path: Path) -> None:
    made, where = network("<forward mode='nat'/>"), files(open_up(tmp_path))
    bridges.create(made)
    pid, began = dnsmasq.start(made, where)
    try:
        assert dnsmasq.running_pid(where) == pid and dnsmasq.is_running(pid, began)
        with Host("guest", bridge="gh0") as guest:
            guest.run("ip", "link", "set", "eth0", "address", "52:54:00:00:00:07")
            given = lease_of(guest, tmp_path / "script")
            assert (given["ip"], given["subnet"], given["router"]) == ("10.20.30.7", "255.255.255.0", "10.20.30.1")
            assert (given["dns"], given["hostname"], given["domain"]) == ("10.20.30.1", "seven", "guests.test")
            (lease,) = dnsmasq.read_leases(where.leases)
            assert (lease.mac, lease.address, lease.hostname) == ("52:54:00:00:00:07", "10.20.30.7", "seven")
            for name, address in (("seven.guests.test", "10.20.30.7"), ("elsewhere.test", "192.0.2.77")):
                assert address in guest.run("busybox", "nslookup", "-type=a", name, "10.20.30.1")
            where.names.write_text("192.0.2.78\tnew.test\n")
            dnsmasq.reload(pid, began)
            deadline = time.monotonic() + 5
            while "192.0.2.78" not in guest.run(
                "busybox", "nslookup", "-type=a", "new.test", "10.20.30.1", check=False
            ):
                assert time.monotonic() < deadline
    finally:
        dnsmasq.stop(pid, began)
    assert not dnsmasq.is_running(pid, began)
    dnsmasq.stop(pid, began)
    where.remove(leases=True)
    assert [path for path in tmp_path.iterdir() if path.name != "script"] == []


@in_netns
def test_its_last_words_are_in_the_error(tmp_path: Path) -> None:
    made, where = network(), files(open_up(tmp_path))
    with pytest.raises(InternalError, match=r"Child process \(dnsmasq .*unexpected exit status \d+: .*dnsmasq: "):
        broken = network()
        assert broken.domain is not None
        broken.domain.name = "guests.test\nno-such-option"
        dnsmasq.start(broken, where)
    bridges.create(made)
    run("sh", "-c", "dnsmasq --conf-file=/dev/null --no-resolv --pid-file=" + str(tmp_path / "other.pid"))
    other = int((tmp_path / "other.pid").read_text())
    try:
        with pytest.raises(InternalError, match="Address already in use; another DNS or DHCP server"):
            dnsmasq.start(made, where)
    finally:
        os.kill(other, signal.SIGTERM)
