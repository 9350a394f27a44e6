"""guest host bridge in a network namespace with a gateway beside it: made, kept, taken back, and survived."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.namespaces import SYSFS, Namespace, end

INTERFACES = """\
auto lo eth0
iface lo inet loopback
iface eth0 inet static
    address 192.0.2.5/24
    gateway 192.0.2.1
"""
# folders of its own, so that neither the machine's files nor its records are touched
PREPARE = f"""{SYSFS}
mkdir -p /var/lib/guesthouse /etc/network
mount -t tmpfs tmpfs /var/lib/guesthouse; mount -t tmpfs tmpfs /etc/network; mount -t tmpfs tmpfs /run
printf '%s' '{INTERFACES}' >/etc/network/interfaces
"""
GUEST = str(Path(sys.executable).parent / "guest")


class Machine(Namespace):
    """A host with eth0 and its gateway, which lives in another namespace."""

    def __init__(self) -> None:
        super().__init__(PREPARE)
        self.gateway = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE)
        assert self.gateway.stdout is not None
        self.gateway.stdout.readline()
        self.sh(f"ip link add eth0 type veth peer name gw netns {self.gateway.pid}; ip link set eth0 up")
        self.beyond("ip link set gw up; ip addr add 192.0.2.1/24 dev gw; ip addr add 2001:db8::1/64 dev gw nodad")
        self.sh(
            "ip addr add 192.0.2.5/24 dev eth0; ip addr add 2001:db8::5/64 dev eth0 nodad valid_lft 900 preferred_lft 800;"
            "ip route add default via 192.0.2.1 metric 50 src 192.0.2.5; ip -6 route add default via 2001:db8::1;"
            "ip route add 203.0.113.0/24 via 192.0.2.9 table 77"
        )

    def sh(self, text: str) -> str:
        done = self.run("sh", "-euc", text, check=False)
        assert done.returncode == 0, done
        return done.stdout

    def beyond(self, text: str) -> None:
        subprocess.run(["nsenter", "-t", str(self.gateway.pid), "-n", "sh", "-euc", text], check=True)

    def guest(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = self.command([GUEST, "host", "bridge", *words])
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)

    def state(self) -> tuple[set[str], set[str]]:
        """Addresses (with their devices) and routes of both families and the extra table."""
        addresses = json.loads(self.sh("ip -j address show scope global"))
        found = {
            f"{link['ifname']} {a['local']}/{a['prefixlen']}"
            for link in addresses
            for a in link.get("addr_info", [])
            if "local" in a
        }
        routes = self.sh("ip route; ip route show table 77; ip -6 route").splitlines()
        return found, {
            re.sub(r"expires \d+sec", "expires", " ".join(line.split()))
            for line in routes
            if not line.startswith("fe80")
        }

    def close(self) -> None:
        self.gateway.kill()
        self.gateway.wait()
        assert self.gateway.stdout is not None
        self.gateway.stdout.close()
        super().close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


def test_made_used_and_taken_away(machine: Machine) -> None:
    before = machine.state()
    shown = machine.guest("create", "br0", "--port", "eth0", "--dry-run")
    assert shown.returncode == 0 and "+iface br0 inet static" in shown.stdout
    assert machine.state() == before and machine.sh("cat /etc/network/interfaces") == INTERFACES

    made = machine.guest("create", "br0", "--port", "eth0", "--yes")
    assert made.returncode == 0, made.stderr
    assert "the gateway 192.0.2.1, 2001:db8::1 answers on br0" in made.stdout
    addresses, routes = machine.state()
    assert addresses == {text.replace("eth0", "br0") for text in before[0]}
    assert routes == {text.replace("eth0", "br0") for text in before[1]}
    (row,) = json.loads(machine.guest("list", "--json").stdout)
    assert row == {"name": "br0", "ports": ["eth0"], "addresses": ["192.0.2.5/24", "2001:db8::5/64"], "made": "kept"}

    # ifupdown itself makes the same of the file, as at a boot
    machine.sh(
        "ip link del br0; ip addr flush dev eth0; ip link set eth0 down; mkdir -p /run/network /etc/network/if-pre-up.d /etc/network/if-up.d; ifup br0 2>&1"
    )
    assert "br0 192.0.2.5/24" in machine.state()[0]
    machine.sh("ping -c1 -W2 192.0.2.1 || busybox ping -c1 -W2 192.0.2.1")

    machine.sh("ip link add vnet7 type veth peer name x; ip link set vnet7 master br0")
    refused = machine.guest("delete", "br0", "--yes")
    assert refused.returncode == 1 and "vnet7 would lose the network" in refused.stderr
    machine.sh("ip link del vnet7; echo '# mine' >>/etc/network/interfaces")
    refused = machine.guest("delete", "br0", "--yes")
    assert refused.returncode == 1 and "/etc/network/interfaces was changed since" in refused.stderr
    machine.sh("sed -i '$d' /etc/network/interfaces")
    gone = machine.guest("delete", "br0", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "eth0 192.0.2.5/24" in machine.state()[0] and "br0" not in machine.sh("ip link")
    assert machine.sh("cat /etc/network/interfaces") == INTERFACES


def test_taken_back(machine: Machine) -> None:
    """Unconfirmed, with a gateway that is silent, with a guardian that was killed: all is as it was."""
    before = machine.state()

    def as_before() -> None:
        assert machine.state() == before and machine.sh("cat /etc/network/interfaces") == INTERFACES
        assert "br0" not in machine.sh("ip link; ls /var/lib/guesthouse/host-bridges")

    late = machine.guest("create", "br0", "--port", "eth0", "--within", "0.5")
    assert late.returncode == 1 and "nobody confirmed in time" in late.stderr
    as_before()

    # the gateway's own cable is pulled as soon as the bridge is there
    slow = subprocess.Popen(
        machine.command([GUEST, "host", "bridge", "create", "br0", "--port", "eth0", "--within", "30"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert slow.stdout is not None
    while "Within" not in slow.stdout.readline():
        pass
    machine.sh("ip link add eth1 type veth peer name x")
    second = machine.guest("create", "br1", "--port", "eth1", "--temporary", "--yes")
    machine.sh("ip link del eth1")
    assert second.returncode == 1 and "another change of a host bridge is under way" in second.stderr
    assert machine.guest("rollback", "br0").returncode == 0
    assert slow.wait(20) == 1
    slow.stdout.close()
    as_before()

    machine.beyond("ip addr flush dev gw")
    machine.sh("ip neigh flush all")
    silent = machine.guest(
        "create",
        "br0",
        "--port",
        "eth0",
        "--address",
        "192.0.2.7/24",
        "--gateway",
        "192.0.2.1",
        "--yes",
        "--within",
        "1",
    )
    assert silent.returncode == 1 and "the gateway 192.0.2.1 does not answer on br0" in silent.stderr
    as_before()


def test_the_guardian_outlives_its_terminal_and_a_successor_outlives_it(machine: Machine) -> None:
    before = machine.state()

    def tried() -> tuple[subprocess.Popen[str], int]:
        command = subprocess.Popen(
            machine.command([GUEST, "host", "bridge", "create", "br0", "--port", "eth0", "--within", "60"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert command.stdout is not None
        while "Within" not in command.stdout.readline():
            pass
        record = json.loads(machine.sh("cat /var/lib/guesthouse/host-bridges/br0.json"))
        command.kill()
        command.wait()
        command.stdout.close()
        return command, record["guardian"]

    _, guardian = tried()
    end(guardian, signal.SIGKILL)
    listed = machine.guest("list")
    assert "br0: its guardian was killed; the change is taken back" in listed.stdout
    assert machine.state() == before

    _, guardian = tried()
    os.kill(guardian, signal.SIGHUP)
    assert machine.guest("confirm", "br0").returncode == 0
    deadline = time.monotonic() + 20
    while "kept" not in machine.guest("list").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "iface br0 inet static" in machine.sh("cat /etc/network/interfaces")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["br0", "--port", "eth9"], "there is no network device eth9; there are: eth0"),
        (["br0", "--port", "lo"], "lo cannot be a port of a bridge"),
        (["a/b", "--port", "eth0"], "'a/b' cannot be the name of a bridge"),
        (["br0", "--port", "eth0", "--address", "192.0.2.9"], "'192.0.2.9' lacks its prefix length"),
        (["br0", "--port", "eth0", "--address", "nonsense/24"], "'nonsense/24' is not an address"),
        (["br0", "--port", "eth0", "--address", "192.0.2.9/24", "--gateway", "198.51.100.1"], "is on no network of"),
        (["br0", "--port", "eth0", "--gateway", "192.0.2.1"], "--gateway and --dns go with --address"),
    ],
)
def test_refused_before_anything_is_touched(machine: Machine, words: list[str], text: str) -> None:
    before = machine.state()
    refused = machine.guest("create", *words, "--yes")
    assert refused.returncode == 1 and text in refused.stderr
    assert machine.state() == before
