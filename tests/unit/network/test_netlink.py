from __future__ import annotations

import errno
import ipaddress

import pytest

from guesthouse.network.netlink import Netlink
from support.netns import in_netns, run


def test_absent_links_are_none() -> None:
    with Netlink() as netlink:
        assert netlink.link("no-such-device") is None
        assert netlink.link("a-name-that-no-device-may-have") is None
        assert netlink.link("") is None


@in_netns
def test_bridge_as_the_kernel_sees_it() -> None:
    with Netlink() as netlink:
        netlink.create_bridge("gh0", mac="52:54:00:11:22:33", mtu=1400, stp=True, delay=3)
        link = netlink.link("gh0")
        assert link is not None
        assert (link.kind, link.mac, link.mtu, link.up, link.master) == ("bridge", "52:54:00:11:22:33", 1400, False, 0)
        shown = run("ip", "-d", "link", "show", "gh0")
        assert "forward_delay 300 " in shown and "stp_state 1" in shown
        netlink.set_link(link.index, up=True)
        netlink.add_address(link.index, ipaddress.ip_interface("10.1.2.3/20"))
        netlink.add_address(link.index, ipaddress.ip_interface("fd00::1/64"))
        assert {str(a) for i, a in netlink.addresses() if i == link.index} >= {"10.1.2.3/20", "fd00::1/64"}
        assert "brd 10.1.15.255" in run("ip", "address", "show", "gh0")
        network = ipaddress.ip_network("10.9.0.0/16")
        netlink.add_route(link.index, network, ipaddress.ip_address("10.1.2.9"), 7)
        assert "10.9.0.0/16 via 10.1.2.9 dev gh0 proto static metric 7" in run("ip", "route")
        assert network in {route.destination for route in netlink.routes()}
        assert {"lo", "gh0"} <= {other.name for other in netlink.links()}
        netlink.delete_link(link.index)
        assert netlink.link("gh0") is None


@in_netns
def test_errors_are_the_kernels() -> None:
    with Netlink() as netlink:
        with pytest.raises(OSError) as caught:
            netlink.delete_link(4711)
        assert caught.value.errno == errno.ENODEV
        with pytest.raises(OSError) as caught:
            netlink.create_bridge("lo", mac="52:54:00:11:22:33", mtu=None, stp=False, delay=0)
        assert caught.value.errno == errno.EEXIST
        # and the socket goes on
        assert netlink.link("lo") is not None
