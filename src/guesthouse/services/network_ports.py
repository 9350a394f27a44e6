"""The ports of networks as clients see them: who is plugged in, how, and how fast."""

from __future__ import annotations

from typing import Any

from guesthouse.errors import ConfigUnsupported, Domain, InvalidArg, UnknownError, check_flags
from guesthouse.model.bandwidth import Bandwidth, Inbound, Outbound
from guesthouse.model.devices.interface import Interface
from guesthouse.model.network_port import NetworkPort, check_floor, parse, settle
from guesthouse.network import shaping
from guesthouse.services import network_pools
from guesthouse.services.admission import Named, admit
from guesthouse.services.network_runtime import Port, Running, in_thread
from guesthouse.services.networks import Networks
from guesthouse.services.refs import NetworkPortRef, NetworkRef

_RECLAIM, _VALIDATE = 1, 2
_EXISTS, _MISSING = 106, 107  # libvirt's errors of ports
_RATES = ("average", "peak", "floor", "burst")


class NetworkPorts:
    """libvirt's procedures of network ports. A guest's interface is a port while the guest runs; a port that a client
    makes counts, and has no device."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def _find(self, port: NetworkPortRef) -> tuple[Running, Port]:
        running = self._networks.entry(port.net).active()
        found = running.ports.get(port.uuid)
        if found is None:
            text = f"network port not found: Network port with UUID {port.uuid} does not exist"
            raise UnknownError(text, number=_MISSING, domain=Domain.NETWORK)
        return running, found

    def list_all(self, network: NetworkRef, flags: int) -> list[NetworkPortRef]:
        check_flags(flags, 0, "networkListAllPorts", Domain.NETWORK)
        entry = self._networks.entry(network)
        return [NetworkPortRef(entry.ref, uuid) for uuid in entry.active().ports]

    def lookup_by_uuid(self, network: NetworkRef, uuid: str) -> NetworkPortRef:
        ref = NetworkPortRef(self._networks.entry(network).ref, uuid)
        self._find(ref)
        return ref

    def get_xml_desc(self, port: NetworkPortRef, flags: int) -> str:
        check_flags(flags, 0, "networkPortGetXMLDesc", Domain.NETWORK)
        return self._find(port)[1].element.to_xml()

    def create_xml(self, network: NetworkRef, xml: str, flags: int) -> NetworkPortRef:
        """Make a port that its network counts. It gets what its group and the network say, unless it is one that was
        lost and is claimed again, plug and all."""
        check_flags(flags, _RECLAIM | _VALIDATE, "networkPortCreateXML", Domain.NETWORK)
        entry = self._networks.entry(network)
        running = entry.active()
        element = parse(xml)
        uuid = element.uuid or ""
        admit(Named("network_port", uuid, uuid, within=entry.name))
        if element.uuid in running.ports:
            text = f"network port Network port with UUID {element.uuid} already exists exists already"
            raise UnknownError(text, number=_EXISTS, domain=Domain.NETWORK)
        if flags & _RECLAIM:
            if element.plug is None:
                raise InvalidArg("Port reclaim requested but plug type is none", domain=Domain.NETWORK)
        elif element.plug is not None:
            raise InvalidArg("Port reclaim not requested but plug type is not none", domain=Domain.NETWORK)
        else:
            settle(element, running.network)
            network_pools.assign(element, running.network, [other.element for other in running.ports.values()])
        _forget_unknown(element)
        running.ports[element.uuid or ""] = Port(element, None)
        self._networks.runtime.save(running)
        return NetworkPortRef(entry.ref, element.uuid or "")

    def delete(self, port: NetworkPortRef, flags: int) -> None:
        """Count a port out. A guest that has it keeps its tap."""
        check_flags(flags, 0, "networkPortDelete", Domain.NETWORK)
        running, _found = self._find(port)
        del running.ports[port.uuid]
        self._networks.runtime.save(running)

    def get_parameters(self, port: NetworkPortRef, flags: int) -> dict[str, tuple[str, Any]]:
        """The limits: of each direction that has one, every rate, 0 for none."""
        check_flags(flags, 0, "networkPortGetParameters", Domain.NETWORK)
        bandwidth = self._find(port)[1].element.bandwidth or Bandwidth()
        params: dict[str, tuple[str, Any]] = {}
        for way, rate in (("inbound", bandwidth.inbound), ("outbound", bandwidth.outbound)):
            for name in _RATES if rate is not None else ():
                if hasattr(rate, name):
                    params[f"{way}.{name}"] = ("uint", getattr(rate, name) or 0)
        return params

    async def set_parameters(self, port: NetworkPortRef, params: list[Any], flags: int) -> None:
        """Give a port new limits in the place of all that it had; they hold at once where a guest has it."""
        check_flags(flags, 0, "networkPortSetParameters", Domain.NETWORK)
        running, found = self._find(port)
        inbound, outbound = Inbound(), Outbound()
        for param in params:
            name = param.field
            way, _, rate = name.partition(".")
            target = {"inbound": inbound, "outbound": outbound}.get(way)
            if target is None or rate not in _RATES or not hasattr(target, rate):
                raise InvalidArg(f"parameter '{name}' not supported", domain=Domain.NETWORK)
            if param.kind != "uint":
                text = f"invalid type '{param.kind}' for parameter '{name}', expected 'uint'"
                raise InvalidArg(text, domain=Domain.NETWORK)
            setattr(target, rate, param.value or None)
        bandwidth = Bandwidth(
            inbound=inbound if inbound.average or inbound.floor else None,
            outbound=outbound if outbound.average else None,
        )
        changed = found.element.copy()
        changed.bandwidth = bandwidth
        check_floor(changed, running.network)
        if found.tap is not None:
            await in_thread(shaping.limit, found.tap, bandwidth)
        found.element = changed
        self._networks.runtime.save(running)

    async def limit(self, iface: Interface, bandwidth: Bandwidth | None) -> None:
        """Make ``bandwidth`` the limit of a guest's plugged interface, and of its port. ``iface`` is not changed."""
        tap = iface.target.dev if iface.target else None
        portid = iface.source.portid if iface.source else None
        floor = bandwidth.inbound.floor if bandwidth and bandwidth.inbound else None
        running = port = None
        if iface.type == "network" and iface.source and portid:
            running = self._networks.by_name(iface.source.network or "").running
            port = running.ports.get(portid) if running else None
        if port is not None and running is not None:
            changed = port.element.copy()
            changed.bandwidth = bandwidth
            check_floor(changed, running.network)
        elif floor:
            raise ConfigUnsupported("floor attribute is not supported for this config")
        if tap:
            limits = shaping.turned(bandwidth) if iface.type == "direct" else bandwidth
            await in_thread(shaping.limit, tap, limits)
        if port is not None and running is not None:
            port.element = changed
            self._networks.runtime.save(running)


def _forget_unknown(element: NetworkPort) -> None:
    """Ports are what their network makes of them: what libvirt has no name for is not kept."""
    element.extra_nodes.clear()
    element.extra_attributes.clear()
