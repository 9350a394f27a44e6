"""``test:///FILE``: a host out of a file, in this process, for tests and for trying a line without a daemon.

The file is of libvirt's test driver: a <node> with <domain>, <network>, <device> and <pool> elements, volumes within their pools.
``test:///default`` is a host with one guest, one network and one pool. Parameters change what the connection says of
itself: ``capabilities=FILE``, ``domcapabilities=FILE``, ``as=URI`` (the URI that it gives itself out for).

The host answers questions; what would change it is refused, but for definitions, which last as long as the connection.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from guesthouse.client.connect import Connect
from guesthouse.client.link import Callbacks, EventCallback, Stream
from guesthouse.errors import (
    Domain,
    InternalError,
    NoConnect,
    NoDomain,
    NoNetwork,
    NoNodeDevice,
    NoStoragePool,
    NoStorageVol,
    NoSupport,
    StorageVolExist,
)
from guesthouse.units import new_uuid, parse_size
from guesthouse.wire.api import api_name

_DEFAULT = """<node>
  <domain type='test'><name>test</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
    <memory>8388608</memory><vcpu>2</vcpu><os><type arch='i686'>hvm</type></os></domain>
  <network><name>default</name><uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid><bridge name='virbr0'/></network>
  <pool type='dir'><name>default-pool</name><uuid>dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566</uuid>
    <capacity>107374182400</capacity><available>107374182400</available>
    <target><path>/default-pool</path></target></pool>
</node>"""
_CAPABILITIES = """<capabilities>
  <host><cpu><arch>i686</arch></cpu></host>
  <guest><os_type>hvm</os_type>
    <arch name='i686'><wordsize>32</wordsize><emulator>/usr/bin/test-hv</emulator><domain type='test'/></arch>
    <features><pae/><nonpae/></features></guest>
