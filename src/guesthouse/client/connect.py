"""Opening a connection, and what one asks of a daemon as a whole."""

from __future__ import annotations

from typing import Any

from guesthouse.client import transport
from guesthouse.client.link import Ask, EventCallback, Link, Session
from guesthouse.client.objects import (
    Domain,
    Interface,
    Network,
    NodeDevice,
    NWFilter,
    NWFilterBinding,
    Secret,
    StoragePool,
    StorageVol,
)
from guesthouse.client.uri import default_uri, parse

_READONLY = 1


def connect(uri: str | None = None, readonly: bool = False, *, ask: Ask | None = None) -> Connect:
    """Open a connection to the daemon that ``uri`` names (None: the default), starting one where that may be.
    ``ask(kind, prompt)`` is asked for the "name" and the "password" where a daemon wants them and no file has them.

    Raises the errors of :mod:`guesthouse.errors`; nothing stays open then.
    """
    uri = uri or default_uri()
    if uri.startswith("test://"):
        from guesthouse.client import offline

        return offline.connect(uri)
    target = parse(uri)
    link = Link(transport.connect(target, readonly))
    try:
        link.authenticate(ask)
        link.call("connect_open", name=target.name, flags=_READONLY if readonly else 0)
    except BaseException:
        link.close()
        raise
    return Connect(link, target.uri)


