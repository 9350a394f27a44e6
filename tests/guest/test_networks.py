"""Networks as guests see them: two real guests, and a server on the other side of the host."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client
from guesthouse.model import port_forward
from support import media_kernel, namespaces
from support.guesthoused import Guesthoused

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NETWORKS = {
    "lab": "<forward mode='nat'/><bridge name='lab0' stp='off'/><mtu size='1400'/><domain name='lab.test' localOnly='yes'/>"
    "<dns><host ip='192.0.2.7'><hostname>seven.test</hostname></host></dns>"
    "<bandwidth><inbound average='300'/></bandwidth>"
    "<ip address='10.40.1.1' prefix='24'><dhcp><range start='10.40.1.100' end='10.40.1.120'/>"
    "<host mac='52:54:00:40:01:01' name='one' ip='10.40.1.11'/>"
    "<host mac='52:54:00:40:01:02' name='two' ip='10.40.1.12'/></dhcp></ip>"
    "<ip family='ipv6' address='fd40:1::1' prefix='64'/>",
    "iso": "<bridge name='iso0' stp='off'/><ip address='10.40.2.1' prefix='24'/>",
    "way": "<forward mode='route'/><bridge name='way0' stp='off'/><ip address='10.40.3.1' prefix='24'/>",
    "part": "<forward mode='bridge'><interface dev='lower'/></forward>",
}
GUEST = """\
<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>128</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
  <cmdline>console=ttyS0 quiet</cmdline></os><features><acpi/></features>
  <devices>{cards}<serial type='pty'/></devices>
</domain>
"""
OPEN = "import sys, urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=2).read())"
FETCH = (sys.executable, "-c", OPEN)
CARD = "<interface type='network'><mac address='52:54:00:40:0{net}:0{number}'/><source network='{name}'/><model type='virtio'/></interface>"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guesthoused]:
    guesthoused = Guesthoused(namespaces.reachable(tmp_path_factory.mktemp("networks")) / "root")
    yield guesthoused
    guesthoused.close()


class Guest:
    """A started guest with a shell on its console."""

    def __init__(self, conn: client.Connect, name: str, number: int, networks: str) -> None:
        kernel, initrd = media_kernel.kernel_and_initrd()
        places = {name: place for place, name in enumerate(NETWORKS, 1)}
        cards = "".join(CARD.format(net=places[net], number=number, name=net) for net in networks.split())
        self.domain = conn.create_xml(GUEST.format(name=name, kernel=kernel, initrd=initrd, cards=cards))
        self.console = self.domain.open_console()
        self.shown = b""

    def until(self, pattern: str, seconds: float = 30) -> re.Match[bytes]:
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern.encode(), self.shown, re.S | re.M)):
            assert time.monotonic() < deadline, self.shown[-1500:]
            self.shown += self.console.recv(4096) or b""
        self.shown = self.shown[match.end() :]
        return match

    def says(self, command: str, seconds: float = 30) -> str:
        """What the guest's shell prints for ``command``, then its exit code."""
        self.console.send(f"{command}; echo =$?=\r".encode())
        return self.until(r"\r\n(.*?)=\d+=\r", seconds)[0].decode(errors="replace")

    def succeeds(self, command: str, seconds: float = 30) -> str:
        said = self.says(command, seconds)
        assert "=0=" in said, said
        return said


