"""What libvirt 9.0 demands of a ``<network>`` document, and how it spells what it keeps.

:func:`parse` is for documents from outside; :func:`complete` adds what libvirtd makes up at define time, and checks
what only the whole document shows. Texts and error codes are libvirt's (network_conf.c, bridge_driver.c).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from guesthouse.errors import (
    ConfigUnsupported,
    Domain,
    GuesthouseError,
    InternalError,
    SystemFailure,
    UnknownError,
    XMLDetail,
    XMLError,
)
from guesthouse.model import bandwidth, port_forward
from guesthouse.model.network import (
    MODES,
    OWN_BRIDGE,
    Bridge,
    BridgeMac,
    Dhcp,
    DhcpHost,
    DhcpRange,
    Dns,
    DnsHost,
    DnsSrv,
    DnsTxt,
    Forward,
    ForwardInterface,
    Ip,
    IPAddress,
    IPInterface,
    Lease,
    Nat,
    Network,
    PortGroup,
    Route,
    Vlan,
)
from guesthouse.units import new_mac, new_uuid, parse_mac

_MAX_BRIDGE_ID = 256
_DNS_SERVICE = re.compile(r"[A-Za-z0-9_\-+/*]*")
_DNS_PROTOCOL = re.compile(r"[A-Za-z0-9\-+/]*")
_DUID = re.compile(r"[0-9a-fA-F:]*")
_SRV_LIMIT = 512
_MIN_LEASE = {"seconds": 120, "minutes": 2}


def _xml(text: str) -> XMLError:
    return XMLError(text, domain=Domain.NETWORK)


def _detail(text: str) -> XMLDetail:
    return XMLDetail(text, domain=Domain.NETWORK)


def _config(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=Domain.NETWORK)


def parse(text: str) -> Network:
    """The network that an XML document describes, checked, in libvirt's spelling, with a UUID.

    Raises XMLDetail (not well formed), XMLError and others as libvirt does for what is wrong.
    """
    network = Network.from_xml(text)
    if not network.name:
        raise UnknownError("missing name information", number=34, domain=Domain.NETWORK)
    if "/" in network.name:
        raise XMLDetail("invalid char in name: /")
    name = network.name
    network.uuid = network.uuid or new_uuid()
    network.connections = None
    if network.mac and network.mac.address and _is_multicast(network.mac.address):
        raise _xml(f"Invalid multicast bridge mac address '{network.mac.address}' in network '{name}'")
    if network.mac and not network.mac.address:
        network.mac = None
    if network.dns:
        _check_dns(network.dns, name)
    for group in network.portgroups:
        check_group(group)
    for ip in network.ips:
        _check_ip(ip, name)
    for route in network.routes:
        _check_route(route, network)
    if network.forward:
        _check_forward(network.forward, name)
    _check_mode(network)
    _tidy(network)
    return network


def check_group(group: PortGroup) -> None:
    """Check a port group, and bring it into libvirt's spelling."""
    if not group.name:
        raise _xml("Missing required name attribute in portgroup")
    group.default = "yes" if (group.default or "").lower() == "yes" else None
    group.bandwidth = bandwidth.check(group.bandwidth)
    group.vlan = _check_vlan(group.vlan)


def _is_multicast(mac: str) -> bool:
    return bool(int(mac[:2], 16) & 1)


def _address(text: str, error: Callable[[], GuesthouseError] | None = None) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError as cause:
        if error is None:
            words = f"Cannot parse socket address '{text}': Name or service not known"
            raise SystemFailure(words, int1=0) from cause
        raise error() from cause


def _check_dns(dns: Dns, name: str) -> None:
    for forwarder in dns.forwarders:
        if forwarder.addr:
            text = f"Invalid forwarder IP address '{forwarder.addr}' in network '{name}'"
            forwarder.addr = str(_address(forwarder.addr, lambda text=text: _xml(text)))  # type: ignore[misc]
        elif not forwarder.domain:
            raise _xml("Invalid forwarder element, must contain at least one of addr or domain")
    for host in dns.hosts:
        check_dns_host(host, name)
    for srv in dns.srvs:
        check_srv(srv, name)
    for txt in dns.txts:
        check_txt(txt, name)
    if dns.enable is False and (dns.forwarders or dns.hosts or dns.srvs or dns.txts):
        raise _xml(f"Extra data in disabled network '{name}'")


