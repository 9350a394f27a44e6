"""<interface>: a network card and what it is plugged into."""

from __future__ import annotations

from typing import Any, Self

from guesthouse.model.bandwidth import Bandwidth
from guesthouse.model.devices.address import AcpiIndex, Address, Alias, Boot
from guesthouse.model.devices.chardev import Reconnect
from guesthouse.model.devices.port_forward import PortForward
from guesthouse.model.fields import (
    Attr,
    Bool,
    Child,
    Children,
    Choice,
    Element,
    Hex,
    Mac,
    OnOff,
    Positive,
    Raw,
    Text,
    UInt,
)
from guesthouse.model.virtualport import VirtualPort

TYPES = (
    *("network", "bridge", "user", "ethernet", "direct", "vhostuser", "hostdev", "internal", "server", "client"),
    *("mcast", "udp", "vdpa", "null", "vds"),
)

#: Those whose host end is a tap.
TAPPED = ("network", "bridge", "direct", "ethernet")


class MacAddress(Element, tag="mac"):
    address: str | None = Attr("address", Mac, alias=("mac",))
    type: str | None = Attr("type", Choice("generated", "static"))
    check: bool | None = Attr("check", Bool)


class SocketEnd(Element, tag="local"):
    """This host's end of a UDP pair."""

    address: str | None = Attr("address")
    port: int | None = Attr("port", UInt)


class SourcePlace(Element, tag="address"):
    """Of a card that the guest gets whole: where the host has it."""

    type: str | None = Attr("type", Choice("pci", "usb"))
    domain: int | None = Attr("domain", Hex(4))
    bus: int | None = Attr("bus", Hex(2))
    slot: int | None = Attr("slot", Hex(2))
    function: int | None = Attr("function", Hex(1))


class Teaming(Element, tag="teaming"):
    """A card that stands in for one that has to leave the guest before it migrates."""

    type: str | None = Attr("type", Choice("persistent", "transient"), required=True)
    persistent: str | None = Attr("persistent")


class Tune(Element, tag="tune"):
    """``sndbuf``: bytes that the tap holds."""

    sndbuf: int | None = Text("sndbuf", UInt)


class Frames(Element, tag="frames"):
    max: int | None = Attr("max", UInt)


class CoalesceRx(Element, tag="rx"):
    frames: Frames | None = Child(Frames)


class Coalesce(Element, tag="coalesce"):
    """How many frames the tap gathers before it tells."""

    rx: CoalesceRx | None = Child(CoalesceRx)


class Script(Element, tag="script"):
    """A program of the host's that sets up, or takes down, the tap."""

    path: str | None = Attr("path", required=True)


class Downscript(Script, tag="downscript"):
    pass


class IpAddress(Element, tag="ip"):
    """An address of the guest's end, or of the host's where it stands in the source."""

    address: str | None = Attr("address")
    family: str | None = Attr("family")
    prefix: int | None = Attr("prefix", UInt)
    peer: str | None = Attr("peer")


class Route(Element, tag="route"):
    family: str | None = Attr("family")
    address: str | None = Attr("address")
    netmask: str | None = Attr("netmask")
    prefix: int | None = Attr("prefix", UInt)
    gateway: str | None = Attr("gateway")
    metric: int | None = Attr("metric", Positive)


class InterfaceSource(Element, tag="source"):
    """One of these, by the interface's type; ``portid`` and, for networks, ``bridge`` are live facts."""

    network: str | None = Attr("network", alias=("network",))
    name: str | None = Attr("name")
    portgroup: str | None = Attr("portgroup", alias=("portgroup",))
    portid: str | None = Attr("portid")
    bridge: str | None = Attr("bridge", alias=("bridge",))
    dev: str | None = Attr("dev")
    type: str | None = Attr("type", alias=("source_type",))
    path: str | None = Attr("path", alias=("source_path",))
    mode: str | None = Attr("mode", alias=("source_mode",))
    address: str | None = Attr("address")
    port: int | None = Attr("port", UInt)
    reconnect: Reconnect | None = Child(Reconnect)
    local: SocketEnd | None = Child(SocketEnd)
    place: SourcePlace | None = Child(SourcePlace)
    ips: list[IpAddress] = Children(IpAddress)
    routes: list[Route] = Children(Route)


class InterfaceTarget(Element, tag="target"):
    """The host's end: the tap's name."""

    dev: str | None = Attr("dev", alias=("target",))
    managed: bool | None = Attr("managed", Bool)


class Model(Element, tag="model"):
    type: str | None = Attr("type", alias=("model",))


class HostOffloads(Element, tag="host"):
    """What the guest may leave to the host; what is not said is QEMU's to choose."""

    csum: bool | None = Attr("csum", OnOff)
    gso: bool | None = Attr("gso", OnOff)
    tso4: bool | None = Attr("tso4", OnOff)
    tso6: bool | None = Attr("tso6", OnOff)
    ecn: bool | None = Attr("ecn", OnOff)
    ufo: bool | None = Attr("ufo", OnOff)
    mrg_rxbuf: bool | None = Attr("mrg_rxbuf", OnOff)


