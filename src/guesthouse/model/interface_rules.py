"""What libvirt adds to an <interface> when it is defined, what it forgets of one and what it refuses. Pure.

The rules are libvirt 9.0's (domain_conf.c, domain_validate.c, qemu_domain.c, qemu_validate.c, netdev_vport_profile_conf.c).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, InternalError, InvalidArg, XMLDetail, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import bandwidth
from guesthouse.model.devices.interface import (
    Interface,
    InterfaceDriver,
    InterfaceSource,
    IpAddress,
    MacAddress,
    Model,
    Route,
)
from guesthouse.model.domain import Domain
from guesthouse.model.fields import Element
from guesthouse.model.virtualport import VirtualPortParameters

_PLACED = {"network": "network", "bridge": "bridge", "direct": "dev", "vdpa": "dev", "internal": "name"}
_MACVTAP = ("vepa", "private", "bridge", "passthrough")
_SOCKETS = ("client", "server", "mcast", "udp")
# what the <source> of each type has, beside addresses of the host's end
_PARTS: dict[str, tuple[str, ...]] = {
    "network": ("network", "portgroup", "portid", "bridge"),
    "bridge": ("bridge",),
    "direct": ("dev", "mode"),
    "vdpa": ("dev",),
    "internal": ("name",),
    "vhostuser": ("type", "path", "mode", "reconnect"),
    "client": ("address", "port"),
    "server": ("address", "port"),
    "mcast": ("address", "port"),
    "udp": ("address", "port", "local"),
    "hostdev": ("place",),
    "user": ("dev",),
}
_VDS = {"switchid", "portid", "portgroupid", "connectionid"}
_PORTED = ("network", "bridge", "direct", "hostdev")
_FILTERED = ("network", "bridge", "ethernet")
_VIRTIO_OPTIONS = ("iommu", "ats", "packed", "page_per_vq")
_SIZED = ("network", "bridge", "ethernet", "vhostuser")
# which ids of a virtual port are made up where the document does not say them, by its type
_MADE_UP: dict[str, tuple[str | None, ...]] = {
    "instanceid": ("802.1Qbg", None),
    "interfaceid": ("openvswitch", None),
}
_VIRTUAL_FUNCTIONS = {"802.1Qbg": ("managerid", "typeid", "typeidversion"), "802.1Qbh": ("profileid",)}


def complete(domain: Domain) -> None:
    """Complete the cards. Raises libvirt's errors."""
    for nic in domain.dev.interfaces:
        _complete(nic)


def _complete(nic: Interface) -> None:
    source = nic.source
    if source is not None:
        _addresses("interface host IP", source)
    _source(nic)
    _virtual_port(nic)
    if nic.type not in _FILTERED:
        nic.filterref = None
    if nic.bandwidth is not None and "classID" in nic.bandwidth.extra_attributes:
        text = "classID attribute not supported on <bandwidth> in this usage context"
        raise XMLDetail(text, domain=ErrorDomain.NONE)
    nic.bandwidth = bandwidth.check(nic.bandwidth, floor=nic.type == "network")
    if nic.mac is None:
        nic.mac = MacAddress()
    if nic.mac.address is None:
        nic.mac.address = units.new_mac()
    elif int(nic.mac.address[:2], 16) & 1:
        raise XMLError(f"expected unicast mac address, found multicast '{nic.mac.address}'", domain=ErrorDomain.DOMAIN)
    _addresses("guest interface", nic)
    virtio = _virtio(nic)  # before a model is chosen
    if nic.type == "vdpa" and (nic.model is None or nic.model.type is None):
        nic.model = Model(type="virtio")
    elif nic.model is None or nic.model.type is None:
        nic.model = None if nic.type == "hostdev" else Model(type="rtl8139")
    # the host's end of what libvirt itself would name is chosen anew at each start
    if nic.target is not None and (nic.target.dev or "").startswith("vnet"):
        nic.target = None
    if nic.type != "hostdev":
        nic.managed = None
    _driver(nic, virtio=virtio)
    _empty(nic)


def _addresses(where: str, holder: Interface | InterfaceSource) -> None:
    for ip in holder.ips:
        _ip(ip)
    for route in holder.routes:
        _route(where, route)


def _ip(ip: IpAddress) -> None:
    if ip.address is None:
        raise XMLError("Missing required address in <ip>", domain=ErrorDomain.DOMAIN)
    address = _parse(ip.address)
    if address is None or (ip.family in ("ipv4", "ipv6") and ip.family != f"ipv{address.version}"):
        raise XMLError(f"Invalid address '{ip.address}' in <ip>", domain=ErrorDomain.DOMAIN)
    if ip.prefix is not None and ip.prefix > address.max_prefixlen:
        raise XMLError(f"Invalid prefix value '{ip.prefix}' in <ip>", domain=ErrorDomain.DOMAIN)
    ip.prefix = ip.prefix or None
    peer = None if ip.peer is None else _parse(ip.peer)
    if ip.peer is not None and (peer is None or peer.version != address.version):
        raise InvalidArg(f"Invalid peer '{ip.peer}' in <ip>", domain=ErrorDomain.DOMAIN)
    ip.family = f"ipv{address.version}"