def check_dns_host(host: DnsHost, name: str, *, partial: bool = False) -> None:
    """Check a record; a ``partial`` one names what it means by any of its fields."""
    host.hostnames = [h for h in host.hostnames if h.name]
    if partial and not host.ip:
        if not host.hostnames:
            raise _detail(f"Missing ip and hostname in network '{name}' DNS HOST record")
        return
    if not host.ip:
        raise _detail(f"Missing IP address in network '{name}' DNS HOST record")
    host.ip = str(_address(host.ip, lambda: _detail(f"Invalid IP address in network '{name}' DNS HOST record")))
    if not (host.hostnames or partial):
        raise _detail(f"Missing hostname in network '{name}' DNS HOST record")


def check_srv(srv: DnsSrv, name: str, *, partial: bool = False) -> None:
    """Check a record; a ``partial`` one names what it means by any of its fields."""
    if partial and not srv.service:
        return
    if not srv.service:
        raise _detail(f"missing required service attribute in DNS SRV record of network '{name}'")
    if len(srv.service) > _SRV_LIMIT:
        text = f"service attribute '{srv.service}' in network '{name}' is too long, limit is {_SRV_LIMIT} bytes"
        raise _detail(text)
    if not _DNS_SERVICE.fullmatch(srv.service):
        text = f"invalid character in service attribute '{srv.service}' in DNS SRV record of network '{name}'"
        raise _detail(text)
    if not srv.protocol and not partial:
        text = f"missing required protocol attribute in DNS SRV record '{srv.service}' of network '{name}'"
        raise _detail(text)
    if not _DNS_PROTOCOL.fullmatch(srv.protocol or ""):
        text = f"invalid character in protocol attribute '{srv.protocol}' in DNS SRV record of network '{name}'"
        raise _detail(text)
    for word, what, value, least in (
        ("invalid DNS SRV port", "port", srv.port, 1),
        ("Invalid DNS SRV priority", "priority", srv.priority, 0),
        ("invalid DNS SRV weight", "weight", srv.weight, 0),
    ):
        if value is not None and not srv.target and not partial:
            text = f"DNS SRV {what} attribute not permitted without target for service '{srv.service}'"
            raise _detail(f"{text} in network '{name}'")
        if value is not None and not least <= value <= 65535:
            raise _detail(f"{word} attribute for service '{srv.service}' in network '{name}'")
    srv.port, srv.priority, srv.weight = srv.port or None, srv.priority or None, srv.weight or None


def check_txt(txt: DnsTxt, name: str, *, partial: bool = False) -> None:
    """Check a record; a ``partial`` one may have no value."""
    if not txt.name:
        raise _detail(f"missing required name attribute in DNS TXT record of network {name}")
    if " " in txt.name or "," in txt.name:
        raise _detail(f"prohibited character in DNS TXT record name '{txt.name}' of network {name}")
    if not txt.value and not partial:
        text = f"missing required value attribute in DNS TXT record named '{txt.name}' of network {name}"
        raise _detail(text)


