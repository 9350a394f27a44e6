"""``<interface>`` of the host: ethernet devices, bridges, bonds and VLANs, in libvirt 9.0's vocabulary and order."""

from __future__ import annotations

from guesthouse.model.fields import Attr, Child, Children, Choice, Element, Int, OnOff, UInt

#: How bonds choose a port, in the order of the kernel's numbers.
BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")


class Start(Element, tag="start"):
    mode: str | None = Attr("mode", Choice("onboot", "none", "hotplug"))


class Mtu(Element, tag="mtu"):
    size: int | None = Attr("size", UInt)


class Dhcp(Element, tag="dhcp"):
    peerdns: str | None = Attr("peerdns", Choice("yes", "no"))


class Autoconf(Element, tag="autoconf"):
    pass


class Ip(Element, tag="ip"):
    address: str | None = Attr("address")
    prefix: int | None = Attr("prefix", Int(0, 128))


class Route(Element, tag="route"):
    gateway: str | None = Attr("gateway")


class Protocol(Element, tag="protocol", paired=True):
    """The addresses of one family, or how they are got."""

    family: str | None = Attr("family", Choice("ipv4", "ipv6"))
    autoconf: Autoconf | None = Child(Autoconf)
    dhcp: Dhcp | None = Child(Dhcp)
    ips: list[Ip] = Children(Ip)
    routes: list[Route] = Children(Route)


class Link(Element, tag="link"):
    """The speed is in Mbit/s."""

    speed: int | None = Attr("speed", UInt)
    state: str | None = Attr("state")


class Mac(Element, tag="mac"):
    address: str | None = Attr("address")


class VlanDevice(Element, tag="interface"):
    name: str | None = Attr("name")


class Vlan(Element, tag="vlan", paired=True):
    tag: int | None = Attr("tag", UInt)
    interface: VlanDevice | None = Child(VlanDevice)


class Miimon(Element, tag="miimon"):
    freq: int | None = Attr("freq", UInt)
    downdelay: int | None = Attr("downdelay", UInt)
    updelay: int | None = Attr("updelay", UInt)
    carrier: str | None = Attr("carrier", Choice("ioctl", "netif"))


class Arpmon(Element, tag="arpmon"):
    interval: int | None = Attr("interval", UInt)
    target: str | None = Attr("target")
    validate: str | None = Attr("validate", Choice("none", "active", "backup", "all"))


class BondPort(Element, tag="interface", paired=True):
    type: str | None = Attr("type", Choice("ethernet"))
    name: str | None = Attr("name")
    link: Link | None = Child(Link)
    mac: Mac | None = Child(Mac)


class Bond(Element, tag="bond", paired=True):
    mode: str | None = Attr("mode", Choice(*BOND_MODES))
    miimon: Miimon | None = Child(Miimon)
    arpmon: Arpmon | None = Child(Arpmon)
    ports: list[BondPort] = Children(BondPort)


class BridgePort(Element, tag="interface", paired=True):
    type: str | None = Attr("type", Choice("ethernet", "bond", "vlan"))
    name: str | None = Attr("name")
    link: Link | None = Child(Link)
    mac: Mac | None = Child(Mac)
    bond: Bond | None = Child(Bond)
    vlan: Vlan | None = Child(Vlan)


class Bridge(Element, tag="bridge", paired=True):
    stp: bool | None = Attr("stp", OnOff)
    delay: str | None = Attr("delay")
    ports: list[BridgePort] = Children(BridgePort)


class Interface(Element, tag="interface", paired=True):
    """An interface; as a port of a bridge or a bond it says less."""

    type: str | None = Attr("type", Choice("ethernet", "bridge", "bond", "vlan"))
    name: str | None = Attr("name")
    start: Start | None = Child(Start)
    mtu: Mtu | None = Child(Mtu)
    protocols: list[Protocol] = Children(Protocol)
    link: Link | None = Child(Link)
    mac: Mac | None = Child(Mac)
    bridge: Bridge | None = Child(Bridge)
    bond: Bond | None = Child(Bond)
    vlan: Vlan | None = Child(Vlan)