def _parse(text: str | None) -> Any:
    try:
        return ipaddress.ip_address(text or "")
    except ValueError:
        return None


def _route(where: str, route: Route) -> None:
    """Refuse a route that does not fit together. ``where`` begins the complaint."""
    wrong = _wrong(route)
    if wrong:
        raise XMLError(f"{where}: {wrong}")


def _wrong(route: Route) -> str:
    within = "in route definition"
    for name in ("address", "gateway"):
        if getattr(route, name) is None:
            return f"Missing required {name} attribute {within}"
    address, gateway = _parse(route.address), _parse(route.gateway)
    if address is None:
        return f"Bad network address '{route.address}' {within}"
    if gateway is None:
        return f"Bad gateway address '{route.gateway}' {within}"
    if route.family not in (None, "ipv4", "ipv6"):
        return f"Unrecognized family '{route.family}' {within}"
    mask = route.prefix or 0
    if route.family == "ipv6":
        if address.version != 6:
            return f"ipv6 family specified for non-IPv6 address '{route.address}' {within}"
        if route.netmask is not None:
            return f"Specifying netmask invalid for IPv6 address '{route.address}' {within}"
        if gateway.version != 6:
            return f"ipv6 specified for non-IPv6 gateway address '{route.gateway}' {within}"
    else:
        given = "No family" if route.family is None else "IPv4 family"
        if address.version != 4:
            return f"{given} specified for non-IPv4 address '{route.address}' {within}"
        if gateway.version != 4:
            return f"{given} specified for non-IPv4 gateway '{route.address}' {within}"  # libvirt names the address
        if route.netmask is not None:
            netmask = _parse(route.netmask)
            if netmask is None:
                return f"Bad netmask address '{route.netmask}' {within}"
            if netmask.version != 4:
                return f"Invalid netmask '{route.netmask}' for address '{route.address}' (both must be IPv4)"
            if route.prefix is not None:
                return "Route definition cannot have both a prefix and a netmask"
    if mask > address.max_prefixlen:
        return f"Invalid prefix {mask} specified {within}, must be 0 - {address.max_prefixlen}"
    net = int(address) & int(_parse(route.netmask)) if route.netmask else int(address) >> (address.max_prefixlen - mask)
    net = net if route.netmask else net << (address.max_prefixlen - mask)
    return "" if net == int(address) else f"Address '{route.address}' {within} is not a network address"


def _source(nic: Interface) -> None:
    """Refuse a <source> that does not say what its type needs; forget what it says beyond that."""
    kind, source = nic.type, nic.source
    if kind in ("network", "bridge", "direct", "vdpa", "internal", "vhostuser", "vds", *_SOCKETS) and source is None:
        raise XMLError(f"interface type='{kind}' requires a 'source' element")
    if kind == "hostdev" and (source is None or source.place is None or source.place.type is None):
        usb = source is not None and any(node.tag == "vendor" for node in source.extra_nodes)
        if not usb:
            raise XMLError("missing source address type", domain=ErrorDomain.DOMAIN)
    if source is None:
        return
    if kind in _PLACED:
        _required(source, _PLACED[kind])
    elif kind == "vhostuser":
        _vhost_user(source)
    elif kind in _SOCKETS:
        _socket(kind, source)
    if kind == "direct":
        source.mode = source.mode or "vepa"
        if source.mode not in _MACVTAP:
            text = f"Invalid value for attribute 'mode' in element 'source': '{source.mode}'."
            raise XMLError(text, domain=ErrorDomain.NONE)
    _forget(nic, source)


def _required(source: Element, name: str) -> None:
    if getattr(source, name) is None:
        raise XMLError(f"Missing required attribute '{name}' in element '{source.TAG}'", domain=ErrorDomain.NONE)


def _vhost_user(source: InterfaceSource) -> None:
    _required(source, "type")
    if source.type != "unix":
        text = f"Type='{source.type}' unsupported for <interface type='vhostuser'>"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    for name in ("path", "mode"):
        _required(source, name)
    if source.mode not in ("client", "server"):
        text = f"Invalid value for attribute 'mode' in element 'source': '{source.mode}'."
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    again = source.reconnect
    if again is not None and again.enabled:
        _required(again, "timeout")
    elif again is not None:
        again.timeout = None
        source.reconnect = again if again.enabled is not None else None


