"""Virtual networks and their ports."""

from __future__ import annotations

from typing import Any

from guesthouse.libvirt.objects import Handle, Object, declared, integer, string, unsigned, uuid_bytes

_LEASE = ("iface", "expirytime", "type", "mac", "ipaddr", "prefix", "hostname", "clientid", "iaid")
_UPDATE_ORDER = 16  # the feature of a side that takes an update's command and section in their order


@declared(
    """
DHCPLeases(mac=None,flags=0) network_get_dhcp_leases -> [lease(x) for x in r.leases]
XMLDesc(flags=0) network_get_xml_desc
autostart() network_get_autostart
bridgeName() network_get_bridge_name
create() network_create
destroy() network_destroy
isActive() network_is_active
isPersistent() network_is_persistent
listAllPorts(flags=0) network_list_all_ports
portCreateXML(xmldesc,flags=0) network_port_create_xml
portLookupByUUIDString(uuidstr) network_port_lookup_by_uuid uuid=uuid_text(uuidstr,'virNetworkPortLookupByUUIDString')
portLookupByUUID(uuid) network_port_lookup_by_uuid uuid=uuid_of(uuid,'virNetworkPortLookupByUUID')
setAutostart(autostart) network_set_autostart
undefine() network_undefine
""",
    lease=lambda lease: {name: getattr(lease, name) for name in _LEASE},
)
class virNetwork(Object):
    """A virtual network."""

    _kind = "nonnull_network"

    def name(self) -> str:
        return str(self._o.ref[0])

    def UUID(self) -> bytes:
        return uuid_bytes(self._o.ref[1])

    def UUIDString(self) -> str:
        return str(self._o.ref[1])

    def update(self, command: int, section: int, parentIndex: int, xml: str, flags: int = 0) -> int:
        """Change a part of the definition. Sides without the feature have the first two the other way round."""
        session, function = self._o.session, "virNetworkUpdate"
        if not session.has_feature(_UPDATE_ORDER):
            command, section = section, command
        args: dict[str, Any] = {
            "command": unsigned(command),
            "section": unsigned(section),
            "parentIndex": integer(parentIndex),
        }
        args |= {"xml": string(xml, function, "xml"), "flags": unsigned(flags)}
        session.call(function, "network_update", {"net": self._o.ref, **args})
        return 0


@declared("""
XMLDesc(flags=0) network_port_get_xml_desc
delete(flags=0) network_port_delete
parameters(flags=0) network_port_get_parameters
setParameters(params,flags=0) network_port_set_parameters params=fit(o,'virNetworkPortGetParameters','network_port_get_parameters',params,{'port':o.ref,'flags':flags})
""")
class virNetworkPort(Object):
    """A port of a virtual network."""

    _kind = "nonnull_network_port"

    def __init__(self, net: Any, _obj: Handle | None = None) -> None:
        super().__init__(net, _obj)
        self._net = net

    def network(self) -> Any:
        """The network that it is a port of."""
        return self._net

    def UUID(self) -> bytes:
        return uuid_bytes(self._o.ref[1])

    def UUIDString(self) -> str:
        return str(self._o.ref[1])
