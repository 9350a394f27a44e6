"""virConnect: what one asks of a host as a whole."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from guesthouse.libvirt import connection, errors, eventloop, events, typed
from guesthouse.libvirt.link import SharedLink
from guesthouse.libvirt.objects import (
    Handle,
    Session,
    declared,
    domain_of,
    handle_of,
    integer,
    invalid,
    string,
    unsigned,
    wrap,
)
from guesthouse.libvirt.stream import virStream

_CLOSE_CALLBACKS = 15  # the feature of a side that tells when the hypervisor behind it goes away


@declared("""
baselineCPU(xmlCPUs,flags=0) connect_baseline_cpu
baselineHypervisorCPU(emulator,arch,machine,virttype,xmlCPUs,flags=0) connect_baseline_hypervisor_cpu
changeBegin(flags=0) interface_change_begin
changeCommit(flags=0) interface_change_commit
changeRollback(flags=0) interface_change_rollback
compareCPU(xmlDesc,flags=0) connect_compare_cpu
compareHypervisorCPU(emulator,arch,machine,virttype,xmlCPU,flags=0) connect_compare_hypervisor_cpu
createLinux(xmlDesc,flags=0) domain_create_xml
createXML(xmlDesc,flags=0) domain_create_xml
defineXML(xml) domain_define_xml
defineXMLFlags(xml,flags=0) domain_define_xml_flags
domainXMLFromNative(nativeFormat,nativeConfig,flags=0) connect_domain_xml_from_native
domainXMLToNative(nativeFormat,domainXml,flags=0) connect_domain_xml_to_native
findStoragePoolSources(type,srcSpec,flags=0) connect_find_storage_pool_sources
getCPUModelNames(arch,flags=0) connect_get_cpu_model_names
getCPUStats(cpuNum,flags=0) node_get_cpu_stats
getCapabilities() connect_get_capabilities
getCellsFreeMemory(startCell,maxCells) node_get_cells_free_memory
getDomainCapabilities(emulatorbin=None,arch=None,machine=None,virttype=None,flags=0) connect_get_domain_capabilities
getFreeMemory() node_get_free_memory
getHostname() connect_get_hostname
getInfo() node_get_info -> [r.model, r.memory >> 10, *r[2:]]
getLibVersion() connect_get_lib_version
getMaxVcpus(type) connect_get_max_vcpus
getMemoryParameters(flags=0) node_get_memory_parameters
getMemoryStats(cellNum,flags=0) node_get_memory_stats
getSEVInfo(flags=0) node_get_sev_info
getSecurityModel() node_get_security_model
getStoragePoolCapabilities(flags=0) connect_get_storage_pool_capabilities
getSysinfo(flags=0) connect_get_sysinfo
getType() connect_get_type
getVersion() connect_get_version
interfaceDefineXML(xml,flags=0) interface_define_xml
interfaceLookupByMACString(macstr) interface_lookup_by_mac_string
interfaceLookupByName(name) interface_lookup_by_name
listAllDevices(flags=0) connect_list_all_node_devices
listAllDomains(flags=0) connect_list_all_domains
listAllInterfaces(flags=0) connect_list_all_interfaces
listAllNWFilterBindings(flags=0) connect_list_all_nwfilter_bindings
listAllNWFilters(flags=0) connect_list_all_nwfilters
listAllNetworks(flags=0) connect_list_all_networks
listAllSecrets(flags=0) connect_list_all_secrets
listAllStoragePools(flags=0) connect_list_all_storage_pools
listDefinedDomains() connect_list_defined_domains
listDefinedInterfaces() connect_list_defined_interfaces
listDefinedNetworks() connect_list_defined_networks
listDefinedStoragePools() connect_list_defined_storage_pools
listDevices(cap,flags=0) node_list_devices
listDomainsID() connect_list_domains
listInterfaces() connect_list_interfaces
listNWFilters() connect_list_nwfilters
listNetworks() connect_list_networks
listSecrets() connect_list_secrets
listStoragePools() connect_list_storage_pools
lookupByID(id) domain_lookup_by_id
lookupByName(name) domain_lookup_by_name
lookupByUUID(uuid) domain_lookup_by_uuid uuid=uuid_of(uuid,'virDomainLookupByUUID')
lookupByUUIDString(uuidstr) domain_lookup_by_uuid uuid=uuid_text(uuidstr,'virDomainLookupByUUIDString')
networkCreateXML(xmlDesc) network_create_xml
networkCreateXMLFlags(xmlDesc,flags=0) network_create_xml_flags
networkDefineXML(xml) network_define_xml
networkDefineXMLFlags(xml,flags=0) network_define_xml_flags
networkLookupByName(name) network_lookup_by_name
networkLookupByUUID(uuid) network_lookup_by_uuid uuid=uuid_of(uuid,'virNetworkLookupByUUID')
networkLookupByUUIDString(uuidstr) network_lookup_by_uuid uuid=uuid_text(uuidstr,'virNetworkLookupByUUIDString')
nodeDeviceCreateXML(xmlDesc,flags=0) node_device_create_xml
nodeDeviceDefineXML(xmlDesc,flags=0) node_device_define_xml
nodeDeviceLookupByName(name) node_device_lookup_by_name
nodeDeviceLookupSCSIHostByWWN(wwnn,wwpn,flags=0) node_device_lookup_scsi_host_by_wwn
numOfDefinedDomains() connect_num_of_defined_domains
numOfDefinedInterfaces() connect_num_of_defined_interfaces
numOfDefinedNetworks() connect_num_of_defined_networks
numOfDefinedStoragePools() connect_num_of_defined_storage_pools
numOfDevices(cap,flags=0) node_num_of_devices
numOfDomains() connect_num_of_domains
numOfInterfaces() connect_num_of_interfaces
numOfNWFilters() connect_num_of_nwfilters
numOfNetworks() connect_num_of_networks
numOfSecrets() connect_num_of_secrets
numOfStoragePools() connect_num_of_storage_pools
nwfilterBindingCreateXML(xml,flags=0) nwfilter_binding_create_xml
nwfilterBindingLookupByPortDev(portdev) nwfilter_binding_lookup_by_port_dev
nwfilterDefineXML(xmlDesc) nwfilter_define_xml
nwfilterDefineXMLFlags(xmlDesc,flags=0) nwfilter_define_xml_flags
nwfilterLookupByName(name) nwfilter_lookup_by_name
nwfilterLookupByUUID(uuid) nwfilter_lookup_by_uuid uuid=uuid_of(uuid,'virNWFilterLookupByUUID')
nwfilterLookupByUUIDString(uuidstr) nwfilter_lookup_by_uuid uuid=uuid_text(uuidstr,'virNWFilterLookupByUUIDString')
restore(frm) domain_restore
restoreFlags(frm,dxml=None,flags=0) domain_restore_flags
restoreParams(params,flags=0) domain_restore_params
saveImageDefineXML(file,dxml,flags=0) domain_save_image_define_xml
saveImageGetXMLDesc(file,flags=0) domain_save_image_get_xml_desc
secretDefineXML(xml,flags=0) secret_define_xml
secretLookupByUUID(uuid) secret_lookup_by_uuid uuid=uuid_of(uuid,'virSecretLookupByUUID')
secretLookupByUUIDString(uuidstr) secret_lookup_by_uuid uuid=uuid_text(uuidstr,'virSecretLookupByUUIDString')
secretLookupByUsage(usageType,usageID) secret_lookup_by_usage
setIdentity(params,flags=0) connect_set_identity
setMemoryParameters(params,flags=0) node_set_memory_parameters params=fit(o,'virNodeGetMemoryParameters','node_get_memory_parameters',params,{'flags':0})
storagePoolCreateXML(xmlDesc,flags=0) storage_pool_create_xml
storagePoolDefineXML(xml,flags=0) storage_pool_define_xml
storagePoolLookupByName(name) storage_pool_lookup_by_name
storagePoolLookupByTargetPath(path) storage_pool_lookup_by_target_path
storagePoolLookupByUUID(uuid) storage_pool_lookup_by_uuid uuid=uuid_of(uuid,'virStoragePoolLookupByUUID')
storagePoolLookupByUUIDString(uuidstr) storage_pool_lookup_by_uuid uuid=uuid_text(uuidstr,'virStoragePoolLookupByUUIDString')
storageVolLookupByKey(key) storage_vol_lookup_by_key
storageVolLookupByPath(path) storage_vol_lookup_by_path
suspendForDuration(target,duration,flags=0) node_suspend_for_duration
""")  # fmt: skip
class virConnect:
    """A connection to a host. It stays open until it is closed and the last object that came from it is gone."""

    _kind = ""

    def __init__(self, _obj: Session | None = None) -> None:
        if not isinstance(_obj, Session):
            raise Exception(f"Expected a wrapped C Object but got {type(_obj)}")
        self._o: Session | None = _obj
        self.domainEventCallbacks: dict[Any, Any] = {}
        self._any_domain_event = -1

    if TYPE_CHECKING:  # the methods that are declared as text

        def __getattr__(self, name: str) -> Any: ...

    def _session(self, function: str) -> Session:
        session = self._o
        if session is None:
            invalid(function, "connection")
        return session

    def c_pointer(self) -> int:
        """A number of its own; there is no C object behind it."""
        return id(self._o)

    def __enter__(self) -> virConnect:
        return self

    def __exit__(
        self,
        exc_type_: type[BaseException] | None,
        exc_value_: BaseException | None,
        traceback_: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            session, self._o = self._o, None
            if session is not None:
                session.close()
        except Exception:
            pass  # it was never made, or the interpreter is on its way out

    def close(self) -> int:
        """Leave; returns 1 where objects still use the connection, which lives as long as they do."""
        session = self._session("virConnectClose")
        if session.keepalive is not None:
            session.keepalive.stop()
        self._o = None
        return 0 if session.close(wait=True) else 1

    # -- the connection itself

    def getURI(self) -> str:
        return self._session("virConnectGetURI").uri

    def isAlive(self) -> int:
        link = self._session("virConnectIsAlive").link
        return 0 if isinstance(link, SharedLink) and link.dead is not None else 1

    def isEncrypted(self) -> int:
        """Whether what goes over the connection is encrypted, and the host's own to the hypervisor is secure."""
        session = self._session("virConnectIsEncrypted")
        there = session.call("virConnectIsEncrypted", "connect_is_secure", {}).secure
        return int(session.encrypted and there == 1)

    def isSecure(self) -> int:
        """Whether nobody can listen, on the way here and on the host's own to the hypervisor."""
        session = self._session("virConnectIsSecure")
        there = session.call("virConnectIsSecure", "connect_is_secure", {}).secure
        return int(session.secure and there == 1)

    def setKeepAlive(self, interval: int, count: int) -> int:
        """Ping after each ``interval`` seconds of silence, at most ``count`` times in vain; 0 seconds: no more. Returns
        1 where the other side does not answer pings."""
        function = "virConnectSetKeepAlive"
        session = self._session(function)
        if not isinstance(session.link, SharedLink):
            errors.unsupported(function)
        if eventloop.current() is None:
            text = "the caller doesn't support keepalive protocol; perhaps it's missing event loop implementation"
            errors.refuse(function, errors.INTERNAL, 13, f"internal error: {text}", "internal error: %s", text)
        if session.keepalive is not None:
            session.keepalive.stop()
            session.keepalive = None
        if not session.features.get(10):
            return 1
        if interval > 0:
            session.keepalive = connection.Keepalive(session.link, interval, operator.index(count))
        return 0

    def newStream(self, flags: int = 0) -> virStream:
        """A stream, for a call to open."""
        return virStream(self, Handle(self._session("virStreamNew"), unsigned(flags)))

    def virConnGetLastError(self) -> errors.Error | None:
        return errors.virGetLastError()

    def virConnResetLastError(self) -> None:
        errors.virResetLastError()

    # -- the host

    def getCPUMap(self, flags: int = 0) -> tuple[int, list[bool], int]:
        """How many CPUs there are, which of them are online, and how many."""
        args = {"need_map": 1, "need_online": 1, "flags": unsigned(flags)}
        found = self._session("virNodeGetCPUMap").call("virNodeGetCPUMap", "node_get_cpu_map", args)
        return found.ret, typed.bits(found.cpumap, found.ret), found.online

    def getFreePages(
        self, pages: list[int], startCell: int, maxCells: int, flags: int = 0
    ) -> dict[int, dict[int, int]]:
        """NUMA cell -> page size in KiB -> how many are free."""
        function = "virNodeGetFreePages"
        args = {"pages": list(pages), "startCell": integer(startCell), "cellCount": unsigned(maxCells)}
        counts = (
            self._session(function).call(function, "node_get_free_pages", {**args, "flags": unsigned(flags)}).counts
        )
        rows = [counts[at : at + len(pages)] for at in range(0, len(counts), len(pages))]
        return {startCell + at: dict(zip(pages, row, strict=True)) for at, row in enumerate(rows)}

    def allocPages(self, pages: dict[int, int], startCell: int = 0, cellCount: int = 0, flags: int = 0) -> int:
        """Add pages of each size (KiB), or with the flag set their number; returns how many could be had."""
        function = "virNodeAllocPages"
        args = {"pageSizes": list(pages), "pageCounts": list(pages.values()), "startCell": integer(startCell)}
        args |= {"cellCount": unsigned(cellCount), "flags": unsigned(flags)}
        return int(self._session(function).call(function, "node_alloc_pages", args).ret)

    # -- domains

    def createXMLWithFiles(self, xmlDesc: str, files: list[int], flags: int = 0) -> Any:
        """Start a domain that gets the open ``files``."""
        function = "virDomainCreateXMLWithFiles"
        args = {"xml_desc": string(xmlDesc, function, "xmlDesc"), "flags": unsigned(flags)}
        session = self._session(function)
        value, _ = session.call_with_files(function, "domain_create_xml_with_files", args, list(files))
        return wrap(self, "nonnull_domain", value.dom)

    def getAllDomainStats(self, stats: int = 0, flags: int = 0) -> list[tuple[Any, dict[str, Any]]]:
        """A pair for each domain: itself and its statistics."""
        return self._stats("virConnectGetAllDomainStats", [], stats, flags)

    def domainListGetStats(self, doms: list[Any], stats: int = 0, flags: int = 0) -> list[tuple[Any, dict[str, Any]]]:
        """As :meth:`getAllDomainStats`, for these domains."""
        function = "virDomainListGetStats"
        return self._stats(function, [handle_of(dom, function) for dom in doms], stats, flags)

    def _stats(self, function: str, doms: list[Any], stats: int, flags: int) -> list[tuple[Any, dict[str, Any]]]:
        args = {"doms": doms, "stats": unsigned(stats), "flags": unsigned(flags)}
        found = self._session(function).call(function, "connect_get_all_domain_stats", args).retStats
        return [(wrap(self, "nonnull_domain", record.dom), typed.values(record.params)) for record in found]

    # -- events

    def domainEventRegister(self, cb: Callable[..., Any], opaque: Any) -> None:
        """``cb(conn, dom, event, detail, opaque)`` with each lifecycle event. ``cb`` is what ends it again."""
        self.domainEventCallbacks[cb] = opaque
        if self._any_domain_event < 0:
            try:
                self._any_domain_event = events.register(self, "domain", None, 0, self._lifecycle, None)
            except errors.libvirtError:
                del self.domainEventCallbacks[cb]
                raise

    def domainEventDeregister(self, cb: Callable[..., Any]) -> None:
        del self.domainEventCallbacks[cb]
        if not self.domainEventCallbacks:
            number, self._any_domain_event = self._any_domain_event, -1
            events.deregister(self, "domain", number)

    def _lifecycle(self, conn: virConnect, dom: Any, event: int, detail: int, _: Any) -> None:
        for cb, opaque in list(self.domainEventCallbacks.items()):
            connection.guarded(cb, conn, dom, event, detail, opaque)

    def domainEventRegisterAny(self, dom: Any, eventID: int, cb: Callable[..., Any], opaque: Any) -> int:
        """``cb(conn, dom, ..., opaque)`` with each event of that kind, of one domain or (None) of all; returns the
        registration's number."""
        return events.register(self, "domain", dom, eventID, cb, opaque)

    def domainEventDeregisterAny(self, callbackID: int) -> None:
        events.deregister(self, "domain", callbackID)

    def networkEventRegisterAny(self, net: Any, eventID: int, cb: Callable[..., Any], opaque: Any) -> int:
        return events.register(self, "network", net, eventID, cb, opaque)

    def networkEventDeregisterAny(self, callbackID: int) -> None:
        events.deregister(self, "network", callbackID)

    def storagePoolEventRegisterAny(self, pool: Any, eventID: int, cb: Callable[..., Any], opaque: Any) -> int:
        return events.register(self, "storage_pool", pool, eventID, cb, opaque)

    def storagePoolEventDeregisterAny(self, callbackID: int) -> None:
        events.deregister(self, "storage_pool", callbackID)

    def nodeDeviceEventRegisterAny(self, dev: Any, eventID: int, cb: Callable[..., Any], opaque: Any) -> int:
        return events.register(self, "node_device", dev, eventID, cb, opaque)

    def nodeDeviceEventDeregisterAny(self, callbackID: int) -> None:
        events.deregister(self, "node_device", callbackID)

    def secretEventRegisterAny(self, secret: Any, eventID: int, cb: Callable[..., Any], opaque: Any) -> int:
        return events.register(self, "secret", secret, eventID, cb, opaque)

    def secretEventDeregisterAny(self, callbackID: int) -> None:
        events.deregister(self, "secret", callbackID)

    def registerCloseCallback(self, cb: Callable[..., Any], opaque: Any) -> int:
        """``cb(conn, reason, opaque)`` when the other side is gone."""
        function = "virConnectRegisterCloseCallback"
        session = self._session(function)
        if not isinstance(session.link, SharedLink):
            errors.unsupported(function, domain_of(function))
        if session.has_feature(_CLOSE_CALLBACKS):
            session.call(function, "connect_register_close_callback", {})
        events.queue_of(session).on_close(lambda reason: cb(self, reason, opaque))
        return 0

    def unregisterCloseCallback(self) -> None:
        session = self._session("virConnectUnregisterCloseCallback")
        if session.queue is not None:
            session.queue.on_close(None)
        if session.has_feature(_CLOSE_CALLBACKS):
            session.call("virConnectUnregisterCloseCallback", "connect_unregister_close_callback", {})