</capabilities>"""
# what is the same for all objects of such a host
_CONSTANT: dict[str, dict[str, Any]] = {
    "domain_get_autostart": {"autostart": 0},
    "domain_is_active": {"active": 1},
    "domain_is_persistent": {"persistent": 1},
    "domain_has_managed_save_image": {"result": 0},
    "network_get_autostart": {"autostart": 0},
    "network_is_active": {"active": 1},
    "network_is_persistent": {"persistent": 1},
    "storage_pool_get_autostart": {"autostart": 0},
    "storage_pool_is_active": {"active": 1},
    "storage_pool_is_persistent": {"persistent": 1},
}
_RUNNING = 1
_TEST = "http://libvirt.org/schemas/domain/test/1.0"
_POOL_RUNNING = 2


def connect(uri: str) -> Connect:
    """The host that ``uri`` describes. Raises NoConnect where a file is missing or is no such description."""
    from urllib.parse import parse_qsl

    rest, _, query = uri.partition("://")[2].partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    path = "/" + rest.partition("/")[2]
    try:
        state = _DEFAULT if path == "/default" else Path(path).read_text()
        capabilities = _read(parameters, "capabilities") or _CAPABILITIES
        return OfflineConnect(parameters.get("as") or uri, state, capabilities, _read(parameters, "domcapabilities"))
    except (OSError, ValueError) as error:
        raise NoConnect(f"{uri}: {error}", domain=Domain.TEST) from None


def _read(parameters: dict[str, str], name: str) -> str | None:
    return Path(parameters[name]).read_text() if parameters.get(name) else None


class _NoStream(Stream):
    """No data flow from such a host: a stream says so when it is opened."""

    def __init__(self) -> None:
        pass

    def start(self, name: str, /, **args: Any) -> Any:
        raise NoSupport(api_name(name), domain=Domain.TEST)

    def abort(self) -> None:
        """There is nothing to end."""


class OfflineConnect(Connect):
    """A connection that answers by itself: each procedure that it knows is a method of the same name."""

    def __init__(self, uri: str, state: str, capabilities: str, domain_capabilities: str | None) -> None:
        from lxml import etree

        self._uri = uri
        self.callbacks = Callbacks()
        self._registered = 0
        self._capabilities = capabilities
        self._domain_capabilities = domain_capabilities
        try:
            root = etree.fromstring(state.encode())
        except etree.XMLSyntaxError as error:
            raise ValueError(str(error)) from None
        self._cpu = {child.tag: child.text or "" for child in root.findall("cpu/*")}
        self._cpu["cpus"] = self._cpu.get("active", "1")
        self._memory = int(root.findtext("memory") or 0)
        self._domains = {_name(node): node for node in root.findall("domain")}
        self._networks = {_name(node): node for node in root.findall("network")}
        self._pools = {_name(node): node for node in root.findall("pool")}
        self._devices = {_name(node): node for node in root.findall("device")}

    def call(self, name: str, /, **args: Any) -> Any:
        if name in _CONSTANT:
            return SimpleNamespace(**_CONSTANT[name])
        answer = getattr(self, f"_do_{name}", None)
        if answer is None:
            raise NoSupport(api_name(name), domain=Domain.TEST)
        return answer(**args)

    def call_with_files(self, name: str, files: Sequence[int], /, **args: Any) -> Any:
        raise NoSupport(api_name(name), domain=Domain.TEST)

    def new_stream(self) -> Stream:
        return _NoStream()

    def register_event(self, scope: str, event_id: int, ref: Any, callback: EventCallback) -> int:
        """As for every connection; but nothing happens here."""
        self._registered += 1
        return self.callbacks.add(self.callbacks.key(scope, event_id, ref), self._registered, callback)

    def event_deregister_any(self, number: int) -> None:
        self.callbacks.remove(number)

    def dispatch_events(self, timeout: float | None = None) -> int:
        """Wait: there are none."""
        time.sleep(timeout) if timeout is not None else signal.pause()
        return 0

    def set_keep_alive(self, interval: int, count: int) -> None:
        raise NoSupport("virConnectSetKeepAlive", domain=Domain.NONE)

    def close(self) -> None:
        """Nothing stays open."""

    # -- the host

    def _do_connect_get_type(self) -> Any:
        return SimpleNamespace(type=self._uri.partition(":")[0].partition("+")[0].upper())

    def _do_connect_get_version(self) -> Any:
        return SimpleNamespace(hv_ver=2)

    def _do_connect_get_lib_version(self) -> Any:
        return SimpleNamespace(lib_ver=9_000_000)

    def _do_connect_get_hostname(self) -> Any:
        return SimpleNamespace(hostname="localhost")

    def _do_connect_get_capabilities(self) -> Any:
        return SimpleNamespace(capabilities=self._capabilities)

    def _do_connect_get_domain_capabilities(self, **_: Any) -> Any:
        if self._domain_capabilities is None:
            raise NoSupport("virConnectGetDomainCapabilities", domain=Domain.TEST)
        return SimpleNamespace(capabilities=self._domain_capabilities)

    def _do_node_get_info(self) -> Any:
        cpu, memory = self._cpu, self._memory
        numbers = {name: int(cpu.get(name, 1)) for name in ("cpus", "nodes", "sockets", "cores", "threads")}
        return SimpleNamespace(model=cpu.get("model", "i686"), memory=memory, mhz=int(cpu.get("mhz", 0)), **numbers)

    # -- guests

    def _do_connect_list_all_domains(self, **_: Any) -> Any:
        return SimpleNamespace(domains=[self._domain(node) for node in self._domains.values()])

    def _do_domain_lookup_by_name(self, name: str) -> Any:
        if name not in self._domains:
            raise NoDomain(f"no domain with matching name '{name}'", domain=Domain.TEST)
        return SimpleNamespace(dom=self._domain(self._domains[name]))

    def _do_domain_lookup_by_uuid(self, uuid: str) -> Any:
        for node in self._domains.values():
            if node.findtext("uuid") == uuid:
                return SimpleNamespace(dom=self._domain(node))
        raise NoDomain(f"no domain with matching uuid '{uuid}'", domain=Domain.TEST)

    def _do_domain_lookup_by_id(self, id: int) -> Any:
        for node in self._domains.values():
            if (found := self._domain(node)).id == id:
                return SimpleNamespace(dom=found)
        raise NoDomain(f"no domain with matching id {id}", domain=Domain.TEST)

    def _do_domain_get_xml_desc(self, dom: Any, flags: int = 0) -> Any:
        return SimpleNamespace(xml=_text(_without_state(self._domains[dom.name])))

    def _do_domain_get_state(self, dom: Any, flags: int = 0) -> Any:
        return SimpleNamespace(state=_RUNNING, reason=1)

    def _do_domain_get_os_type(self, dom: Any) -> Any:
        return SimpleNamespace(type=self._domains[dom.name].findtext("os/type") or "hvm")

    def _do_domain_get_info(self, dom: Any) -> Any:
        node = self._domains[dom.name]
        most = _kib(node.find("memory"))
        now = _kib(node.find("currentMemory")) or most
        cpus = int(node.findtext("vcpu") or 1)
        return SimpleNamespace(state=_RUNNING, maxMem=most, memory=now, nrVirtCpu=cpus, cpuTime=0)

    def _do_domain_define_xml(self, xml: str) -> Any:
        from guesthouse.model.fields import parse_document

        node = parse_document(xml, "(domain_definition)")
        self._domains[_name(node)] = node
        return SimpleNamespace(dom=self._domain(node))

    def _domain(self, node: Any) -> Any:
        if node.find("uuid") is None:
            _child(node, "uuid", new_uuid())
        number = list(self._domains).index(_name(node)) + 1
        return SimpleNamespace(name=_name(node), uuid=node.findtext("uuid"), id=number)

    # -- devices of the host

    def _do_connect_list_all_node_devices(self, **_: Any) -> Any:
        return SimpleNamespace(devices=[SimpleNamespace(name=name) for name in self._devices])

    def _do_node_device_lookup_by_name(self, name: str) -> Any:
        if name not in self._devices:
            raise NoNodeDevice(f"no node device with matching name '{name}'", domain=Domain.TEST)
        return SimpleNamespace(dev=SimpleNamespace(name=name))

    def _do_node_device_get_xml_desc(self, name: str, flags: int = 0) -> Any:
        return SimpleNamespace(xml=_text(self._devices[name]))

    # -- networks

    def _do_connect_list_all_networks(self, **_: Any) -> Any:
        return SimpleNamespace(nets=[_ref(node) for node in self._networks.values()])

    def _do_network_lookup_by_name(self, name: str) -> Any:
        if name not in self._networks:
            raise NoNetwork(f"no network with matching name '{name}'", domain=Domain.TEST)
        return SimpleNamespace(net=_ref(self._networks[name]))

    def _do_network_lookup_by_uuid(self, uuid: str) -> Any:
        for node in self._networks.values():
            if (found := _ref(node)).uuid == uuid:
                return SimpleNamespace(net=found)
        raise NoNetwork(f"no network with matching uuid '{uuid}'", domain=Domain.TEST)

    def _do_network_get_bridge_name(self, net: Any) -> Any:
        bridge = self._networks[net.name].find("bridge")
        name = bridge.get("name") if bridge is not None else None
        if not name:
            raise InternalError(f"network '{net.name}' does not have a bridge name.", domain=Domain.TEST)
        return SimpleNamespace(name=name)

    def _do_network_get_xml_desc(self, net: Any, flags: int = 0) -> Any:
        return SimpleNamespace(xml=_text(self._networks[net.name]))

    # -- storage

    def _do_connect_list_all_storage_pools(self, **_: Any) -> Any:
        return SimpleNamespace(pools=[_ref(node) for node in self._pools.values()])

    def _do_storage_pool_lookup_by_name(self, name: str) -> Any:
        if name not in self._pools:
            raise NoStoragePool(f"no storage pool with matching name '{name}'", domain=Domain.TEST)
        return SimpleNamespace(pool=_ref(self._pools[name]))

    def _do_storage_pool_lookup_by_uuid(self, uuid: str) -> Any:
        for node in self._pools.values():
            if (found := _ref(node)).uuid == uuid:
                return SimpleNamespace(pool=found)
        raise NoStoragePool(f"no storage pool with matching uuid '{uuid}'", domain=Domain.TEST)

    def _do_storage_pool_get_xml_desc(self, pool: Any, flags: int = 0) -> Any:
        return SimpleNamespace(xml=_text(self._pools[pool.name]))

    def _do_storage_pool_get_info(self, pool: Any) -> Any:
        node = self._pools[pool.name]
        sizes = [_size(node.find(tag)) for tag in ("capacity", "allocation", "available")]
        return SimpleNamespace(state=_POOL_RUNNING, capacity=sizes[0], allocation=sizes[1], available=sizes[2])

    def _do_storage_pool_list_all_volumes(self, pool: Any, **_: Any) -> Any:
        node = self._pools[pool.name]
        return SimpleNamespace(vols=[_volume(node, volume) for volume in node.findall("volume")])

    def _do_storage_vol_lookup_by_name(self, pool: Any, name: str) -> Any:
        node = self._pools[pool.name]
        for volume in node.findall("volume"):
            if _name(volume) == name:
                return SimpleNamespace(vol=_volume(node, volume))
        raise NoStorageVol(f"no storage vol with matching name '{name}'", domain=Domain.TEST)

    def _do_storage_vol_lookup_by_path(self, path: str) -> Any:
        for node in self._pools.values():
            for volume in node.findall("volume"):
                if _path(node, volume) == path:
                    return SimpleNamespace(vol=_volume(node, volume))
        raise NoStorageVol(f"no storage vol with matching path '{path}'", domain=Domain.TEST)

    def _do_storage_vol_get_xml_desc(self, vol: Any, flags: int = 0) -> Any:
        pool = self._pools[vol.pool]
        for volume in pool.findall("volume"):
            if _name(volume) == vol.name:
                if volume.find("target/path") is None:
                    target = volume.find("target")
                    _child(volume if target is None else target, "path", _path(pool, volume))
                if volume.get("type") is None:
                    volume.set("type", "block" if pool.get("type") in ("disk", "logical", "scsi", "iscsi") else "file")
                return SimpleNamespace(xml=_text(volume))
        raise NoStorageVol(f"no storage vol with matching name '{vol.name}'", domain=Domain.TEST)

    def _do_storage_vol_get_path(self, vol: Any) -> Any:
        return SimpleNamespace(name=vol.key)

    def _do_storage_vol_get_info(self, vol: Any) -> Any:
        for volume in self._pools[vol.pool].findall("volume"):
            if _name(volume) == vol.name:
                sizes = [_size(volume.find(tag)) for tag in ("capacity", "allocation")]
                return SimpleNamespace(type=0, capacity=sizes[0], allocation=sizes[1])
        raise NoStorageVol(f"no storage vol with matching name '{vol.name}'", domain=Domain.TEST)

    def _do_storage_vol_create_xml(self, pool: Any, xml: str, flags: int = 0) -> Any:
        from guesthouse.model.fields import parse_document

        node, volume = self._pools[pool.name], parse_document(xml, "(storage_volume_definition)")
        if any(_name(other) == _name(volume) for other in node.findall("volume")):
            raise StorageVolExist(f"'{_name(volume)}'", domain=Domain.TEST)
        node.append(volume)
        return SimpleNamespace(vol=_volume(node, volume))


def _name(node: Any) -> str:
    return (node.findtext("name") or "").strip()


def _text(node: Any) -> str:
    from lxml import etree

    return str(etree.tostring(node, encoding="unicode"))


def _without_state(domain: Any) -> Any:
    """A guest's document without what its file says to the test driver alone, such as <test:runstate>."""
    import copy

    twin = copy.deepcopy(domain)
    for node in twin.findall(f"{{{_TEST}}}*"):
        twin.remove(node)
    return twin


def _child(node: Any, tag: str, text: str) -> None:
    from lxml import etree

    etree.SubElement(node, tag).text = text


def _ref(node: Any) -> Any:
    if node.find("uuid") is None:
        _child(node, "uuid", new_uuid())
    return SimpleNamespace(name=_name(node), uuid=node.findtext("uuid"))


def _path(pool: Any, volume: Any) -> str:
    own = volume.findtext("target/path")
    return own or f"{(pool.findtext('target/path') or '').rstrip('/')}/{_name(volume)}"


def _volume(pool: Any, volume: Any) -> Any:
    return SimpleNamespace(pool=_name(pool), name=_name(volume), key=_path(pool, volume))


def _kib(node: Any) -> int:
    return 0 if node is None else parse_size(f"{node.text or '0'}{node.get('unit') or 'KiB'}") // 1024


def _size(node: Any) -> int:
    return 0 if node is None else parse_size(f"{node.text or '0'}{node.get('unit') or ''}")
