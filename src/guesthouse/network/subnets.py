"""Which IPv4 subnets are in use on this host, and which one the default network may have."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from guesthouse.errors import Domain, InternalError, OperationFailed
from guesthouse.model.network import Network
from guesthouse.network.netlink import IPNetwork, Netlink

#: 192.168.122.0/24 first, then the next ones: libvirt's own range for its default network.
_CANDIDATES = range(122, 255)


def in_use() -> list[tuple[IPNetwork, str]]:
    """The subnets that host addresses and routes (but default ones) occupy, with the device's name."""
    with Netlink() as netlink:
        names = {link.index: link.name for link in netlink.links()}
        found = [(route.destination, names.get(route.device, "")) for route in netlink.routes()]
        found += [(address.network, names.get(device, "")) for device, address in netlink.addresses()]
    return [(network, name) for network, name in found if network.prefixlen]


def pick_default(taken: Iterable[IPNetwork]) -> ipaddress.IPv4Network:
    """The first of 192.168.122.0/24 ... 192.168.254.0/24 that overlaps none of ``taken``.

    Raises OperationFailed where there is none.
    """
    busy = [network for network in taken if isinstance(network, ipaddress.IPv4Network)]
    for third in _CANDIDATES:
        candidate = ipaddress.IPv4Network(f"192.168.{third}.0/24")
        if not any(candidate.overlaps(network) for network in busy):
            return candidate
    raise OperationFailed(
        "no subnet from 192.168.122.0/24 to 192.168.254.0/24 is free for the default network; "
        "define one with another subnet: virsh net-define FILE",
        domain=Domain.NETWORK,
    )


def check_collision(network: Network) -> None:
    """Raise InternalError where an IPv4 address or route of ``network`` is one that the host has a route for.

    As libvirt 9.0 does, this compares whole subnets: a wider route (a default route, a VPN's 10.0.0.0/8) is fine.
    """
    own = {ip.interface.network for ip in network.ips_of(4)}
    routes = {r.destination for r in network.routes if r.destination.version == 4}
    with Netlink() as netlink:
        names = {link.index: link.name for link in netlink.links()}
        for route in netlink.routes():
            device = names.get(route.device, "")
            if route.destination in own:
                raise InternalError(f"Network is already in use by interface {device}", domain=Domain.NETWORK)
            if route.destination in routes:
                address = route.destination.network_address
                text = f"Route address '{address}' conflicts with IP address for '{device}'"
                raise InternalError(text, domain=Domain.NETWORK)
