"""<networkport>: who is plugged into a network, and how; in libvirt 9.0's vocabulary and element order."""

from __future__ import annotations

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, Domain, GuesthouseError, InternalError, OperationUnsupported, XMLDetail
from guesthouse.model import bandwidth
from guesthouse.model.bandwidth import Bandwidth
from guesthouse.model.fields import Attr, Bool, Child, Choice, Element, Text
from guesthouse.model.network import Network, PortOptions, Vlan
from guesthouse.model.virtualport import VirtualPort


class PortOwner(Element, tag="owner"):
    """The guest."""

    name: str | None = Text("name")
    uuid: str | None = Text("uuid")


class PortMac(Element, tag="mac"):
    address: str | None = Attr("address")


class RxFilters(Element, tag="rxfilters"):
    trust_guest: bool | None = Attr("trustGuest", Bool)


class PortPlug(Element, tag="plug"):
    """What the port is on the host; ``bridge`` for the type "network"."""

    type: str | None = Attr("type", Choice("none", "network", "bridge", "direct", "hostdev-pci"))
    bridge: str | None = Attr("bridge")
    mac_table_manager: str | None = Attr("macTableManager", Choice("kernel", "libvirt"))
    dev: str | None = Attr("dev")
    mode: str | None = Attr("mode")
    managed: bool | None = Attr("managed", Bool)


class NetworkPort(Element, tag="networkport"):
    """One port of a network."""

    uuid: str | None = Text("uuid")
    owner: PortOwner | None = Child(PortOwner)
    group: str | None = Text("group")
    mac: PortMac | None = Child(PortMac)
    virtualport: VirtualPort | None = Child(VirtualPort)
    bandwidth: Bandwidth | None = Child(Bandwidth)
    vlan: Vlan | None = Child(Vlan)
    rxfilters: RxFilters | None = Child(RxFilters)
    port: PortOptions | None = Child(PortOptions)
    plug: PortPlug | None = Child(PortPlug)

    @property
    def mac_address(self) -> str:
        return (self.mac and self.mac.address) or ""

    @property
    def owner_uuid(self) -> str:
        return (self.owner and self.owner.uuid) or ""


def parse(text: str) -> NetworkPort:
    """The port that a document from outside describes. Raises libvirt's errors."""
    try:
        port = NetworkPort.from_xml(text)
    except XMLDetail as error:
        raise XMLDetail(error.detail, domain=Domain.NETWORK) from error
    port.uuid = _uuid(port.uuid, "network port has no uuid")
    owner = port.owner or PortOwner()
    if not owner.name:
        raise _wrong("network port has no owner name")
    owner.uuid = _uuid(owner.uuid, "network port has no owner UUID")
    if port.mac is None or port.mac.address is None:
        raise _wrong("network port has no mac")
    try:
        port.mac.address = units.parse_mac(port.mac.address)
    except GuesthouseError as error:
        raise _wrong(f"Unable to parse MAC '{port.mac.address}'") from error
    port.bandwidth = bandwidth.check(port.bandwidth, floor=True)
    if port.plug and port.plug.type == "none":
        port.plug = None
    return port


def _wrong(text: str) -> InternalError:
    return InternalError(text, domain=Domain.NETWORK)


def _uuid(text: str | None, missing: str) -> str:
    if not text:
        raise _wrong(missing)
    try:
        return units.parse_uuid(text)
    except GuesthouseError as error:
        raise _wrong(f"Unable to parse UUID '{text}'") from error


def settle(port: NetworkPort, network: Network) -> None:
    """Give a port what its group and its network say, and the network's bridge, if it has one; ``port`` is changed.

    Raises ConfigUnsupported and OperationUnsupported for what a bridge's port cannot have.
    """
    group = network.group(port.group)
    virtualport = port.virtualport or network.virtualport or (group.virtualport if group else None)
    if virtualport is not None and network.owns_bridge:
        text = (
            f"<virtualport type='{virtualport.type or 'none'}'> not supported for network '{network.name}' which uses"
        )
        raise ConfigUnsupported(f"{text} IP forwarding", domain=Domain.NETWORK)
    if virtualport is not None and not network.bridge_name:
        port.virtualport = virtualport.copy()
    elif virtualport is not None:
        raise ConfigUnsupported(
            f"<virtualport> on network '{network.name}' is not supported yet", domain=Domain.NETWORK
        )
    if port.bandwidth is None and group is not None and group.bandwidth is not None:
        port.bandwidth = group.bandwidth.copy()
    check_floor(port, network)
    vlan = port.vlan or (group and group.vlan) or network.vlan
    port.vlan = vlan.copy() if vlan else None
    if port.rxfilters is None:
        trusts = [s.trust_guest_rx_filters for s in (group, network) if s is not None]
        trust = next((t for t in trusts if t is not None), None)
        port.rxfilters = RxFilters(trust_guest=trust) if trust is not None else None
    if port.port is None and network.port is not None:
        port.port = network.port.copy()
    if network.bridge_name:
        manager = network.bridge.mac_table_manager if network.bridge else None
        kind = "network" if network.owns_bridge else "bridge"
        port.plug = PortPlug(type=kind, bridge=network.bridge_name, mac_table_manager=manager)


def check_floor(port: NetworkPort, network: Network) -> None:
    """Raises where the port is to get a least share of its network's traffic."""
    inbound = port.bandwidth.inbound if port.bandwidth else None
    if inbound is None or not inbound.floor:
        return
    if network.bandwidth is None or network.bandwidth.inbound is None:
        text = f"Invalid use of 'floor' on interface with MAC address {port.mac_address} - network '{network.name}'"
        raise OperationUnsupported(f"{text} has no inbound QoS set", domain=Domain.NETWORK)
    text = f"'floor' in <bandwidth> of interface {port.mac_address} is not supported yet"
    raise ConfigUnsupported(text, domain=Domain.NETWORK)
