"""``<network>``: a virtual network of the host, in libvirt 9.0's vocabulary and element order.

Parse documents from outside with :func:`guesthouse.model.network_rules.parse`, which applies libvirt's checks and
brings values into its spelling; :meth:`Network.from_xml` alone reads what has been through that.
"""

from __future__ import annotations

import ipaddress

from guesthouse.model.bandwidth import Bandwidth
from guesthouse.model.fields import (
    Attr,
    Bool,
    Child,
    Children,
    Choice,
    Content,
    Element,
    Int,
    Mac,
    OnOff,
    Raw,
    Text,
    UInt,
    Uuid,
)
from guesthouse.model.virtualport import VirtualPort

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Modes in which the network has a bridge of its own, made when it starts ("" is an isolated network).
OWN_BRIDGE = ("", "nat", "route", "open")
#: What dnsmasq is told beyond libvirt's vocabulary.
DNSMASQ_OPTIONS = "{http://libvirt.org/schemas/network/dnsmasq/1.0}options"
MODES = ("nat", "route", "open", "bridge", "private", "vepa", "passthrough", "hostdev")


class AddressRange(Element, tag="address"):
    start: str | None = Attr("start")
    end: str | None = Attr("end")


class PortRange(Element, tag="port"):
    start: int | None = Attr("start", UInt)
    end: int | None = Attr("end", UInt)


class Nat(Element, tag="nat"):
    """How outgoing connections are rewritten; ``ipv6`` extends NAT to that family."""

    ipv6: bool | None = Attr("ipv6", Bool)
    addresses: list[AddressRange] = Children(AddressRange)
    ports: list[PortRange] = Children(PortRange)


class ForwardDriver(Element, tag="driver"):
    name: str | None = Attr("name", Choice("kvm", "vfio"))


class ForwardPf(Element, tag="pf"):
    dev: str | None = Attr("dev")


class ForwardInterface(Element, tag="interface"):
    dev: str | None = Attr("dev")
    connections: int | None = Attr("connections", UInt)


class ForwardAddress(Element, tag="address"):
    """A host PCI device that a hostdev network hands out."""

    type: str | None = Attr("type")
    domain: str | None = Attr("domain")
    bus: str | None = Attr("bus")
    slot: str | None = Attr("slot")
    function: str | None = Attr("function")


class Forward(Element, tag="forward"):
    """Where packets may go. No ``mode`` means nat."""

    dev: str | None = Attr("dev")
    mode: str | None = Attr("mode")
    managed: str | None = Attr("managed")
    driver: ForwardDriver | None = Child(ForwardDriver)
    nats: list[Nat] = Children(Nat)
    pfs: list[ForwardPf] = Children(ForwardPf)
    interfaces: list[ForwardInterface] = Children(ForwardInterface)
    addresses: list[ForwardAddress] = Children(ForwardAddress)

    @property
    def nat(self) -> Nat | None:
        return self.nats[0] if self.nats else None


class Bridge(Element, tag="bridge"):
    """The bridge: the network's own, or for mode "bridge" one of the host. ``delay`` is in seconds."""

    name: str | None = Attr("name")
    zone: str | None = Attr("zone")
    stp: bool | None = Attr("stp", OnOff)
    delay: int | None = Attr("delay", UInt)
    mac_table_manager: str | None = Attr("macTableManager", Choice("kernel", "libvirt"))


class Mtu(Element, tag="mtu"):
    size: int | None = Attr("size", UInt)


class BridgeMac(Element, tag="mac"):
    address: str | None = Attr("address", Mac)


class DnsDomain(Element, tag="domain"):
    name: str | None = Attr("name")
    local_only: bool | None = Attr("localOnly", Bool)


class DnsForwarder(Element, tag="forwarder"):
    domain: str | None = Attr("domain")
    addr: str | None = Attr("addr")


class DnsTxt(Element, tag="txt"):
    name: str | None = Attr("name")
    value: str | None = Attr("value")


