"""A running network that is changed in place: who keeps running, what guests are told, and that leases stay."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from guesthouse.errors import InternalError
from guesthouse.model.bandwidth import Bandwidth, Inbound
from guesthouse.model.network import DhcpHost, DhcpRange, DnsHost, DnsTxt, Hostname
from guesthouse.model.network_port import NetworkPort, PortMac, PortOwner
from guesthouse.network import dnsmasq
from guesthouse.services.network_runtime import NetworkRuntime, Port, Running
from guesthouse.services.store import Store
from support.namespaces import reachable
from support.netns import Host, in_netns, run
from support.networks import document, network


def lease(guest: Host, script: Path) -> str:
    """The address that a DHCP client is given."""
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && echo got=$ip; exit 0\n')
    script.chmod(0o755)
    shown = guest.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1", "-s", str(script))
    return next(line[4:] for line in shown.splitlines() if line.startswith("got="))


def resolves(guest: Host, name: str, answer: str) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if answer in guest.run("busybox", "nslookup", "-type=a", name, "10.20.30.1", check=False):
            return True
        time.sleep(0.05)
    return False


@in_netns
def test_changed_in_place(tmp_path: Path) -> None:
    reachable(tmp_path)
    store = Store(tmp_path, tmp_path)
    runtime = NetworkRuntime(store, tmp_path / "state", tmp_path / "run")
    (tmp_path / "run").mkdir()

    async def story() -> None:
        running = await runtime.start(network("<forward mode='nat'/>"))
        first = running.dnsmasq
        assert first is not None
        leases = runtime.files(running.network).leases
        try:
            with Host("guest", bridge="gh0") as guest:
                guest.run("ip", "link", "set", "eth0", "address", "52:54:00:00:00:77")
                guest.run("ip", "address", "add", "10.20.30.200/24", "dev", "eth0")
                assert lease(guest, tmp_path / "script").startswith("10.20.30.10")
                assert len(dnsmasq.read_leases(leases)) == 1

                changed = running.network.copy()
                dhcp, dns = changed.ips[0].dhcp, changed.dns
                assert dhcp is not None and dns is not None
                dhcp.hosts.append(DhcpHost(mac="52:54:00:00:00:78", name="later", ip="10.20.30.8"))
                dns.hosts.append(DnsHost(ip="192.0.2.9", hostnames=[Hostname(name="nine.test")]))
                await runtime.change(running, changed)
                # the same process read its files again
                assert running.dnsmasq == first and len(dnsmasq.read_leases(leases)) == 1
                assert resolves(guest, "nine.test", "192.0.2.9")
                guest.run("ip", "link", "set", "eth0", "address", "52:54:00:00:00:78")
                assert lease(guest, tmp_path / "script") == "10.20.30.8"

                changed = running.network.copy()
                dhcp, dns = changed.ips[0].dhcp, changed.dns
                assert dhcp is not None and dns is not None
                dhcp.ranges.append(DhcpRange(start="10.20.30.120", end="10.20.30.125"))
                dns.txts.append(DnsTxt(name="t", value="x"))
                await runtime.change(running, changed)
                # a new one, which knows the leases of the old one
                assert running.dnsmasq not in (None, first) and len(dnsmasq.read_leases(leases)) == 2
                saved = Running.from_document(store.all_runtime("network")[running.network.uuid or ""])
                assert (saved.network, saved.dnsmasq) == (running.network, running.dnsmasq)

                broken = running.network.copy()
                assert broken.domain is not None
                broken.domain.name = "guests.test\nno-such-option"
                with pytest.raises(InternalError, match="unexpected exit status"):
                    await runtime.change(running, broken)
                assert running.network == changed and resolves(guest, "nine.test", "192.0.2.9")
        finally:
            await runtime.stop(running)
        assert running.dnsmasq is None and store.all_runtime("network") == {}

    try:
        asyncio.run(story())
    finally:
        store.close()


@in_netns
def test_limits_of_a_network_come_and_go_with_it(tmp_path: Path) -> None:
    reachable(tmp_path)
    store = Store(tmp_path, tmp_path)
    runtime = NetworkRuntime(store, tmp_path / "state", tmp_path / "run")
    run("ip", "link", "add", "br9", "type", "bridge")
    made = document("<forward mode='bridge'/><bridge name='br9'/>")
    made.bandwidth = Bandwidth(inbound=Inbound(average=300))

    async def story() -> None:
        running = await runtime.start(made)
        assert "rate 2400Kbit" in run("tc", "class", "show", "dev", "br9")
        run("tc", "qdisc", "del", "dev", "br9", "root")
        again = await runtime.adopt(made.uuid or "", store.all_runtime("network")[made.uuid or ""])
        assert again is not None and "rate 2400Kbit" in run("tc", "class", "show", "dev", "br9")
        await runtime.stop(running)
        # the bridge is the host's and stays, without a limit
        assert run("tc", "class", "show", "dev", "br9") == ""

    try:
        asyncio.run(story())
    finally:
        store.close()


def test_ports_of_rows_new_and_old() -> None:
    element = NetworkPort(uuid="u1", owner=PortOwner(name="g", uuid="o1"), mac=PortMac(address="52:54:00:00:00:01"))
    running = Running(network(), None, {"u1": Port(element, "vnet3")})
    row = running.document("active")
    assert Running.from_document(row).ports == running.ports
    row["ports"] = [{"owner": "o1", "mac": "52:54:00:00:00:01", "tap": "vnet3"}]
    (port,) = Running.from_document(row).ports.values()
    assert (port.tap, port.element.owner_uuid, port.element.mac_address) == ("vnet3", "o1", "52:54:00:00:00:01")
