from __future__ import annotations

import errno
import os
import select
import time
from pathlib import Path

import pytest

from guesthouse.errors import InvalidArg, SystemFailure
from guesthouse.network import bridges
from guesthouse.network.netlink import Netlink
from guesthouse.network.taps import create_tap, exists, set_link_state, tap_mac
from support.netns import in_netns, run
from support.networks import document

MAC = "52:54:00:aa:bb:cc"


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def make_bridge(mtu: int = 1500) -> None:
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "set", "br0", "mtu", str(mtu), "up")


def test_tap_mac() -> None:
    assert tap_mac("52:54:00:aa:bb:cc") == "fe:54:00:aa:bb:cc"
    assert tap_mac("fe:54:00:aa:bb:cc") == "fa:54:00:aa:bb:cc"


@in_netns
def test_tap_is_an_up_port_of_its_bridge_and_goes_with_its_descriptor() -> None:
    make_bridge(mtu=1400)
    first, second = create_tap("br0", MAC), create_tap("br0", MAC)
    assert (first.name, second.name) == ("vnet0", "vnet1")
    with Netlink() as netlink:
        link, bridge = netlink.link("vnet0"), netlink.link("br0")
    assert link is not None and bridge is not None
    assert (link.mac, link.mtu, link.up, link.master) == ("fe:54:00:aa:bb:cc", 1400, True, bridge.index)
    details = run("ip", "-d", "link", "show", "vnet0")
    assert "pi off vnet_hdr on persist off" in details and "isolated off" in details
    assert not os.get_inheritable(first.fds[0])
    first.close()
    assert not exists("vnet0") and exists("vnet1")
    second.close()
    second.close()


@in_netns
def test_a_fixed_port_gets_what_is_for_its_guest_alone() -> None:
    made = document("<bridge name='br0' stp='off' macTableManager='libvirt'/><ip address='10.9.9.1' prefix='24'/>")
    bridges.create(made)
    macs = [f"52:54:00:00:00:0{number}" for number in (1, 2, 3)]
    all_taps = [create_tap("br0", mac, vnet_hdr=False, fixed=True) for mac in macs]
    first, second, third = (tap.fds[0] for tap in all_taps)

    def sent(target: str, source: str = macs[0]) -> list[bool]:
        """Who sees a frame from the first guest: the second, the third."""
        head = bytes.fromhex(target.replace(":", "") + source.replace(":", "") + "88b5")
        mark = os.urandom(8)
        os.write(first, head + mark + bytes(46))
        seen = []
        for fd in (second, third):
            found, deadline = False, time.monotonic() + 0.1
            while not found and time.monotonic() < deadline:
                if select.select([fd], [], [], 0.02)[0]:
                    found = mark in os.read(fd, 2048)
            seen.append(found)
        return seen

    assert sent(macs[1]) == [True, False] and sent("ff:ff:ff:ff:ff:ff") == [True, True]
    assert sent("52:54:00:00:00:09") == [False, False]
    # who lies about its address is not believed: what is for the third guest still goes there
    assert sent(macs[1], source=macs[2]) == [True, False] and sent(macs[2]) == [False, True]
    assert "learning off flood off" in run("ip", "-d", "link", "show", "vnet0")
    for tap in all_taps:
        tap.close()


@in_netns
def test_options() -> None:
    make_bridge()
    tap = create_tap("br0", MAC, name="tap-x", queues=3, mtu=1300, vnet_hdr=False, isolated=True, up=False)
    details = run("ip", "-d", "link", "show", "tap-x")
    assert len(tap.fds) == 3 and "mtu 1300" in details and "state DOWN" in details
    assert "multi_queue" in details and "vnet_hdr off" in details and "isolated on" in details
    set_link_state("tap-x", True)
    assert ",UP" in run("ip", "link", "show", "tap-x")
    tap.close()
    with pytest.raises(SystemFailure):
        set_link_state("tap-x", True)


@in_netns
def test_failures_are_libvirts_and_leave_nothing() -> None:
    make_bridge()
    before = open_fds()
    with pytest.raises(SystemFailure, match=r"^Cannot get interface MTU on 'br9': No such device") as caught:
        create_tap("br9", MAC)
    assert (caught.value.number, caught.value.int1) == (38, errno.ENODEV)
    with pytest.raises(InvalidArg, match="'lo' is not a bridge"):
        create_tap("lo", MAC)
    with pytest.raises(SystemFailure, match="too long"):
        create_tap("br0", MAC, name="a-name-of-17-char")
    with pytest.raises(SystemFailure, match="Unable to create tap device br0: Invalid argument"):
        create_tap("br0", MAC, name="br0")
    with pytest.raises(SystemFailure, match="Unable to add bridge br0 port vnet0"):
        create_tap("br0", MAC, mtu=17)
    assert not exists("vnet0")
    assert open_fds() == before
    assert not list(Path("/sys/class/net").glob("vnet*"))