class GuestOffloads(Element, tag="guest"):
    """What the host may leave to the guest."""

    csum: bool | None = Attr("csum", OnOff)
    tso4: bool | None = Attr("tso4", OnOff)
    tso6: bool | None = Attr("tso6", OnOff)
    ecn: bool | None = Attr("ecn", OnOff)
    ufo: bool | None = Attr("ufo", OnOff)


class InterfaceDriver(Element, tag="driver", hollow=True):
    name: str | None = Attr("name", alias=("driver_name",))
    txmode: str | None = Attr("txmode")
    ioeventfd: bool | None = Attr("ioeventfd", OnOff)
    event_idx: bool | None = Attr("event_idx", OnOff)
    queues: int | None = Attr("queues", UInt, alias=("driver_queues",))
    rx_queue_size: int | None = Attr("rx_queue_size", UInt)
    tx_queue_size: int | None = Attr("tx_queue_size", UInt)
    rss: bool | None = Attr("rss", OnOff)
    rss_hash_report: bool | None = Attr("rss_hash_report", OnOff)
    iommu: bool | None = Attr("iommu", OnOff)
    ats: bool | None = Attr("ats", OnOff)
    packed: bool | None = Attr("packed", OnOff)
    page_per_vq: bool | None = Attr("page_per_vq", OnOff)
    host: HostOffloads | None = Child(HostOffloads)
    guest: GuestOffloads | None = Child(GuestOffloads)


class Link(Element, tag="link"):
    state: str | None = Attr("state", Choice("up", "down"), alias=("link_state",))


class Mtu(Element, tag="mtu"):
    size: int | None = Attr("size", UInt)


class InterfaceBackend(Element, tag="backend", hollow=True):
    type: str | None = Attr("type", Choice("default", "passt"))
    tap: str | None = Attr("tap")
    vhost: str | None = Attr("vhost")
    log_file: str | None = Attr("logFile")


class InterfaceRom(Element, tag="rom", hollow=True):
    enabled: bool | None = Attr("enabled", Bool)
    bar: bool | None = Attr("bar", OnOff, alias=("rom_bar",))
    file: str | None = Attr("file", alias=("rom_file",))


class FilterParameter(Element, tag="parameter"):
    """A value of a filter's variable; several of one name are a list."""

    name: str | None = Attr("name")
    value: str | None = Attr("value")


class FilterRef(Element, tag="filterref"):
    """The filter that the card's traffic goes through, and the values of the filter's variables."""

    filter: str | None = Attr("filter", alias=("filterref",))
    parameters: list[FilterParameter] = Children(FilterParameter)

    @classmethod
    def _parse(cls, node: Any) -> Self:
        found = super()._parse(node)
        found.parameters.sort(key=lambda parameter: parameter.name or "")  # as libvirt writes them
        return found

    @property
    def values(self) -> dict[str, list[str]]:
        """The parameters by name."""
        found: dict[str, list[str]] = {}
        for parameter in self.parameters:
            if parameter.name and parameter.value:
                found.setdefault(parameter.name, []).append(parameter.value)
        return found


class InterfacePort(Element, tag="port"):
    isolated: bool | None = Attr("isolated", Bool)


class Interface(Element, tag="interface"):
    """A network card."""

    type: str = Attr("type", Choice(*TYPES), default="user")
    managed: bool | None = Attr("managed", Bool)
    trust_guest_rx_filters: bool | None = Attr("trustGuestRxFilters", Bool)
    mac: MacAddress | None = Child(MacAddress)
    source: InterfaceSource | None = Child(InterfaceSource)
    vlan: object = Raw("vlan")
    virtualport: VirtualPort | None = Child(VirtualPort)
    bandwidth: Bandwidth | None = Child(Bandwidth)
    port: InterfacePort | None = Child(InterfacePort)
    ips: list[IpAddress] = Children(IpAddress)
    routes: list[Route] = Children(Route)
    port_forwards: list[PortForward] = Children(PortForward)
    script: Script | None = Child(Script)
    downscript: Downscript | None = Child(Downscript)
    target: InterfaceTarget | None = Child(InterfaceTarget)
    guest: object = Raw("guest")
    model: Model | None = Child(Model)
    driver: InterfaceDriver | None = Child(InterfaceDriver)
    backend: InterfaceBackend | None = Child(InterfaceBackend)
    filterref: FilterRef | None = Child(FilterRef)
    tune: Tune | None = Child(Tune)
    teaming: Teaming | None = Child(Teaming)
    link: Link | None = Child(Link)
    mtu: Mtu | None = Child(Mtu)
    coalesce: Coalesce | None = Child(Coalesce)
    boot: Boot | None = Child(Boot)
    alias: Alias | None = Child(Alias)
    rom: InterfaceRom | None = Child(InterfaceRom)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)

    @property
    def mac_address(self) -> str:
        """The MAC, "" before one is chosen."""
        return (self.mac and self.mac.address) or ""

    def set_tap(self, name: str) -> None:
        """Note the host's end of a live interface."""
        if self.target is None:
            self.target = InterfaceTarget()
        self.target.dev = name