class DnsSrv(Element, tag="srv"):
    service: str | None = Attr("service")
    protocol: str | None = Attr("protocol")
    domain: str | None = Attr("domain")
    target: str | None = Attr("target")
    port: int | None = Attr("port", UInt)
    priority: int | None = Attr("priority", UInt)
    weight: int | None = Attr("weight", UInt)


class Hostname(Element, tag="hostname"):
    name: str | None = Content()


class DnsHost(Element, tag="host"):
    ip: str | None = Attr("ip")
    hostnames: list[Hostname] = Children(Hostname)


class Dns(Element, tag="dns"):
    enable: bool | None = Attr("enable", Bool)
    forward_plain_names: bool | None = Attr("forwardPlainNames", Bool)
    forwarders: list[DnsForwarder] = Children(DnsForwarder)
    txts: list[DnsTxt] = Children(DnsTxt)
    srvs: list[DnsSrv] = Children(DnsSrv)
    hosts: list[DnsHost] = Children(DnsHost)


class VlanTag(Element, tag="tag"):
    id: int | None = Attr("id", UInt)
    native_mode: str | None = Attr("nativeMode", Choice("tagged", "untagged"))


class Vlan(Element, tag="vlan"):
    trunk: bool | None = Attr("trunk", Bool)
    tags: list[VlanTag] = Children(VlanTag)


class PortOptions(Element, tag="port"):
    isolated: bool | None = Attr("isolated", Bool)


class Lease(Element, tag="lease"):
    """How long a DHCP lease lasts; ``expiry`` 0 is for ever."""

    expiry: int | None = Attr("expiry", UInt)
    unit: str | None = Attr("unit", Choice("seconds", "minutes", "hours"))


class DhcpRange(Element, tag="range"):
    start: str | None = Attr("start")
    end: str | None = Attr("end")
    lease: Lease | None = Child(Lease)


class DhcpHost(Element, tag="host"):
    """A fixed address for one guest, known by MAC, DUID (``id``) or name."""

    mac: str | None = Attr("mac")
    id: str | None = Attr("id")
    name: str | None = Attr("name")
    ip: str | None = Attr("ip")
    lease: Lease | None = Child(Lease)


class Bootp(Element, tag="bootp"):
    file: str | None = Attr("file")
    server: str | None = Attr("server")


class Dhcp(Element, tag="dhcp"):
    ranges: list[DhcpRange] = Children(DhcpRange)
    hosts: list[DhcpHost] = Children(DhcpHost)
    bootp: Bootp | None = Child(Bootp)


class Tftp(Element, tag="tftp"):
    root: str | None = Attr("root")


class Ip(Element, tag="ip", paired=True):
    """One address of the bridge, and what is served on its subnet."""

    family: str | None = Attr("family")
    address: str | None = Attr("address")
    netmask: str | None = Attr("netmask")
    prefix: int | None = Attr("prefix", UInt)
    local_ptr: bool | None = Attr("localPtr", Bool)
    tftp: Tftp | None = Child(Tftp)
    dhcp: Dhcp | None = Child(Dhcp)

    @property
    def interface(self) -> IPInterface:
        """Address and subnet together. Without netmask and prefix the subnet is libvirt's natural one: the address
        class for IPv4, /64 for IPv6."""
        return interface_of(self.address or "", self.netmask, self.prefix)

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.interface.version

    @property
    def serves_dhcp(self) -> bool:
        return self.dhcp is not None and bool(self.dhcp.ranges or self.dhcp.hosts)


class Route(Element, tag="route"):
    """A static route through a guest that is a router."""

    family: str | None = Attr("family")
    address: str | None = Attr("address")
    netmask: str | None = Attr("netmask")
    prefix: int | None = Attr("prefix", UInt)
    gateway: str | None = Attr("gateway")
    metric: int | None = Attr("metric", Int(1))

    @property
    def destination(self) -> IPNetwork:
        return interface_of(self.address or "", self.netmask, self.prefix).network


class PortGroup(Element, tag="portgroup", paired=True):
    """Settings that an interface may name."""

    name: str | None = Attr("name")
    default: str | None = Attr("default")
    trust_guest_rx_filters: bool | None = Attr("trustGuestRxFilters", Bool)
    vlan: Vlan | None = Child(Vlan)
    virtualport: VirtualPort | None = Child(VirtualPort)
    bandwidth: Bandwidth | None = Child(Bandwidth)