def _check_ip(ip: Ip, name: str) -> None:
    if not ip.address:
        raise _xml(f"Missing required address attribute in network '{name}'")
    address = _address(ip.address, lambda: _xml(f"Invalid address '{ip.address}' in network '{name}'"))
    netmask = None
    if ip.netmask:
        netmask = _address(ip.netmask, lambda: _xml(f"Invalid netmask '{ip.netmask}' in network '{name}'"))
    if ip.family in (None, "ipv4"):
        _check_ipv4(ip, address, netmask, name)
    elif ip.family == "ipv6":
        _check_ipv6(ip, address, name)
    else:
        raise _xml(f"Unrecognized family '{ip.family}' in network '{name}'")
    ip.address = str(address)
    ip.prefix = ip.prefix or None
    try:
        interface = ip.interface
    except ValueError as error:
        raise _xml(f"Invalid netmask '{ip.netmask}' in network '{name}'") from error
    if ip.dhcp:
        _check_dhcp(ip.dhcp, interface, name)
        if not (ip.dhcp.ranges or ip.dhcp.hosts):
            ip.dhcp = None
    if ip.tftp and address.version == 6:
        raise _config(f"Unsupported <tftp> element in an IPv6 element in network '{name}'")
    if ip.tftp and not ip.tftp.root:
        ip.tftp = None


def _check_ipv4(ip: Ip, address: IPAddress, netmask: IPAddress | None, name: str) -> None:
    if address.version != 4:
        word = ip.family or "no"
        raise _config(f"{word} family specified for non-IPv4 address '{ip.address}' in network '{name}'")
    if netmask is None:
        if ip.prefix and ip.prefix > 32:
            raise _config(f"Invalid IPv4 prefix '{ip.prefix}' in network '{name}'")
        return
    if netmask.version != 4:
        text = f"Invalid netmask '{ip.netmask}' for address '{ip.address}' in network '{name}' (both must be IPv4)"
        raise _config(text)
    if ip.prefix:
        raise _config(f"Network '{name}' IP address cannot have both a prefix and a netmask")


def _check_ipv6(ip: Ip, address: IPAddress, name: str) -> None:
    if address.version != 6:
        raise _config(f"Family 'ipv6' specified for non-IPv6 address '{ip.address}' in network '{name}'")
    if ip.netmask:
        raise _config(f"netmask not allowed for IPv6 address '{ip.address}' in network '{name}'")
    if ip.prefix and ip.prefix > 128:
        raise _config(f"Invalid IPv6 prefix '{ip.prefix}' in network '{name}'")


def _check_dhcp(dhcp: Dhcp, interface: IPInterface, name: str) -> None:
    for span in dhcp.ranges:
        check_dhcp_range(span, interface, name)
    for host in dhcp.hosts:
        check_dhcp_host(host, interface.version, name)
    if dhcp.bootp and (interface.version == 6 or not dhcp.bootp.file):
        dhcp.bootp = None
    if dhcp.bootp and dhcp.bootp.server:
        dhcp.bootp.server = str(_address(dhcp.bootp.server))


def _check_lease(lease: Lease | None) -> Lease | None:
    if lease is None or lease.expiry is None:
        return None
    lease.unit = lease.unit or "minutes"
    if lease.expiry and lease.expiry < _MIN_LEASE.get(lease.unit, 0):
        raise _config("The minimum lease time should be greater than 2 minutes")
    if not lease.expiry:
        lease.unit = None
    return lease


def check_dhcp_range(span: DhcpRange, interface: IPInterface, name: str) -> None:
    """Check a range that is to be served on a subnet, and bring it into libvirt's spelling."""
    if not span.start:
        raise _xml(f"Missing 'start' attribute in dhcp range for network '{name}'")
    if not span.end:
        raise _xml(f"Missing 'end' attribute in dhcp range for network '{name}'")
    start, end = _address(span.start), _address(span.end)
    check_range(start, end, interface)
    span.start, span.end = str(start), str(end)
    span.lease = _check_lease(span.lease)


