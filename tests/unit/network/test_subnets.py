from __future__ import annotations

import ipaddress

import pytest

from guesthouse.errors import InternalError, OperationFailed
from guesthouse.network import subnets
from support.netns import in_netns, run
from support.networks import document, network


def nets(*texts: str) -> list[subnets.IPNetwork]:
    return [ipaddress.ip_network(text) for text in texts]


def test_the_default_subnet_is_libvirts_or_the_next_free_one() -> None:
    assert str(subnets.pick_default([])) == "192.168.122.0/24"
    assert str(subnets.pick_default(nets("192.168.122.0/24"))) == "192.168.123.0/24"
    assert str(subnets.pick_default(nets("192.168.122.64/26", "192.168.123.7/32", "fd00::/64"))) == "192.168.124.0/24"
    assert str(subnets.pick_default(nets("192.168.112.0/20"))) == "192.168.128.0/24"
    assert (
        str(subnets.pick_default(nets("192.168.122.0/23", "192.168.124.0/22", "192.168.128.0/18")))
        == "192.168.192.0/24"
    )


def test_no_subnet_is_free() -> None:
    with pytest.raises(OperationFailed, match="no subnet"):
        subnets.pick_default(nets("192.168.0.0/16"))


@in_netns
def test_in_use_counts_addresses_and_routes_but_no_default_route() -> None:
    run("ip", "link", "add", "up0", "type", "bridge")
    run("ip", "address", "add", "192.168.122.5/24", "dev", "up0")
    found = {str(n) for n, _ in subnets.in_use()}
    assert "192.168.122.0/24" in found, "the address of a device that is down counts"
    run("ip", "link", "set", "up0", "up")
    run("ip", "route", "add", "192.168.123.0/24", "via", "192.168.122.9")
    run("ip", "route", "add", "default", "via", "192.168.122.9")
    used = subnets.in_use()
    assert ("192.168.123.0/24", "up0") in {(str(n), d) for n, d in used}
    assert str(subnets.pick_default(n for n, _ in used)) == "192.168.124.0/24"


@in_netns
def test_collision_is_with_the_very_subnet() -> None:
    run("ip", "link", "add", "up0", "type", "bridge")
    run("ip", "link", "set", "up0", "up")
    run("ip", "route", "add", "10.20.0.0/16", "dev", "up0")
    subnets.check_collision(network())
    run("ip", "address", "add", "10.20.30.77/24", "dev", "up0")
    with pytest.raises(InternalError, match="Network is already in use by interface up0"):
        subnets.check_collision(network())
    routed = document(
        "<ip address='10.1.2.1' prefix='24'/>", "<route address='10.20.0.0' prefix='16' gateway='10.1.2.9'/>"
    )
    with pytest.raises(InternalError, match=r"Route address '10\.20\.0\.0' conflicts with IP address for 'up0'"):
        subnets.check_collision(routed)