class Network(Element, tag="network"):
    """One virtual network. ``connections`` counts the guest interfaces on it and stands in live documents alone."""

    connections: int | None = Attr("connections", UInt)
    ipv6: bool | None = Attr("ipv6", Bool)
    trust_guest_rx_filters: bool | None = Attr("trustGuestRxFilters", Bool)
    name: str | None = Text("name")
    uuid: str | None = Text("uuid", Uuid)
    title: str | None = Text("title")
    description: str | None = Text("description")
    metadata: object = Raw("metadata")
    forward: Forward | None = Child(Forward)
    bridge: Bridge | None = Child(Bridge)
    mtu: Mtu | None = Child(Mtu)
    mac: BridgeMac | None = Child(BridgeMac)
    domain: DnsDomain | None = Child(DnsDomain)
    dns: Dns | None = Child(Dns)
    vlan: Vlan | None = Child(Vlan)
    bandwidth: Bandwidth | None = Child(Bandwidth)
    port: PortOptions | None = Child(PortOptions)
    ips: list[Ip] = Children(Ip)
    routes: list[Route] = Children(Route)
    virtualport: VirtualPort | None = Child(VirtualPort)
    portgroups: list[PortGroup] = Children(PortGroup)

    @property
    def mode(self) -> str:
        """The forward mode, "" for an isolated network."""
        return "" if self.forward is None else self.forward.mode or "nat"

    @property
    def owns_bridge(self) -> bool:
        """Whether starting the network makes its bridge."""
        return self.mode in OWN_BRIDGE

    @property
    def bridge_name(self) -> str | None:
        return self.bridge.name if self.bridge else None

    @property
    def dnsmasq_options(self) -> list[str]:
        """Lines that the document adds to dnsmasq's configuration (libvirt's dnsmasq namespace)."""
        nodes = [node for node in self.extra_nodes if node.tag == DNSMASQ_OPTIONS]
        return [value for node in nodes for child in node if (value := child.get("value"))]

    @property
    def dns_enabled(self) -> bool:
        return self.dns is None or self.dns.enable is not False

    def group(self, name: str | None) -> PortGroup | None:
        """The port group of that name; without a name (or "") the default one. None where there is none."""
        return next((g for g in self.portgroups if (g.name == name if name else g.default == "yes")), None)

    def ips_of(self, version: int) -> list[Ip]:
        """The addresses of one family (4 or 6)."""
        return [ip for ip in self.ips if ip.version == version]

    @property
    def forward_dev(self) -> str | None:
        """The one host device that traffic may leave by, if any is named."""
        if self.forward is None or self.forward.pfs or not self.forward.interfaces:
            return None
        return self.forward.interfaces[0].dev

    def format(self, *, inactive: bool = False) -> str:
        """The document as virsh net-dumpxml shows it; ``inactive`` leaves live facts out."""
        shown = self.copy()
        if inactive or not shown.connections:
            shown.connections = None
        return shown.to_xml()


def interface_of(address: str, netmask: str | None, prefix: int | None) -> IPInterface:
    """Address and subnet from libvirt's three attributes (see :attr:`Ip.interface`).

    Raises ValueError for a malformed one. Source: libvirt 9.0's virSocketAddrGetIPPrefix.
    """
    host = ipaddress.ip_address(address)
    if prefix:
        return ipaddress.ip_interface(f"{host}/{prefix}")
    if netmask:
        return ipaddress.ip_interface(f"{host}/{netmask}")
    if not int(host):
        return ipaddress.ip_interface(f"{host}/0")
    if host.version == 6:
        return ipaddress.ip_interface(f"{host}/64")
    first = host.packed[0]
    for limit, size in ((0x80, 8), (0xC0, 16), (0xE0, 24)):
        if first < limit:
            return ipaddress.ip_interface(f"{host}/{size}")
    raise ValueError(f"{host} has no natural prefix")