def check_range(start: IPAddress, end: IPAddress, interface: IPInterface | None) -> None:
    """Raise InternalError unless start ... end is a range (within the subnet of ``interface``, where given)."""
    span = f"{start} - {end}"
    if start.version != end.version:
        raise InternalError(f"mismatch of address family in range {span}", domain=Domain.NONE)
    if interface is not None:
        subnet = interface.network
        where = f"network {interface.ip}/{subnet.prefixlen}"
        if start.version != interface.version:
            text = f"mismatch of address family in range {span} for network {interface.ip}"
            raise InternalError(text, domain=Domain.NONE)
        if start not in subnet or end not in subnet:
            raise InternalError(f"range {span} is not entirely within {where}", domain=Domain.NONE)
        if start.version == 4 and start == subnet.network_address:
            raise InternalError(f"start of range {span} in {where} is the network address", domain=Domain.NONE)
        if start.version == 4 and end == subnet.broadcast_address:
            raise InternalError(f"end of range {span} in {where} is the broadcast address", domain=Domain.NONE)
    if int(start) >> 16 != int(end) >> 16:
        raise InternalError(f"range {span} is too large (> 65535)", domain=Domain.NONE)
    if int(end) < int(start):
        word = "is reversed " if start.version == 4 else "start larger than end"
        raise InternalError(f"range {span} {word}", domain=Domain.NONE)


def check_dhcp_host(host: DhcpHost, version: int, name: str, *, partial: bool = False) -> None:
    """Check a fixed address; a ``partial`` one names what it means by any of its fields."""
    if host.mac:
        _check_host_mac(host.mac, version, name)
    if host.id and not _DUID.fullmatch(host.id):
        bad = next(c for c in host.id if not _DUID.fullmatch(c))
        raise _xml(f"Invalid character '{bad}' in id '{host.id}' of network '{name}'")
    if host.name and not (host.name[0].isascii() and host.name[0].isalnum()):
        raise _xml(f"Cannot use host name '{host.name}' in network '{name}'")
    if partial and host.ip is None:
        if not (host.mac or host.name):
            text = "At least one of name, mac, or ip attribute must be specified for static host definition in network"
            raise _xml(f"{text} '{name}' ")
        return
    if version == 6 and not (host.id or host.name or partial):
        raise _xml(f"Static host definition in IPv6 network '{name}' must have id or name attribute")
    if version == 4 and not (host.mac or host.name or partial):
        raise _xml(f"Static host definition in IPv4 network '{name}' must have mac or name attribute")
    if not host.ip:
        raise _xml(f"Missing IP address in static host definition for network '{name}'")
    bad_ip = _xml(f"Invalid IP address in static host definition for network '{name}'")
    host.ip = str(_address(host.ip, lambda: bad_ip))
    host.lease = _check_lease(host.lease)


def _check_host_mac(mac: str, version: int, name: str) -> None:
    if version == 6:
        raise _xml(f"Invalid to specify MAC address '{mac}' in network '{name}' IPv6 static host definition")
    try:
        parsed = parse_mac(mac)
    except XMLError as error:
        raise _xml(f"Cannot parse MAC address '{mac}' in network '{name}'") from error
    if _is_multicast(parsed):
        raise _xml(f"expected unicast mac address, found multicast '{mac}' in network '{name}'")


def _check_route(route: Route, network: Network) -> None:
    name = network.name
    if not route.address:
        raise _xml(f"{name}: Missing required address attribute in route definition")
    if not route.gateway:
        raise _xml(f"{name}: Missing required gateway attribute in route definition")
    address = _address(
        route.address, lambda: _xml(f"{name}: Bad network address '{route.address}' in route definition")
    )
    gateway = _address(
        route.gateway, lambda: _xml(f"{name}: Bad gateway address '{route.gateway}' in route definition")
    )
    expected = 6 if route.family == "ipv6" else 4
    if route.family not in (None, "ipv4", "ipv6"):
        raise _xml(f"{name}: Unrecognized family '{route.family}' in route definition")
    for what, value in (("address", address), ("gateway", gateway)):
        if value.version != expected:
            word = f"'{route.family}' specified" if route.family else "No family specified"
            text = f"{name}: {word} for non-IPv{expected} {what} '{value}' in route definition"
            raise _xml(text)
    try:
        destination = route.destination
    except ValueError as error:
        raise _xml(f"{name}: Bad netmask address '{route.netmask}' in route definition") from error
    if destination.network_address != address:
        raise _xml(f"{name}: Address '{address}' in route definition is not a network address")
    route.address, route.gateway = str(address), str(gateway)
    # the gateway must be a neighbour on this bridge
    if not any(ip.address and gateway in ip.interface.network for ip in network.ips):
        raise _config(f"unreachable static route gateway '{gateway}' specified for network '{name}'")