def _socket(kind: str, source: InterfaceSource) -> None:
    for name in ("port",) if kind == "server" else ("address", "port"):
        _required(source, name)
    if kind != "udp":
        return
    if source.local is None:
        raise XMLError("'<local>' element missing for 'udp' socket interface", domain=ErrorDomain.DOMAIN)
    for name in ("address", "port"):
        _required(source.local, name)


def _forget(nic: Interface, source: InterfaceSource) -> None:
    kept = {*_PARTS.get(nic.type, ()), "ips", "routes"}
    if nic.type == "user" and (nic.backend is None or nic.backend.type != "passt"):
        kept.discard("dev")
    for spec in source.SPECS:
        if spec.name not in kept:
            setattr(source, spec.name, None)
    names = _VDS if nic.type == "vds" else set()
    for name in list(source.extra_attributes):
        if name not in names:
            del source.extra_attributes[name]
    if nic.type != "hostdev":
        source.extra_nodes.clear()
    place = source.place
    if place is not None and place.type == "pci":
        for name in ("domain", "bus", "slot", "function"):
            setattr(place, name, getattr(place, name) or 0)
        place.extra_attributes.clear()
    if not source.extra_attributes and not source.extra_nodes and not any(getattr(source, name) for name in kept):
        nic.source = None


def _virtual_port(nic: Interface) -> None:
    port = nic.virtualport
    if port is None:
        return
    if nic.type not in _PORTED:
        text = f"<virtualport> element unsupported for <interface type='{nic.type}'>"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if port.type is None and nic.type != "network":
        raise XMLError("missing required virtualport type", domain=ErrorDomain.NONE)
    if port.type is not None and nic.type != "network":
        for name in _VIRTUAL_FUNCTIONS.get(port.type, ()):
            if port.parameters is None or getattr(port.parameters, name) is None:
                raise XMLError(f"missing {name} in <virtualport type='{port.type}'>", domain=ErrorDomain.NONE)
    parameters = port.parameters = port.parameters or VirtualPortParameters()
    for name in ("managerid", "typeid", "typeidversion"):
        if (text := getattr(parameters, name)) is not None:
            setattr(parameters, name, _decimal(name, text))
    for name, kinds in _MADE_UP.items():
        if getattr(parameters, name) is None and port.type in kinds:
            setattr(parameters, name, units.new_uuid())
    if parameters == VirtualPortParameters():
        port.parameters = None


def _decimal(name: str, text: str) -> str:
    try:
        return str(int(text, 0))
    except ValueError:
        raise XMLError(f"cannot parse value of {name} parameter", domain=ErrorDomain.NONE) from None


def _driver(nic: Interface, *, virtio: bool) -> None:
    """Other cards than virtio's have but what all virtio devices have, to be refused."""
    driver = nic.driver
    if driver is None:
        return
    if nic.type == "hostdev" or not virtio:
        nic.driver = driver = InterfaceDriver(**{name: getattr(driver, name) for name in _VIRTIO_OPTIONS})
        return
    driver.queues = None if driver.queues in (0, 1) else driver.queues  # there is always one
    driver.rx_queue_size, driver.tx_queue_size = driver.rx_queue_size or None, driver.tx_queue_size or None
    if driver.name not in (None, "qemu", "vhost"):
        text = f"Invalid value for attribute 'name' in element 'driver': '{driver.name}'."
        raise XMLError(text, domain=ErrorDomain.DOMAIN)


def _virtio(nic: Interface) -> bool:
    return nic.model is not None and (nic.model.type or "").startswith("virtio")


def _empty(nic: Interface) -> None:
    """Forget elements that say nothing."""
    if nic.mtu is not None and not nic.mtu.size:
        nic.mtu = None
    rx = nic.coalesce.rx if nic.coalesce is not None else None
    most = rx.frames.max if rx is not None and rx.frames is not None else None
    # a zero says nothing, but may not be said of cards of other types either
    if most is None or (most == 0 and nic.type in ("network", "bridge")):
        nic.coalesce = None
    if nic.port is not None and nic.port.isolated is None:
        nic.port = None
    if nic.tune is not None and nic.tune.sndbuf is None:
        nic.tune = None
    if nic.guest is not None and not nic.guest.attrib:  # type: ignore[attr-defined]
        nic.guest = None
    if nic.backend is not None and not _virtio(nic):
        nic.backend.vhost = None


def check(domain: Domain) -> None:
    """What only the whole card shows."""
    for nic in domain.dev.interfaces:
        _host_end(nic)
        _guest_addresses(nic)
        _card(nic)