class World:
    """Another machine, beside the daemon's host: ``near`` is the host's end."""

    def __init__(self, daemon: Guesthoused, near: str, host: str, address: str) -> None:
        self._daemon = daemon
        log = daemon.root / f"{near}.out"
        self.pid = daemon.ns.spawn(["unshare", "-n", "sh", "-c", "echo up; exec sleep 300"], log)
        while not (log.exists() and "up" in log.read_text()):
            time.sleep(0.01)
        run = daemon.ns.run
        run("ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        run("ip", "link", "set", near, "up")
        if host:
            run("ip", "address", "add", host, "dev", near)
        for words in ("link set lo up", "link set eth0 up", f"address add {address} dev eth0"):
            self.run("ip", *words.split())

    def run(self, *argv: str, check: bool = True) -> str:
        return self._daemon.ns.run("nsenter", "-t", str(self.pid), "-n", *argv, check=check).stdout

    def serve(self, folder: Path) -> None:
        self.run("busybox", "httpd", "-h", str(folder))

    def close(self) -> None:
        for word in self.run("sh", "-c", "pidof busybox || true").split():
            if f"net:[{self._inode()}]" == str(Path(f"/proc/{word}/ns/net").readlink()):
                namespaces.end(int(word))
        namespaces.end(self.pid)

    def _inode(self) -> str:
        return str(Path(f"/proc/{self.pid}/ns/net").readlink())[5:-1]


@pytest.fixture
def world(daemon: Guesthoused) -> Iterator[World]:
    made = World(daemon, "up0", "198.51.100.1/24", "198.51.100.2/24")
    yield made
    made.close()


@pytest.fixture
def lan(daemon: Guesthoused) -> Iterator[World]:
    made = World(daemon, "lower", "", "10.40.9.1/24")
    yield made
    made.close()


def test_two_guests_and_the_world(daemon: Guesthoused, world: World, lan: World, tmp_path: Path) -> None:
    folder = namespaces.reachable(tmp_path)
    (folder / "big").write_bytes(bytes(900_000))
    (folder / "index.html").write_text("the world\n")
    world.serve(folder)
    world.run("ip", "route", "add", "10.40.3.0/24", "via", "198.51.100.1")
    with client.connect(daemon.uri) as conn:
        for name, text in NETWORKS.items():
            conn.network_create_xml(f"<network><name>{name}</name>{text}</network>")
        one, two = Guest(conn, "one", 1, "lab way part"), Guest(conn, "two", 2, "lab iso part")
        for guest in (one, two):
            guest.until(r"guest ready\r", 120)
        _leases_and_names(conn, one, two)
        _ways_out(one, two, world)
        _pool(conn, one, two, lan)
        _forwards(daemon, conn, two, world)
        for guest in (one, two):
            guest.domain.destroy()
        assert "macvtap" not in daemon.ns.run("ip", "link").stdout
        for name in NETWORKS:
            conn.network_lookup_by_name(name).destroy()
    left = daemon.ns.run("sh", "-c", "ip -o link; nft list ruleset").stdout
    assert not re.search(r"lab0|iso0|way0|dnat", left), left


def _leases_and_names(conn: client.Connect, one: Guest, two: Guest) -> None:
    assert "10.40.1.11/24" in one.succeeds("ip -4 address show dev eth0")
    assert "10.40.1.12/24" in two.succeeds("ip -4 address show dev eth0")
    one.succeeds("ping -c 1 -W 2 two && ping -c 1 -W 2 two.lab.test")
    two.succeeds("ping -c 1 -W 2 one.lab.test && nslookup -type=a seven.test | grep 192.0.2.7")
    # the router's advertisement alone gives an address of the other family
    for guest in (one, two):
        guest.succeeds("for i in $(seq 60); do ip -6 address show dev eth0 | grep fd40:1: && break; sleep 0.2; done")
    one.succeeds("ping -6 -c 1 -W 2 fd40:1::1")
    for source in (0, 2):  # lease, arp
        (card, *_) = one.domain.interface_addresses(source)
        assert [a.addr for a in card.addrs if ":" not in a.addr] == ["10.40.1.11"], source
    tap = card.name
    assert tap.startswith("vnet")
    leases = conn.network_lookup_by_name("lab").conn.call(
        "network_get_dhcp_leases", net=conn.network_lookup_by_name("lab"), mac=None, need_results=1, flags=0
    )
    assert {lease.ipaddr for lease in leases.leases} == {"10.40.1.11", "10.40.1.12"}


def _ways_out(one: Guest, two: Guest, world: World) -> None:
    assert "the world" in one.succeeds("wget -qO- http://198.51.100.2/")
    # 900 KB through 300 KB a second, with some in the queue's bucket
    said = two.succeeds("time wget -qO /tmp/big http://198.51.100.2/big", 60)
    took = re.search(r"real\s+(\d+)m ?(\d+\.\d+)s", said)
    assert took is not None and 2 < int(took[1]) * 60 + float(took[2]) < 15, said
    # the routed network's guest comes with its own address, and is reached by it; the isolated one's is not
    one.succeeds("ip link set eth1 up && ip address add 10.40.3.11/24 dev eth1")
    two.succeeds("ip link set eth1 up && ip address add 10.40.2.12/24 dev eth1")
    one.succeeds("ip route replace 198.51.100.0/24 via 10.40.3.1 && ping -c 1 -W 2 198.51.100.2")
    assert "bytes from" in world.run("busybox", "ping", "-c", "1", "-W", "2", "10.40.3.11", check=False)
    two.succeeds("ping -c 1 -W 2 10.40.2.1")
    two.succeeds("ip route replace 198.51.100.0/24 via 10.40.2.1")
    assert "=0=" not in two.says("ping -c 1 -W 2 198.51.100.2")
    two.succeeds("ip route del 198.51.100.0/24")
    assert "=0=" not in two.says("ping -c 1 -W 2 -I eth1 10.40.3.11")


def _pool(conn: client.Connect, one: Guest, two: Guest, lan: World) -> None:
    for guest, address in ((one, "10.40.9.11"), (two, "10.40.9.12")):
        guest.succeeds(f"ip link set eth2 up && ip address add {address}/24 dev eth2")
        guest.succeeds("ping -c 1 -W 2 10.40.9.1")
    one.succeeds("ping -c 1 -W 2 10.40.9.12")
    assert "bytes from" in lan.run("busybox", "ping", "-c", "1", "-W", "2", "10.40.9.11", check=False)
    network = conn.network_lookup_by_name("part").get_xml_desc()
    assert "<interface dev='lower' connections='2'/>" in network and "<network connections='2'>" in network
    live = one.domain.get_xml_desc()
    assert re.search(
        r"<interface type='direct'>.*<source network='part' portid='\S+' dev='lower' mode='bridge'/>", live, re.S
    )


def _forwards(daemon: Guesthoused, conn: client.Connect, two: Guest, world: World) -> None:
    two.succeeds("mkdir /www && echo from two >/www/index.html && httpd -h /www")
    network = conn.network_lookup_by_name("lab")
    text = "<forwards><portForward host='8080' guest='two' port='80'/></forwards>"
    network.set_metadata(2, text, "guesthouse", port_forward.NAMESPACE, 1)

    def fetched() -> bool:
        return "from two" in world.run(*FETCH, "http://198.51.100.1:8080/", check=False)

    assert fetched()
    assert "from two" in daemon.ns.run(*FETCH, "http://127.0.0.1:8080/").stdout
    # it has another address; the port goes with it
    host = "<host mac='52:54:00:40:01:02' name='two' ip='10.40.1.77'/>"
    daemon.ours("net-update", "lab", "modify", "ip-dhcp-host", host, "--live")
    two.succeeds("kill $(pidof udhcpc); ip address flush dev eth0; udhcpc -i eth0 -s /bin/lease -n -q -t 9 -T 1")
    until = time.monotonic() + 10
    while not fetched():
        assert time.monotonic() < until, daemon.ns.run("nft", "list", "ruleset").stdout
    assert "dnat ip to 10.40.1.77:80" in daemon.ns.run("nft", "list", "ruleset").stdout
    daemon.ns.run("nft", "flush", "ruleset")
    until = time.monotonic() + 10
    while "dnat" not in daemon.ns.run("nft", "list", "ruleset").stdout:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert fetched()
    link = json.loads(daemon.ns.run("ip", "-j", "link", "show", "master", "lab0").stdout)
    assert {card["mtu"] for card in link} == {1400}
    network.set_metadata(2, None, "guesthouse", port_forward.NAMESPACE, 1)
    assert not fetched()