def _check_forward(forward: Forward, name: str) -> None:
    forward.mode = forward.mode or "nat"
    if forward.mode not in MODES:
        raise _config(f"unknown forwarding type '{forward.mode}'")
    managed = (forward.managed or "").lower() == "yes"
    forward.managed = None if forward.mode != "hostdev" else "yes" if managed else "no"
    if len(forward.nats) > 1:
        raise _xml(f"Only one <nat> element is allowed in <forward> of network {name}")
    if forward.nat:
        if forward.mode != "nat":
            text = f"The <nat> element can only be used when <forward> 'mode' is 'nat' in network {name}"
            raise _xml(text)
        _check_nat(forward.nat, name)
        if not (forward.nat.ipv6 is not None or forward.nat.addresses or forward.nat.ports):
            forward.nats = []
    _check_forward_devices(forward, name)


def _check_nat(nat: Nat, name: str) -> None:
    if len(nat.addresses) > 1:
        raise _xml(f"Only one <address> element is allowed in <nat> in <forward> in network {name}")
    for span in nat.addresses:
        ends = []
        for what, value in (("start", span.start), ("end", span.end)):
            if not value:
                raise _xml(f"missing '{what}' attribute in <address> element in <nat> in <forward> in network {name}")
            bad = _xml(f"Bad ipv4 {what} address '{value}' in <nat> in <forward> in network '{name}'")
            address = _address(value, lambda bad=bad: bad)  # type: ignore[misc]
            if address.version != 4:
                raise bad
            ends.append(address)
        check_range(ends[0], ends[1], None)
        span.start, span.end = str(ends[0]), str(ends[1])
    if len(nat.ports) > 1:
        raise _xml(f"Only one <port> element is allowed in <nat> in <forward> in network {name}")
    for ports in nat.ports:
        tail = f"attribute in <port> in <nat> in <forward> in network {name}"
        if ports.start is None or ports.start > 65535:
            raise _detail(f"Missing or invalid 'start' {tail}")
        if ports.end is None or not ports.start <= ports.end <= 65535:
            raise _detail(f"Missing or invalid 'end' {tail}")
    nat.ports = [ports for ports in nat.ports if ports.end]


def _check_forward_devices(forward: Forward, name: str) -> None:
    if forward.dev and (forward.addresses or forward.pfs):
        raise _xml(
            "the <forward> 'dev' attribute cannot be used when <address> or <pf> sub-elements are present "
            f"in network {name}"
        )
    seen: list[str] = []
    for interface in forward.interfaces:
        if not interface.dev:
            raise _xml(f"Missing required dev attribute in <forward> <interface> element of network {name}")
        if interface.dev in seen:
            raise _xml(f"interface '{interface.dev}' can only be listed once in network {name}")
        interface.connections = None
        seen.append(interface.dev)
    if forward.dev and seen and seen[0] != forward.dev:
        text = f"<forward dev='{forward.dev}'> must match first <interface dev='{seen[0]}'/> in network {name}"
        raise _xml(text)
    for address in forward.addresses:
        if not address.type:
            raise _xml(f"missing address type in network {name}")
        if address.type != "pci":
            raise _config(f"unknown address type '{address.type}' in network {name}")
    if len(forward.pfs) > 1:
        raise _xml(f"Only one <pf> element is allowed in <forward> of network {name}")
    if forward.pfs and not forward.pfs[0].dev:
        raise _xml(f"Missing required dev attribute in <pf> element of network '{name}'")
    if forward.pfs:
        return
    if forward.dev and not forward.interfaces:
        forward.interfaces = [ForwardInterface(dev=forward.dev)]
    forward.dev = forward.interfaces[0].dev if forward.interfaces else None


