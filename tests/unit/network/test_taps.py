from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from guesthouse.errors import InvalidArg, SystemFailure
from guesthouse.network.netlink import Netlink
from guesthouse.network.taps import create_tap, exists, set_link_state, tap_mac
from support.netns import in_netns, run

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