def _host_end(nic: Interface) -> None:
    source = nic.source
    if source is not None and (source.ips or source.routes) and nic.type != "ethernet":
        raise ConfigUnsupported(
            "Invalid attempt to set network interface host-side IP route and/or address info on interface of type"
            f" '{nic.type}'. This is only supported on interfaces of type 'ethernet'",
            domain=ErrorDomain.DOMAIN,
        )
    if nic.target is not None and nic.target.managed is False and nic.type != "ethernet":
        text = f"unmanaged target dev is not supported on interfaces of type '{nic.type}'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if nic.port is not None and nic.port.isolated:
        text = f"interface {nic.mac_address} - <port isolated='yes'/> is not supported for network interfaces with"
        if nic.type not in ("network", "bridge"):
            raise ConfigUnsupported(f"{text} type='{nic.type}'", domain=ErrorDomain.DOMAIN)
        if nic.virtualport is not None and nic.virtualport.type is not None:
            raise ConfigUnsupported(f"{text} virtualport type='{nic.virtualport.type}'", domain=ErrorDomain.DOMAIN)


def _guest_addresses(nic: Interface) -> None:
    if nic.type == "vdpa":
        if nic.model is None or nic.model.type != "virtio":
            model = (nic.model and nic.model.type) or "unknown"
            raise ConfigUnsupported(f"invalid model for interface of type '{nic.type}': '{model}'")
    elif nic.type != "user":
        if nic.ips or nic.routes:
            raise ConfigUnsupported(
                "Invalid attempt to set network interface guest-side IP route and/or address info, not supported by QEMU"
            )
    elif nic.routes:
        raise ConfigUnsupported("Invalid attempt to set network interface guest-side IP route, not supported by QEMU")
    elif any(ip.peer is not None for ip in nic.ips):
        raise ConfigUnsupported("Invalid attempt to set peer IP for guest")
    else:
        for family, words in (("ipv4", "IPv4"), ("ipv6", "IPv6")):
            if sum(ip.family == family for ip in nic.ips) > 1:
                raise ConfigUnsupported(f"Only one {words} address per interface is allowed")
        for ip in nic.ips:
            if ip.family == "ipv4" and ip.prefix and not 4 <= ip.prefix <= 27:
                raise XMLError("invalid prefix, must be in range of 4-27")
            if ip.family == "ipv6" and ip.prefix and ip.prefix != 64:
                raise ConfigUnsupported(f"unsupported IPv6 address prefix='{ip.prefix}' - must be 64")


def _card(nic: Interface) -> None:
    driver = nic.driver
    virtio = _virtio(nic)
    for name in ("rx_queue_size", "tx_queue_size"):
        size = getattr(driver, name) if driver is not None and virtio else None
        if size and size & (size - 1):
            raise ConfigUnsupported(f"{name} has to be a power of two")
    passt = nic.backend is not None and nic.backend.type == "passt"
    if nic.mtu is not None and nic.type not in _SIZED and not passt:
        raise ConfigUnsupported(f"setting MTU on interface type {nic.type} is not supported yet")
    _teaming(nic, virtio=virtio)
    if nic.coalesce is not None and nic.type not in ("network", "bridge"):
        raise ConfigUnsupported(f"coalesce settings on interface type {nic.type} are not supported")
    for name in _VIRTIO_OPTIONS if driver is not None and not virtio else ():
        if getattr(driver, name) is not None:
            what = name if name == "page_per_vq" else f"{name} driver"
            raise ConfigUnsupported(f"{what} option is only supported for virtio devices", domain=ErrorDomain.DOMAIN)
    if passt and nic.type != "user":
        text = "The 'passt' backend can only be used with interface type='user'"
        raise InternalError(text, domain=ErrorDomain.DOMAIN)
    if nic.type == "vhostuser" and not virtio:
        raise InternalError(
            "Wrong or no <model> 'type' attribute specified with <interface type='vhostuser'/>. vhostuser requires the"
            " virtio-net* frontend",
            domain=ErrorDomain.DOMAIN,
        )
    serves = nic.type == "vhostuser" and nic.source is not None and nic.source.mode == "server"
    again = nic.source.reconnect if nic.source is not None else None
    if serves and again is not None and again.enabled:
        text = "'reconnect' attribute unsupported 'server' mode for <interface type='vhostuser'>"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)


def _teaming(nic: Interface, *, virtio: bool) -> None:
    team = nic.teaming
    if team is None:
        return
    if team.type == "persistent" and not virtio:
        model = nic.model.type if nic.model is not None else None
        text = "virtio-net teaming persistent interface must be <model type='virtio'/>, not"
        raise ConfigUnsupported(f"{text} '{model or '<null>'}'")
    if team.type == "transient" and nic.type not in ("hostdev", "network"):
        raise ConfigUnsupported(f"virtio-net teaming transient interface must be type='hostdev', not '{nic.type}'")
    if team.type == "transient" and team.persistent is None:
        text = "teaming persistent attribute must be set if teaming type is 'transient'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if team.type != "transient" and team.persistent is not None:
        text = f"teaming persistent attribute not allowed if teaming type is '{team.type}'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