def _check_mode(network: Network) -> None:
    mode, name, forward, bridge = network.mode, network.name, network.forward, network.bridge
    if mode in OWN_BRIDGE:
        if mode and not network.ips:
            raise _xml(f"{mode} forwarding requested, but no IP address provided for network '{name}'")
        devices = forward.interfaces if forward else []
        if len(devices) > 1:
            text = f"multiple forwarding interfaces specified for network '{name}', only one is supported"
            raise _xml(text)
        if mode == "open" and devices:
            raise _xml(f"forward dev not allowed for network '{name}' with forward mode='{mode}'")
        return
    if bridge and mode != "bridge":
        for what, value in (
            ("name", bridge.name),
            ("zone", bridge.zone),
            ("macTableManager setting", bridge.mac_table_manager),
        ):
            if value:
                raise _xml(f"bridge {what} not allowed in {mode} mode (network '{name}')")
    if bridge and (bridge.delay or bridge.stp is not None or bridge.zone):
        raise _xml(
            "bridge delay/stp/zone options only allowed in route, nat, and isolated mode, "
            f"not in {mode} (network '{name}')"
        )
    if bridge and bridge.name and forward and (forward.interfaces or forward.pfs):
        raise _xml(
            f"A network with forward mode='{mode}' can specify a bridge name or a forward dev, but not both "
            f"(network '{name}')"
        )
    if network.mtu and network.mtu.size:
        raise _xml(f"mtu size only allowed in open, route, nat, and isolated mode, not in {mode} (network '{name}')")


def _tidy(network: Network) -> None:
    """Leave out what libvirt leaves out, and fill in what it always shows."""
    if network.owns_bridge:
        network.bridge = network.bridge or Bridge()
        network.bridge.stp = network.bridge.stp is not False
        network.bridge.delay = network.bridge.delay or 0
    elif network.bridge and not (network.bridge.name or network.bridge.mac_table_manager):
        network.bridge = None
    elif network.bridge:
        network.bridge.delay = None
    if network.mtu and not network.mtu.size:
        network.mtu = None
    if network.ipv6 is False:
        network.ipv6 = None
    if network.domain and not network.domain.name:
        network.domain = None
    if network.port and network.port.isolated is None:
        network.port = None
    dns = network.dns
    settings = dns and (dns.enable is not None or dns.forward_plain_names is not None)
    if dns and not (settings or dns.forwarders or dns.hosts or dns.srvs or dns.txts):
        network.dns = None
    network.vlan = _check_vlan(network.vlan)
    network.bandwidth = bandwidth.check(network.bandwidth)


def _check_vlan(vlan: Vlan | None) -> Vlan | None:
    if vlan is None or not vlan.tags:
        return None
    # several tags, or a native one, are a trunk without saying so
    native = any(tag.native_mode for tag in vlan.tags)
    if vlan.trunk is False and len(vlan.tags) > 1:
        raise _xml("invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag")
    if vlan.trunk is False and native:
        raise _xml("invalid configuration in <vlan> - \"trunk='no'\" is not allowed with a native vlan id")
    vlan.trunk = True if vlan.trunk or native or len(vlan.tags) > 1 else None
    return vlan


def complete(network: Network, is_taken: Callable[[str], bool], other_bridges: frozenset[str]) -> None:
    """What libvirtd adds and checks when a network is defined or created: bridge name, MAC, and what needs the whole.

    ``other_bridges`` are the names that other networks use; ``is_taken`` says whether the host has a device of a
    name. Raises ConfigUnsupported, XMLDetail or InternalError; then ``network`` may be changed in part.
    """
    if "\n" in (network.name or ""):
        raise XMLDetail("invalid char in name: \n")
    if network.owns_bridge:
        assert network.bridge is not None
        _name_bridge(network.bridge, is_taken, other_bridges)
        network.mac = network.mac or BridgeMac(address=new_mac())
    else:
        _refuse_host_side(network)
    _check_devices(network)
    for version in (4, 6):
        if sum(ip.serves_dhcp for ip in network.ips_of(version)) > 1:
            raise _config(
                f"Multiple IPv{version} dhcp sections found -- dhcp is supported only for a single IPv{version} "
                "address on each network"
            )
    _check_portgroups(network)
    port_forward.of(network)


