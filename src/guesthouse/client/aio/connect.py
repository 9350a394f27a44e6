# Generated from client/connect.py by tests/support/asyncify.py: edit that file, then run it.
"""Opening a connection, and what one asks of a daemon as a whole."""

from __future__ import annotations

from typing import Any

from guesthouse.client.aio.objects import (
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
from guesthouse.client.aio.session import Session
from guesthouse.client.link import EventCallback


class Connect(Session):
    """An open connection. Not for several threads at once. Usable as a context manager."""

    async def get_type(self) -> str:
        return str((await self.call("connect_get_type")).type)

    async def get_version(self) -> int:
        """The hypervisor's version: major * 1000000 + minor * 1000 + release."""
        return int((await self.call("connect_get_version")).hv_ver)

    async def get_lib_version(self) -> int:
        return int((await self.call("connect_get_lib_version")).lib_ver)

    async def get_hostname(self) -> str:
        return str((await self.call("connect_get_hostname")).hostname)

    async def get_capabilities(self) -> str:
        return str((await self.call("connect_get_capabilities")).capabilities)

    async def get_domain_capabilities(
        self,
        emulator: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
        flags: int = 0,
    ) -> str:
        ret = await self.call(
            "connect_get_domain_capabilities",
            emulatorbin=emulator,
            arch=arch,
            machine=machine,
            virttype=virttype,
            flags=flags,
        )
        return str(ret.capabilities)

    async def get_max_vcpus(self, kind: str | None = None) -> int:
        return int((await self.call("connect_get_max_vcpus", type=kind)).max_vcpus)

    async def node_get_info(self) -> Any:
        """Record: model, memory (KiB), cpus, mhz, nodes, sockets, cores, threads."""
        return await self.call("node_get_info")

    async def node_get_security_model(self) -> tuple[str, str]:
        ret = await self.call("node_get_security_model")
        return (ret.model, ret.doi)

    async def list_all_domains(self, flags: int = 0) -> list[Domain]:
        found = (await self.call("connect_list_all_domains", need_results=1, flags=flags)).domains
        return [Domain(self, ref) for ref in found]

    async def lookup_by_name(self, name: str) -> Domain:
        return Domain(self, (await self.call("domain_lookup_by_name", name=name)).dom)

    async def lookup_by_uuid(self, uuid: str) -> Domain:
        return Domain(self, (await self.call("domain_lookup_by_uuid", uuid=uuid)).dom)

    async def lookup_by_id(self, number: int) -> Domain:
        return Domain(self, (await self.call("domain_lookup_by_id", id=number)).dom)

    async def define_xml(self, xml: str, flags: int = 0) -> Domain:
        if flags:
            return Domain(self, (await self.call("domain_define_xml_flags", xml=xml, flags=flags)).dom)
        return Domain(self, (await self.call("domain_define_xml", xml=xml)).dom)

    async def create_xml(self, xml: str, flags: int = 0) -> Domain:
        return Domain(self, (await self.call("domain_create_xml", xml_desc=xml, flags=flags)).dom)

    async def get_all_domain_stats(
        self, stats: int = 0, flags: int = 0, domains: list[Domain] | None = None
    ) -> list[Any]:
        """Records: dom, and params as typed parameters."""
        ret = await self.call("connect_get_all_domain_stats", doms=domains or [], stats=stats, flags=flags)
        return list(ret.retStats)

    async def list_all_networks(self, flags: int = 0) -> list[Network]:
        found = (await self.call("connect_list_all_networks", need_results=1, flags=flags)).nets
        return [Network(self, ref) for ref in found]

    async def network_lookup_by_name(self, name: str) -> Network:
        return Network(self, (await self.call("network_lookup_by_name", name=name)).net)

    async def network_lookup_by_uuid(self, uuid: str) -> Network:
        return Network(self, (await self.call("network_lookup_by_uuid", uuid=uuid)).net)

    async def network_define_xml(self, xml: str, flags: int = 0) -> Network:
        if flags:
            return Network(self, (await self.call("network_define_xml_flags", xml=xml, flags=flags)).net)
        return Network(self, (await self.call("network_define_xml", xml=xml)).net)

    async def network_create_xml(self, xml: str, flags: int = 0) -> Network:
        if flags:
            return Network(self, (await self.call("network_create_xml_flags", xml=xml, flags=flags)).net)
        return Network(self, (await self.call("network_create_xml", xml=xml)).net)

    async def list_all_storage_pools(self, flags: int = 0) -> list[StoragePool]:
        found = (await self.call("connect_list_all_storage_pools", need_results=1, flags=flags)).pools
        return [StoragePool(self, ref) for ref in found]

    async def storage_pool_lookup_by_name(self, name: str) -> StoragePool:
        return StoragePool(self, (await self.call("storage_pool_lookup_by_name", name=name)).pool)

    async def storage_pool_lookup_by_uuid(self, uuid: str) -> StoragePool:
        return StoragePool(self, (await self.call("storage_pool_lookup_by_uuid", uuid=uuid)).pool)

    async def storage_pool_lookup_by_target_path(self, path: str) -> StoragePool:
        return StoragePool(self, (await self.call("storage_pool_lookup_by_target_path", path=path)).pool)

    async def storage_pool_define_xml(self, xml: str, flags: int = 0) -> StoragePool:
        return StoragePool(self, (await self.call("storage_pool_define_xml", xml=xml, flags=flags)).pool)

    async def storage_pool_create_xml(self, xml: str, flags: int = 0) -> StoragePool:
        return StoragePool(self, (await self.call("storage_pool_create_xml", xml=xml, flags=flags)).pool)

    async def storage_vol_lookup_by_path(self, path: str) -> StorageVol:
        return StorageVol(self, (await self.call("storage_vol_lookup_by_path", path=path)).vol)

    async def storage_vol_lookup_by_key(self, key: str) -> StorageVol:
        return StorageVol(self, (await self.call("storage_vol_lookup_by_key", key=key)).vol)

    async def list_all_secrets(self, flags: int = 0) -> list[Secret]:
        found = (await self.call("connect_list_all_secrets", need_results=1, flags=flags)).secrets
        return [Secret(self, ref) for ref in found]

    async def secret_lookup_by_uuid(self, uuid: str) -> Secret:
        return Secret(self, (await self.call("secret_lookup_by_uuid", uuid=uuid)).secret)

    async def secret_lookup_by_usage(self, usage_type: int, usage_id: str) -> Secret:
        return Secret(self, (await self.call("secret_lookup_by_usage", usageType=usage_type, usageID=usage_id)).secret)

    async def secret_define_xml(self, xml: str, flags: int = 0) -> Secret:
        return Secret(self, (await self.call("secret_define_xml", xml=xml, flags=flags)).secret)

    async def list_all_nwfilters(self, flags: int = 0) -> list[NWFilter]:
        found = (await self.call("connect_list_all_nwfilters", need_results=1, flags=flags)).filters
        return [NWFilter(self, ref) for ref in found]

    async def nwfilter_lookup_by_name(self, name: str) -> NWFilter:
        return NWFilter(self, (await self.call("nwfilter_lookup_by_name", name=name)).nwfilter)

    async def nwfilter_lookup_by_uuid(self, uuid: str) -> NWFilter:
        return NWFilter(self, (await self.call("nwfilter_lookup_by_uuid", uuid=uuid)).nwfilter)

    async def nwfilter_define_xml(self, xml: str, flags: int = 0) -> NWFilter:
        if flags:
            return NWFilter(self, (await self.call("nwfilter_define_xml_flags", xml=xml, flags=flags)).nwfilter)
        return NWFilter(self, (await self.call("nwfilter_define_xml", xml=xml)).nwfilter)

    async def list_all_nwfilter_bindings(self, flags: int = 0) -> list[NWFilterBinding]:
        found = (await self.call("connect_list_all_nwfilter_bindings", need_results=1, flags=flags)).bindings
        return [NWFilterBinding(self, ref) for ref in found]

    async def nwfilter_binding_lookup_by_port_dev(self, name: str) -> NWFilterBinding:
        return NWFilterBinding(self, (await self.call("nwfilter_binding_lookup_by_port_dev", name=name)).nwfilter)

    async def nwfilter_binding_create_xml(self, xml: str, flags: int = 0) -> NWFilterBinding:
        return NWFilterBinding(self, (await self.call("nwfilter_binding_create_xml", xml=xml, flags=flags)).nwfilter)

    async def list_all_devices(self, flags: int = 0) -> list[NodeDevice]:
        found = (await self.call("connect_list_all_node_devices", need_results=1, flags=flags)).devices
        return [NodeDevice(self, ref) for ref in found]

    async def node_device_lookup_by_name(self, name: str) -> NodeDevice:
        return NodeDevice(self, (await self.call("node_device_lookup_by_name", name=name)).dev)

    async def node_device_lookup_scsi_host_by_wwn(self, wwnn: str, wwpn: str, flags: int = 0) -> NodeDevice:
        ret = await self.call("node_device_lookup_scsi_host_by_wwn", wwnn=wwnn, wwpn=wwpn, flags=flags)
        return NodeDevice(self, ret.dev)

    async def node_device_create_xml(self, xml: str, flags: int = 0) -> NodeDevice:
        return NodeDevice(self, (await self.call("node_device_create_xml", xml_desc=xml, flags=flags)).dev)

    async def node_device_define_xml(self, xml: str, flags: int = 0) -> NodeDevice:
        return NodeDevice(self, (await self.call("node_device_define_xml", xml_desc=xml, flags=flags)).dev)

    async def list_all_interfaces(self, flags: int = 0) -> list[Interface]:
        found = (await self.call("connect_list_all_interfaces", need_results=1, flags=flags)).ifaces
        return [Interface(self, ref) for ref in found]

    async def interface_lookup_by_name(self, name: str) -> Interface:
        return Interface(self, (await self.call("interface_lookup_by_name", name=name)).iface)

    async def interface_lookup_by_mac_string(self, mac: str) -> Interface:
        return Interface(self, (await self.call("interface_lookup_by_mac_string", mac=mac)).iface)

    async def interface_define_xml(self, xml: str, flags: int = 0) -> Interface:
        return Interface(self, (await self.call("interface_define_xml", xml=xml, flags=flags)).iface)

    async def domain_event_register_any(self, dom: Domain | None, event_id: int, callback: EventCallback) -> int:
        """As :meth:`register_event` for guests; returns the number of the registration."""
        return await self.register_event("domain", event_id, dom, callback)

    async def monitor_event_register(
        self, dom: Domain | None, event: str | None, callback: EventCallback, flags: int = 0
    ) -> int:
        """Have ``callback`` called with QEMU's own events of one guest or of all: those called ``event``, or that it
        matches as a regular expression (``flags`` 1; 2: in any case), None for all."""
        ret = await self.call("qemu_connect_domain_monitor_event_register", dom=dom, event=event, flags=flags)
        return self.callbacks.add(("qemu", 0, str(ret.callbackID)), ret.callbackID, callback)

    async def network_event_register_any(self, net: Network | None, event_id: int, callback: EventCallback) -> int:
        return await self.register_event("network", event_id, net, callback)

    async def storage_pool_event_register_any(
        self, pool: StoragePool | None, event_id: int, callback: EventCallback
    ) -> int:
        return await self.register_event("storage_pool", event_id, pool, callback)

    async def node_device_event_register_any(
        self, dev: NodeDevice | None, event_id: int, callback: EventCallback
    ) -> int:
        return await self.register_event("node_device", event_id, dev, callback)

    async def secret_event_register_any(self, secret: Secret | None, event_id: int, callback: EventCallback) -> int:
        return await self.register_event("secret", event_id, secret, callback)