class Connect(Session):
    """An open connection. Not for several threads at once. Usable as a context manager."""

    # -- the daemon and its host

    def get_type(self) -> str:
        return str(self.call("connect_get_type").type)

    def get_version(self) -> int:
        """The hypervisor's version: major * 1000000 + minor * 1000 + release."""
        return int(self.call("connect_get_version").hv_ver)

    def get_lib_version(self) -> int:
        return int(self.call("connect_get_lib_version").lib_ver)

    def get_hostname(self) -> str:
        return str(self.call("connect_get_hostname").hostname)

    def get_capabilities(self) -> str:
        return str(self.call("connect_get_capabilities").capabilities)

    def get_domain_capabilities(
        self,
        emulator: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
        flags: int = 0,
    ) -> str:
        ret = self.call(
            "connect_get_domain_capabilities",
            emulatorbin=emulator,
            arch=arch,
            machine=machine,
            virttype=virttype,
            flags=flags,
        )
        return str(ret.capabilities)

    def get_max_vcpus(self, kind: str | None = None) -> int:
        return int(self.call("connect_get_max_vcpus", type=kind).max_vcpus)

    def node_get_info(self) -> Any:
        """Record: model, memory (KiB), cpus, mhz, nodes, sockets, cores, threads."""
        return self.call("node_get_info")

    def node_get_security_model(self) -> tuple[str, str]:
        ret = self.call("node_get_security_model")
        return ret.model, ret.doi

    # -- domains

    def list_all_domains(self, flags: int = 0) -> list[Domain]:
        found = self.call("connect_list_all_domains", need_results=1, flags=flags).domains
        return [Domain(self, ref) for ref in found]

    def lookup_by_name(self, name: str) -> Domain:
        return Domain(self, self.call("domain_lookup_by_name", name=name).dom)

    def lookup_by_uuid(self, uuid: str) -> Domain:
        return Domain(self, self.call("domain_lookup_by_uuid", uuid=uuid).dom)

    def lookup_by_id(self, number: int) -> Domain:
        return Domain(self, self.call("domain_lookup_by_id", id=number).dom)

    def define_xml(self, xml: str, flags: int = 0) -> Domain:
        if flags:
            return Domain(self, self.call("domain_define_xml_flags", xml=xml, flags=flags).dom)
        return Domain(self, self.call("domain_define_xml", xml=xml).dom)

    def create_xml(self, xml: str, flags: int = 0) -> Domain:
        return Domain(self, self.call("domain_create_xml", xml_desc=xml, flags=flags).dom)

    def get_all_domain_stats(self, stats: int = 0, flags: int = 0, domains: list[Domain] | None = None) -> list[Any]:
        """Records: dom, and params as typed parameters."""
        ret = self.call("connect_get_all_domain_stats", doms=domains or [], stats=stats, flags=flags)
        return list(ret.retStats)

    # -- networks

    def list_all_networks(self, flags: int = 0) -> list[Network]:
        found = self.call("connect_list_all_networks", need_results=1, flags=flags).nets
        return [Network(self, ref) for ref in found]

    def network_lookup_by_name(self, name: str) -> Network:
        return Network(self, self.call("network_lookup_by_name", name=name).net)

    def network_lookup_by_uuid(self, uuid: str) -> Network:
        return Network(self, self.call("network_lookup_by_uuid", uuid=uuid).net)

    def network_define_xml(self, xml: str, flags: int = 0) -> Network:
        if flags:
            return Network(self, self.call("network_define_xml_flags", xml=xml, flags=flags).net)
        return Network(self, self.call("network_define_xml", xml=xml).net)

    def network_create_xml(self, xml: str, flags: int = 0) -> Network:
        if flags:
            return Network(self, self.call("network_create_xml_flags", xml=xml, flags=flags).net)
        return Network(self, self.call("network_create_xml", xml=xml).net)

    # -- storage

    def list_all_storage_pools(self, flags: int = 0) -> list[StoragePool]:
        found = self.call("connect_list_all_storage_pools", need_results=1, flags=flags).pools
        return [StoragePool(self, ref) for ref in found]

    def storage_pool_lookup_by_name(self, name: str) -> StoragePool:
        return StoragePool(self, self.call("storage_pool_lookup_by_name", name=name).pool)

    def storage_pool_lookup_by_uuid(self, uuid: str) -> StoragePool:
        return StoragePool(self, self.call("storage_pool_lookup_by_uuid", uuid=uuid).pool)

    def storage_pool_lookup_by_target_path(self, path: str) -> StoragePool:
        return StoragePool(self, self.call("storage_pool_lookup_by_target_path", path=path).pool)

    def storage_pool_define_xml(self, xml: str, flags: int = 0) -> StoragePool:
        return StoragePool(self, self.call("storage_pool_define_xml", xml=xml, flags=flags).pool)

    def storage_pool_create_xml(self, xml: str, flags: int = 0) -> StoragePool:
        return StoragePool(self, self.call("storage_pool_create_xml", xml=xml, flags=flags).pool)

    def storage_vol_lookup_by_path(self, path: str) -> StorageVol:
        return StorageVol(self, self.call("storage_vol_lookup_by_path", path=path).vol)

    def storage_vol_lookup_by_key(self, key: str) -> StorageVol:
        return StorageVol(self, self.call("storage_vol_lookup_by_key", key=key).vol)

    # -- secrets

    def list_all_secrets(self, flags: int = 0) -> list[Secret]:
        found = self.call("connect_list_all_secrets", need_results=1, flags=flags).secrets
        return [Secret(self, ref) for ref in found]

    def secret_lookup_by_uuid(self, uuid: str) -> Secret:
        return Secret(self, self.call("secret_lookup_by_uuid", uuid=uuid).secret)

    def secret_lookup_by_usage(self, usage_type: int, usage_id: str) -> Secret:
        return Secret(self, self.call("secret_lookup_by_usage", usageType=usage_type, usageID=usage_id).secret)

    def secret_define_xml(self, xml: str, flags: int = 0) -> Secret:
        return Secret(self, self.call("secret_define_xml", xml=xml, flags=flags).secret)

    # -- network filters

    def list_all_nwfilters(self, flags: int = 0) -> list[NWFilter]:
        found = self.call("connect_list_all_nwfilters", need_results=1, flags=flags).filters
        return [NWFilter(self, ref) for ref in found]

    def nwfilter_lookup_by_name(self, name: str) -> NWFilter:
        return NWFilter(self, self.call("nwfilter_lookup_by_name", name=name).nwfilter)

    def nwfilter_lookup_by_uuid(self, uuid: str) -> NWFilter:
        return NWFilter(self, self.call("nwfilter_lookup_by_uuid", uuid=uuid).nwfilter)

    def nwfilter_define_xml(self, xml: str, flags: int = 0) -> NWFilter:
        if flags:
            return NWFilter(self, self.call("nwfilter_define_xml_flags", xml=xml, flags=flags).nwfilter)
        return NWFilter(self, self.call("nwfilter_define_xml", xml=xml).nwfilter)

    def list_all_nwfilter_bindings(self, flags: int = 0) -> list[NWFilterBinding]:
        found = self.call("connect_list_all_nwfilter_bindings", need_results=1, flags=flags).bindings
        return [NWFilterBinding(self, ref) for ref in found]

    def nwfilter_binding_lookup_by_port_dev(self, name: str) -> NWFilterBinding:
        return NWFilterBinding(self, self.call("nwfilter_binding_lookup_by_port_dev", name=name).nwfilter)

    def nwfilter_binding_create_xml(self, xml: str, flags: int = 0) -> NWFilterBinding:
        return NWFilterBinding(self, self.call("nwfilter_binding_create_xml", xml=xml, flags=flags).nwfilter)

    # -- devices and interfaces of the host

    def list_all_devices(self, flags: int = 0) -> list[NodeDevice]:
        found = self.call("connect_list_all_node_devices", need_results=1, flags=flags).devices
        return [NodeDevice(self, ref) for ref in found]

    def node_device_lookup_by_name(self, name: str) -> NodeDevice:
        return NodeDevice(self, self.call("node_device_lookup_by_name", name=name).dev)

    def node_device_lookup_scsi_host_by_wwn(self, wwnn: str, wwpn: str, flags: int = 0) -> NodeDevice:
        ret = self.call("node_device_lookup_scsi_host_by_wwn", wwnn=wwnn, wwpn=wwpn, flags=flags)
        return NodeDevice(self, ret.dev)

    def node_device_create_xml(self, xml: str, flags: int = 0) -> NodeDevice:
        return NodeDevice(self, self.call("node_device_create_xml", xml_desc=xml, flags=flags).dev)

    def node_device_define_xml(self, xml: str, flags: int = 0) -> NodeDevice:
        return NodeDevice(self, self.call("node_device_define_xml", xml_desc=xml, flags=flags).dev)

    def list_all_interfaces(self, flags: int = 0) -> list[Interface]:
        found = self.call("connect_list_all_interfaces", need_results=1, flags=flags).ifaces
        return [Interface(self, ref) for ref in found]

    def interface_lookup_by_name(self, name: str) -> Interface:
        return Interface(self, self.call("interface_lookup_by_name", name=name).iface)

    def interface_lookup_by_mac_string(self, mac: str) -> Interface:
        return Interface(self, self.call("interface_lookup_by_mac_string", mac=mac).iface)

    def interface_define_xml(self, xml: str, flags: int = 0) -> Interface:
        return Interface(self, self.call("interface_define_xml", xml=xml, flags=flags).iface)

    # -- events

    def domain_event_register_any(self, dom: Domain | None, event_id: int, callback: EventCallback) -> int:
        """As :meth:`register_event` for guests; returns the number of the registration."""
        return self.register_event("domain", event_id, dom, callback)

    def monitor_event_register(
        self, dom: Domain | None, event: str | None, callback: EventCallback, flags: int = 0
    ) -> int:
        """Have ``callback`` called with QEMU's own events of one guest or of all: those called ``event``, or that it
        matches as a regular expression (``flags`` 1; 2: in any case), None for all."""
        ret = self.call("qemu_connect_domain_monitor_event_register", dom=dom, event=event, flags=flags)
        return self.callbacks.add(("qemu", 0, str(ret.callbackID)), ret.callbackID, callback)

    def network_event_register_any(self, net: Network | None, event_id: int, callback: EventCallback) -> int:
        return self.register_event("network", event_id, net, callback)

    def storage_pool_event_register_any(self, pool: StoragePool | None, event_id: int, callback: EventCallback) -> int:
        return self.register_event("storage_pool", event_id, pool, callback)

    def node_device_event_register_any(self, dev: NodeDevice | None, event_id: int, callback: EventCallback) -> int:
        return self.register_event("node_device", event_id, dev, callback)

    def secret_event_register_any(self, secret: Secret | None, event_id: int, callback: EventCallback) -> int:
        return self.register_event("secret", event_id, secret, callback)