def _name_bridge(bridge: Bridge, is_taken: Callable[[str], bool], other_bridges: frozenset[str]) -> None:
    template = "virbr%d"
    if bridge.name and "%d" not in bridge.name:
        if bridge.name in other_bridges:
            raise InternalError(f"bridge name '{bridge.name}' already in use.", domain=Domain.NETWORK)
        return
    if bridge.name and bridge.name.count("%") == 1:
        template = bridge.name
    for number in range(_MAX_BRIDGE_ID + 1):
        name = template.replace("%d", str(number))
        if name not in other_bridges and not is_taken(name):
            bridge.name = name
            return
    raise InternalError(f"Bridge generation exceeded max id {_MAX_BRIDGE_ID}", domain=Domain.NETWORK)


def _refuse_host_side(network: Network) -> None:
    dns = network.dns
    for what, present in (
        ("mac", network.mac),
        ("ip", network.ips),
        ("dns", dns and (dns.txts or dns.hosts or dns.srvs)),
        ("domain", network.domain),
    ):
        if present:
            text = f"Unsupported <{what}> element in network {network.name} with forward mode='{network.mode}'"
            raise _config(text)
    if network.bandwidth and not (network.mode == "bridge" and network.bridge_name):
        raise _config(
            f"Unsupported network-wide <bandwidth> element in network {network.name} with forward mode='{network.mode}'"
        )


def _check_devices(network: Network) -> None:
    forward = network.forward
    if forward is None:
        return
    if forward.mode == "hostdev" and forward.interfaces:
        raise _config(
            f"hostdev network '{network.name}' lists '{forward.interfaces[0].dev}' in the device pool, but hostdev "
            "networks require all devices to be listed by PCI address, not network device name"
        )
    if forward.mode != "hostdev" and forward.addresses:
        raise _config(
            f"network '{network.name}' has forward mode '{forward.mode}'  but lists a device by PCI address in the "
            "device pool. This is only supported for networks with forward mode 'hostdev'"
        )
    if bool(forward.pfs) + bool(forward.interfaces) + bool(forward.addresses) > 1:
        raise _config(
            f"<address>, <interface>, and <pf> elements of <forward> in network {network.name} are mutually exclusive"
        )


def _check_portgroups(network: Network) -> None:
    mode, name = network.mode, network.name
    open_vswitch = bool(network.virtualport and network.virtualport.type == "openvswitch")
    vlan_allowed = mode in ("hostdev", "passthrough") or (mode == "bridge" and open_vswitch)
    bandwidth_allowed = network.owns_bridge or (mode == "bridge" and bool(network.bridge_name))
    default, bad_vlan, seen = None, False, set()
    for group in network.portgroups:
        if network.vlan or group.vlan:
            if group.virtualport:
                bad_vlan |= mode != "bridge" or group.virtualport.type != "openvswitch"
            else:
                bad_vlan |= not vlan_allowed
        if group.default:
            if default is not None:
                raise _config(
                    f"network '{name}' has multiple default <portgroup> elements ({default} and {group.name}), "
                    "but only one default is allowed"
                )
            default = group.name
        if group.name in seen:
            raise _config(f"multiple <portgroup> elements with the same name ({group.name}) in network '{name}'")
        seen.add(group.name)
        if group.bandwidth and not bandwidth_allowed:
            raise _config(
                f"Unsupported <bandwidth> element in network '{name}' in portgroup '{group.name}' "
                f"with forward mode='{mode}'"
            )
    if bad_vlan or (network.vlan and not vlan_allowed and default is None):
        text = f"<vlan> element specified for network {name}, whose type doesn't support vlan configuration"
        raise _config(text)
