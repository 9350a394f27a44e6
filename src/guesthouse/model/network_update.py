"""Changing one element of a network's document, as libvirt 9.0's net-update does: what may be added, changed and
removed, what counts as the same element, and what is said about it. Pure: :func:`apply` makes a document of a document."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from guesthouse.errors import Domain, OperationInvalid, OperationUnsupported, XMLDetail, XMLError
from guesthouse.model import network_rules as rules
from guesthouse.model.fields import Element, parse_document
from guesthouse.model.network import (
    Dhcp,
    DhcpHost,
    DhcpRange,
    Dns,
    DnsHost,
    DnsSrv,
    DnsTxt,
    ForwardInterface,
    Ip,
    Network,
    PortGroup,
)

# virNetworkUpdateCommand and virNetworkUpdateSection
MODIFY, DELETE, ADD_LAST, ADD_FIRST = 1, 2, 3, 4
SECTIONS = (
    *("none", "bridge", "domain", "ip", "ip-dhcp-host", "ip-dhcp-range", "forward", "forward-interface"),
    *("forward-pf", "portgroup", "dns-host", "dns-txt", "dns-srv"),
)
#: Sections that libvirt knows and changes nothing in, as its messages call them.
_FIXED = {"bridge": "bridge", "domain": "domain", "ip": "ip", "forward": "forward", "forward-pf": "forward pf"}

E = TypeVar("E", bound=Element)


def _invalid(text: str) -> OperationInvalid:
    return OperationInvalid(text, domain=Domain.NETWORK)


def _unsupported(text: str) -> OperationUnsupported:
    return OperationUnsupported(text, domain=Domain.NETWORK)


def apply(network: Network, command: int, section: int, parent: int, xml: str) -> Network:
    """``network`` with one element changed. ``parent`` is the index of the <ip> that is meant, -1 for any.

    Raises libvirt's errors, for what the whole would then be, too.
    """
    name = SECTIONS[section] if 0 < section < len(SECTIONS) else "none"
    if name == "none":
        raise _unsupported("can't update unrecognized section of network")
    if name in _FIXED:
        raise _unsupported(f"can't update '{_FIXED[name]}' section of network '{network.name}'")
    changed = network.copy()
    _HANDLERS[name](changed, command, parent, xml)
    return rules.parse(changed.to_xml())


def _read(kind: type[E], xml: str, network: Network) -> E:
    try:
        node = parse_document(xml, "network_update_xml")
    except XMLDetail as error:
        raise XMLDetail(error.detail, domain=Domain.NETWORK) from error
    if node.tag != kind.TAG:
        text = f"unexpected element <{node.tag}>, expecting <{kind.TAG}>, while updating network '{network.name}'"
        raise XMLError(text, domain=Domain.NETWORK)
    return kind.parse(node)


def _edit(items: list[E], item: E, command: int, same: list[E], missing: str, double: str, many: str = "") -> None:
    """Add or delete; ``same`` are those that count as the item."""
    if command in (ADD_FIRST, ADD_LAST):
        if same:
            raise _invalid(double)
        items.insert(0 if command == ADD_FIRST else len(items), item)
    elif command == DELETE:
        if not same:
            raise _invalid(missing)
        if len(same) > 1 and many:
            raise _invalid(many)
        # the very object: equal ones may stand beside it
        del items[next(i for i, other in enumerate(items) if other is same[0])]
    else:
        raise _unsupported(f"unrecognized network update command code {command}")


def _ip(network: Network, parent: int) -> Ip:
    """The <ip> that is meant: the one at an index, the one that has DHCP, the first that could."""
    found = network.ips[parent : parent + 1] if parent >= 0 else [ip for ip in network.ips if ip.serves_dhcp]
    if parent < 0:
        found += [*network.ips_of(4), *network.ips_of(6)]
    if not found:
        where = f"at index {parent} in" if parent >= 0 else "in"
        text = f"couldn't update dhcp host entry - no <ip> element found {where} network '{network.name}'"
        raise _invalid(text)
    return found[0]


def _resemble(one: DhcpHost, other: DhcpHost) -> bool:
    """Whether two fixed addresses have anything in common."""
    pairs = ((one.mac, other.mac), (one.name, other.name), (one.ip, other.ip))
    return any(mine is not None and mine == theirs for mine, theirs in pairs)


def _covers(wanted: DhcpHost, host: DhcpHost) -> bool:
    """Whether all that ``wanted`` names is so of ``host``; one without a MAC may have any."""
    mac = wanted.mac is None or host.mac in (None, wanted.mac)
    return mac and wanted.name in (None, host.name) and wanted.ip in (None, host.ip)


def _dhcp_host(network: Network, command: int, parent: int, xml: str) -> None:
    host = _read(DhcpHost, xml, network)
    ip = _ip(network, parent)
    rules.check_dhcp_host(host, ip.version, network.name or "", partial=command == DELETE)
    if host.ip and ip.version != (6 if ":" in host.ip else 4):
        raise _invalid(
            "the address family of a host entry IP must match the address family of the dhcp element's parent"
        )
    ip.dhcp = dhcp = ip.dhcp or Dhcp()
    name = host.name or "(null)"
    if command == MODIFY:
        place = next((i for i, other in enumerate(dhcp.hosts) if _resemble(host, other)), None)
        if place is not None:
            dhcp.hosts[place] = host
            return
        words = f"\"mac='{host.mac or 'unknown'}'\" \"name='{name}'\" \"ip='{host.ip}'\""
        raise _invalid(f"couldn't locate an existing dhcp host entry with {words} in network '{network.name}'")
    if command == DELETE:
        same = [h for h in dhcp.hosts if _covers(host, h)]
    else:
        same = [h for h in dhcp.hosts if _resemble(host, h)]
    words = f"<host mac='{host.mac or 'unknown'}' name='{name}' ip='{host.ip or 'unknown'}'/>"
    _edit(
        dhcp.hosts,
        host,
        command,
        same,
        f"couldn't locate a matching dhcp host entry in network '{network.name}'",
        f"there is an existing dhcp host entry in network '{network.name}' that matches \"{words}\"",
    )


def _dhcp_range(network: Network, command: int, parent: int, xml: str) -> None:
    span = _read(DhcpRange, xml, network)
    ip = _ip(network, parent)
    rules.check_dhcp_range(span, ip.interface, network.name or "")
    if command == MODIFY:
        raise _unsupported("dhcp ranges cannot be modified, only added or deleted")
    ip.dhcp = dhcp = ip.dhcp or Dhcp()
    same = [r for r in dhcp.ranges if (r.start, r.end) == (span.start, span.end)]
    words = f"<range start='{span.start}' end='{span.end}'/>"
    _edit(
        dhcp.ranges,
        span,
        command,
        same,
        f"couldn't locate a matching dhcp range entry in network '{network.name}'",
        f"there is an existing dhcp range entry in network '{network.name}' that matches \"{words}\"",
    )


def _portgroup(network: Network, command: int, parent: int, xml: str) -> None:
    group = _read(PortGroup, xml, network)
    rules.check_group(group)
    groups = network.portgroups
    same = [g for g in groups if g.name == group.name]
    missing = f"couldn't find a portgroup entry in network '{network.name}' matching <portgroup name='{group.name}'>"
    if command == MODIFY and not same:
        raise _invalid(missing)
    default = next((g for g in groups if g.default), None)
    double = f"there is an existing portgroup entry in network '{network.name}' that matches"
    if command in (ADD_FIRST, ADD_LAST) and same:
        raise _invalid(f"{double} \"<portgroup name='{group.name}'>\"")
    if command != DELETE and group.default and default is not None and default.name != group.name:
        text = f"a different portgroup entry in network '{network.name}' is already set as the default."
        raise _invalid(f"{text} Only one default is allowed.")
    if command == MODIFY:
        groups[groups.index(same[0])] = group
        return
    _edit(groups, group, command, same, missing, double)


def _forward_interface(network: Network, command: int, parent: int, xml: str) -> None:
    interface = _read(ForwardInterface, xml, network)
    if not interface.dev:
        raise XMLError("missing dev attribute in <interface> element", domain=Domain.NETWORK)
    if command == MODIFY:
        raise _unsupported("forward interface entries cannot be modified, only added or deleted")
    forward = network.forward
    devices = forward.interfaces if forward else []
    same = [i for i in devices if i.dev == interface.dev]
    words = f"<interface dev='{interface.dev}'>"
    _edit(
        devices,
        interface,
        command,
        same,
        f"couldn't find an interface entry in network '{network.name}' matching {words}",
        f"there is an existing interface entry in network '{network.name}' that matches \"{words}\"",
    )
    if forward is not None:  # an isolated network has no use for it
        forward.dev = devices[0].dev if devices else None


def _dns(network: Network) -> Dns:
    network.dns = network.dns or Dns()
    return network.dns


def _dns_host(network: Network, command: int, parent: int, xml: str) -> None:
    host = _read(DnsHost, xml, network)
    rules.check_dns_host(host, network.name or "", partial=command == DELETE)
    if command == MODIFY:
        raise _unsupported("DNS HOST records cannot be modified, only added or deleted")
    dns = _dns(network)
    names = {h.name for h in host.hostnames}
    if command in (ADD_FIRST, ADD_LAST):
        # one name may well have several addresses
        names = set()
    same = [h for h in dns.hosts if (host.ip and h.ip == host.ip) or names & {n.name for n in h.hostnames}]
    _edit_records(network, "HOST", dns.hosts, host, command, same, "with a matching field")


def _edit_records(network: Network, kind: str, items: list[E], item: E, command: int, same: list[E], how: str) -> None:
    _edit(
        items,
        item,
        command,
        same,
        f"couldn't locate a matching DNS {kind} record in network {network.name}",
        f"there is already at least one DNS {kind} record {how} in network {network.name}",
        f"multiple matching DNS {kind} records were found in network {network.name}"
        if kind == "HOST"
        else f"multiple DNS {kind} records matching all specified fields were found in network {network.name}",
    )


def _dns_txt(network: Network, command: int, parent: int, xml: str) -> None:
    txt = _read(DnsTxt, xml, network)
    rules.check_txt(txt, network.name or "", partial=command == DELETE)
    if command == MODIFY:
        raise _unsupported("DNS TXT records cannot be modified, only added or deleted")
    dns = _dns(network)
    same = [t for t in dns.txts if t.name == txt.name and txt.value in (None, t.value)]
    if command in (ADD_FIRST, ADD_LAST) and any(t.name == txt.name for t in dns.txts):
        raise _invalid(f"there is already a DNS TXT record with name '{txt.name}' in network {network.name}")
    _edit_records(network, "TXT", dns.txts, txt, command, same, "")


def _dns_srv(network: Network, command: int, parent: int, xml: str) -> None:
    srv = _read(DnsSrv, xml, network)
    rules.check_srv(srv, network.name or "", partial=command == DELETE)
    if command == MODIFY:
        raise _unsupported("DNS SRV records cannot be modified, only added or deleted")
    dns = _dns(network)
    given = [spec.name for spec in DnsSrv.SPECS if getattr(srv, spec.name)]
    same = [s for s in dns.srvs if all(getattr(s, name) == getattr(srv, name) for name in given)]
    _edit_records(network, "SRV", dns.srvs, srv, command, same, "matching all specified fields")


_HANDLERS: dict[str, Callable[[Network, int, int, str], None]] = {
    "ip-dhcp-host": _dhcp_host,
    "ip-dhcp-range": _dhcp_range,
    "portgroup": _portgroup,
    "forward-interface": _forward_interface,
    "dns-host": _dns_host,
    "dns-txt": _dns_txt,
    "dns-srv": _dns_srv,
}
