"""Ports of the host's that lead to guests: who gets there, by real packets between namespaces."""

from __future__ import annotations

import ipaddress
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from guesthouse.errors import ConfigUnsupported, XMLError
from guesthouse.model import metadata, port_forward
from guesthouse.model.network import Network
from guesthouse.network import bridges, nat
from guesthouse.network.dnsmasq import LeaseEntry
from guesthouse.services.port_forwards import targets
from support.netns import Host, in_netns, run
from support.networks import document


def forwarding(*items: str, mode: str = "nat") -> Network:
    words = "".join(f"<g:portForward {item}/>" for item in items)
    return document(
        f"<metadata><g:forwards xmlns:g='{port_forward.NAMESPACE}'>{words}</g:forwards></metadata>",
        f"<forward mode='{mode}'/>" if mode else "",
        "<bridge name='gh0' stp='off'/><ip address='10.20.30.1' prefix='24'><dhcp>"
        "<host mac='52:54:00:00:00:07' name='seven' ip='10.20.30.7'/></dhcp></ip>",
    )


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ("host='80'", "needs a guest"),
        ("guest='a'", "bad host '' of <portForward>; expected 1 to 65535"),
        ("guest='a' host='80-79'", "the last is before the first"),
        ("guest='a' host='80-81' port='80'", "leave 'port' out"),
        ("guest='a' host='80' proto='sctp'", "expected tcp or udp"),
        ("guest='a' host='80' address='x'", "bad address 'x'"),
        ("guest='a' host='80' to='x'", "unknown attribute 'to'"),
    ],
)
def test_wrong_forwards(item: str, error: str) -> None:
    with pytest.raises(XMLError, match=error):
        port_forward.of(forwarding(item))


def test_a_port_leads_to_one_guest_on_a_network_with_a_way_out() -> None:
    with pytest.raises(XMLError, match="port tcp 85 is forwarded twice, to 'a' and to 'b'"):
        port_forward.of(forwarding("guest='a' host='80-90'", "guest='b' host='85'"))
    port_forward.of(forwarding("guest='a' host='80'", "guest='b' host='80' proto='udp'"))
    with pytest.raises(ConfigUnsupported, match="cannot have <portForward>"):
        port_forward.of(forwarding("guest='a' host='80'", mode=""))


def test_forwards_are_added_and_taken_away() -> None:
    made = forwarding("guest='a' host='80'", "guest='b' host='81'")
    more = port_forward.PortForward("tcp", (82, 83), "c", address=ipaddress.ip_address("192.0.2.1"))
    text = port_forward.with_forwards(port_forward.element(made), [more], without="a")
    made.metadata = metadata.replaced(made.metadata, text, "g", port_forward.NAMESPACE)
    assert [(f.guest, f.host) for f in port_forward.of(made)] == [("b", (81, 81)), ("c", (82, 83))]
    assert port_forward.of(made)[1] == more
    # as a client of libvirt's writes it: the element has the namespace, what is in it has none
    made.metadata = metadata.replaced(
        None, "<forwards><portForward guest='d' host='9'/></forwards>", "g", port_forward.NAMESPACE
    )
    text = port_forward.with_forwards(port_forward.element(made), [more])
    assert text is not None and text.count("portForward ") == 2
    assert port_forward.with_forwards("<portForward guest='d' host='9'/>", [], without="d") is None


def test_who_a_guest_is() -> None:
    leases = [
        LeaseEntry(0, "52:54:00:00:00:01", None, "10.20.30.101", "told", None),
        LeaseEntry(0, None, "1", "fd00::5", "told", "00:01"),
        LeaseEntry(0, "52:54:00:00:00:02", None, "10.20.30.102", "web", None),
    ]
    for guest, expected in (
        ("10.20.30.9", ["10.20.30.9"]),
        ("52:54:00:00:00:01", ["10.20.30.101"]),
        ("52:54:00:00:00:07", ["10.20.30.7"]),
        ("told", ["10.20.30.101", "fd00::5"]),
        ("seven", ["10.20.30.7"]),
        # a guest's own card counts more than a name that another tells
        ("web", ["10.20.30.101"]),
        ("nobody", []),
    ):
        made = forwarding(f"guest='{guest}' host='80'")
        found = targets(made, {"web": ["52:54:00:00:00:01"]}, leases)
        assert [str(target.address) for target in found] == expected


@contextmanager
def serving(host: Host, word: str, *, port: int = 80) -> Iterator[None]:
    script = f"busybox nc -ll -p {port} -e echo {word}"
    server = subprocess.Popen(host.command("sh", "-c", f"exec {script}"))
    try:
        time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


def asked(argv: list[str], address: str, port: int) -> str:
    client = [*argv, "busybox", "timeout", "2", "busybox", "nc", "-w", "1", address, str(port)]
    return subprocess.run(client, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()


@in_netns
def test_the_world_the_host_and_guests_get_there() -> None:
    made = forwarding(
        "guest='10.20.30.50' host='8080' port='80'", "guest='10.20.30.50' host='8000-8001' address='10.20.30.1'"
    )
    bridges.create(made)
    bridges.enable_forwarding(made)
    nat.install(made, targets(made, {}, []))
    with (
        Host("world", address="198.51.100.1/24") as world,
        Host("one", bridge="gh0") as a,
        Host("two", bridge="gh0") as b,
    ):
        world.run("ip", "address", "add", "198.51.100.2/24", "dev", "eth0")
        for host, address in ((a, "10.20.30.50/24"), (b, "10.20.30.51/24")):
            host.run("ip", "address", "add", address, "dev", "eth0")
            host.run("ip", "route", "add", "default", "via", "10.20.30.1")
        with serving(a, "hello"), serving(a, "eight", port=8001):
            assert asked(world.command(), "198.51.100.1", 8080) == "hello"
            assert asked(world.command(), "198.51.100.1", 8001) == "", "that is another address"
            assert asked([], "127.0.0.1", 8080) == asked([], "198.51.100.1", 8080) == "hello"
            assert asked(b.command(), "198.51.100.1", 8080) == "hello"
            # br_netfilter would bridge it back to where it came from, which bridges do not do
            run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", check=False)
            assert asked(a.command(), "10.20.30.1", 8080) == asked(b.command(), "10.20.30.1", 8080) == "hello"
            assert asked(b.command(), "10.20.30.1", 8001) == "eight"
            assert asked(world.command(), "10.20.30.50", 80) == ""
            # guests have no way to what listens on the host's loopback
            b.run("ip", "route", "add", "127.0.0.0/8", "via", "10.20.30.1", check=False)
            assert "127.0.0.0/8 drop" in run("nft", "list", "table", "inet", "guesthouse")
            nat.install(made)
            assert asked(world.command(), "198.51.100.1", 8080) == asked([], "127.0.0.1", 8080) == ""
            text = run("nft", "list", "table", "inet", "guesthouse")
            assert "dnat" not in text and "prerouting" not in text
    nat.install(made, targets(made, {}, []))
    nat.remove("gh0")
    assert "chain" not in run("nft", "list", "table", "inet", "guesthouse")


@in_netns
def test_rules_for_ipv6_are_taken_by_the_kernel() -> None:
    made = forwarding("guest='fd00::5' host='80' proto='udp'")
    nat.install(made, targets(made, {}, []))
    text = run("nft", "list", "table", "inet", "guesthouse")
    assert "ip6 daddr != ::1 fib daddr type local udp dport 80 dnat ip6 to fd00::5" in text
