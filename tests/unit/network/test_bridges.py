from __future__ import annotations

import errno
from pathlib import Path

import pytest

from guesthouse.errors import InternalError, SystemFailure
from guesthouse.network import bridges
from guesthouse.network.netlink import Netlink
from support.netns import in_netns, run
from support.networks import document, network

MAC = "52:54:00:0a:0b:0c"


@in_netns
def test_created_as_defined() -> None:
    made = document(
        "<bridge name='gh0' stp='on' delay='4'/><mtu size='1400'/>",
        f"<mac address='{MAC}'/>",
        "<ip address='10.1.2.1' prefix='24'/><ip family='ipv6' address='fd00::1' prefix='64'/>",
        "<route address='10.7.0.0' prefix='16' gateway='10.1.2.9'/>",
    )
    bridges.create(made)
    shown = run("ip", "-d", "address", "show", "gh0")
    for part in (MAC, "mtu 1400", "forward_delay 400", "stp_state 1", "10.1.2.1/24", "fd00::1/64", ",UP"):
        assert part in shown
    assert "tentative" not in shown
    assert "10.7.0.0/16 via 10.1.2.9 dev gh0" in run("ip", "route")
    conf = Path("/proc/sys/net/ipv6/conf/gh0")
    assert [(conf / n).read_text().strip() for n in ("disable_ipv6", "accept_ra", "autoconf")] == ["0", "0", "0"]
    bridges.delete("gh0", MAC)
    assert not bridges.exists("gh0")


@in_netns
def test_no_ipv6_address_no_ipv6() -> None:
    bridges.create(network())
    assert Path("/proc/sys/net/ipv6/conf/gh0/disable_ipv6").read_text() == "1\n"
    assert "inet6" not in run("ip", "address", "show", "gh0")


@in_netns
def test_a_name_that_is_taken() -> None:
    run("ip", "link", "add", "gh0", "type", "bridge")
    with pytest.raises(SystemFailure, match="error creating bridge interface gh0: File exists") as caught:
        bridges.create(network())
    assert caught.value.int1 == errno.EEXIST
    # another's bridge of that name is neither found nor deleted
    assert bridges.find("gh0", MAC) is None
    bridges.delete("gh0", MAC)
    assert bridges.exists("gh0")


@in_netns
def test_an_address_that_cannot_be_given_leaves_no_bridge() -> None:
    twice = document(
        "<bridge name='gh0'/>", "<ip address='10.1.2.1' prefix='24'/>", "<ip address='10.1.2.1' prefix='24'/>"
    )
    with pytest.raises(SystemFailure, match=r"Failed to add IP address 10\.1\.2\.1/24 to gh0: File exists"):
        bridges.create(twice)
    assert not bridges.exists("gh0")


@in_netns
def test_forwarding_is_turned_on_for_the_families_in_use() -> None:
    v4, v6 = Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/ipv6/conf/all/forwarding")
    v4.write_text("0")
    bridges.enable_forwarding(network("<forward/>"))
    assert (v4.read_text(), v6.read_text()) == ("1\n", "0\n")
    bridges.enable_forwarding(document("<forward mode='route'/><ip family='ipv6' address='fd00::1' prefix='64'/>"))
    assert v6.read_text() == "1\n"


@in_netns
def test_ipv6_forwarding_must_not_cost_the_host_its_routes() -> None:
    run("ip", "link", "add", "up0", "type", "bridge")
    run("ip", "link", "set", "up0", "up")
    run("ip", "-6", "route", "add", "fd77::/64", "dev", "up0", "proto", "ra")
    routed = document("<forward mode='route'/><ip family='ipv6' address='fd00::1' prefix='64'/>")
    with pytest.raises(InternalError, match="up0 has kernel autoconfigured IPv6 routes"):
        bridges.enable_forwarding(routed)
    Path("/proc/sys/net/ipv6/conf/up0/accept_ra").write_text("2")
    bridges.enable_forwarding(routed)


@in_netns
def test_find_knows_by_mac() -> None:
    bridges.create(network())
    with Netlink() as netlink:
        assert bridges.find("gh0", MAC) == netlink.link("gh0")
    assert bridges.find("gh0", "52:54:00:00:00:00") is None
