"""Where the forwarded ports of a network lead: who a guest is now, by its name, MAC or address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from guesthouse.model import port_forward
from guesthouse.model.network import IPAddress, Network
from guesthouse.network.dnsmasq import LeaseEntry
from guesthouse.network.nat import Target


def targets(network: Network, macs: dict[str, list[str]], leases: Sequence[LeaseEntry]) -> list[Target]:
    """The forwards that lead somewhere: one whose guest has no address yet does not. ``macs`` are those of the guests
    that are plugged in, by name. Raises what :func:`guesthouse.model.port_forward.of` does."""
    found: list[Target] = []
    for forward in port_forward.of(network):
        for address in _addresses(network, forward.guest, macs, leases):
            found.append(Target(forward, address))
    return found


def _addresses(
    network: Network, guest: str, macs: dict[str, list[str]], leases: Sequence[LeaseEntry]
) -> list[IPAddress]:
    """At most one of each family."""
    try:
        return [ipaddress.ip_address(guest)]
    except ValueError:
        pass
    name = guest.lower()
    cards = [name] if name.count(":") == 5 else [mac.lower() for mac in macs.get(guest, [])]
    fixed = [host for ip in network.ips if ip.dhcp for host in ip.dhcp.hosts]
    # a lease is newer knowledge than a fixed address, the guest's own cards better than a name that it told
    ways: tuple[Iterable[str | None], ...] = (
        (lease.address for lease in leases if lease.mac in cards),
        (host.ip for host in fixed if (host.mac or "").lower() in cards),
        (lease.address for lease in leases if (lease.hostname or "").lower() == name),
        (host.ip for host in fixed if (host.name or "").lower() == name),
    )
    by_family: dict[int, IPAddress] = {}
    for way in ways:
        for text in way:
            if text:
                address = ipaddress.ip_address(text)
                by_family.setdefault(address.version, address)
    return list(by_family.values())
