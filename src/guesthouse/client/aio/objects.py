# Generated from client/objects.py by tests/support/asyncify.py: edit that file, then run it.
"""Handles of what a daemon has: domains, networks, pools, volumes, secrets, host devices and interfaces. Methods are libvirt-python's in snake case.

Each method is one call; it raises the daemon's error (a class of :mod:`guesthouse.errors`) and changes nothing here.
Memory is in KiB, times are in nanoseconds, storage is in bytes, as libvirt's API has them. ``flags`` are libvirt's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guesthouse.client.aio.stream import Stream

if TYPE_CHECKING:
    from guesthouse.client.aio.connect import Connect
_MANY_NAMES = 65536


class _Handle:
    """An object of a connection; ``_procedure`` begins the names of its calls, ``_argument`` is how they name it."""

    _procedure = ""
    _argument = ""

    def __init__(self, conn: Connect) -> None:
        self.conn = conn

    async def call(self, method: str, /, **args: Any) -> Any:
        """Call the procedure of this object's kind that ``method`` ends; returns its result record."""
        return await self.conn.call(f"{self._procedure}_{method}", **{self._argument: self}, **args)


class Domain(_Handle):
    """A guest. ``id`` is -1 while it does not run, and is what the daemon said last."""

    _procedure = "domain"
    _argument = "dom"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.name: str = ref.name
        self.uuid: str = ref.uuid
        self.id: int = ref.id

    async def create(self) -> None:
        """Start it; learns its id."""
        await self.call("create")
        await self.refresh()

    async def create_with_flags(self, flags: int = 0) -> None:
        self.id = (await self.call("create_with_flags", flags=flags)).dom.id

    async def refresh(self) -> None:
        """Ask for the id again."""
        self.id = (await self.conn.call("domain_lookup_by_uuid", uuid=self.uuid)).dom.id

    async def shutdown(self) -> None:
        """Ask the guest to power off (ACPI); it decides."""
        await self.call("shutdown")

    async def shutdown_flags(self, flags: int = 0) -> None:
        await self.call("shutdown_flags", flags=flags)

    async def reboot(self, flags: int = 0) -> None:
        await self.call("reboot", flags=flags)

    async def reset(self, flags: int = 0) -> None:
        await self.call("reset", flags=flags)

    async def destroy(self) -> None:
        """End it by force."""
        await self.call("destroy")
        self.id = -1

    async def destroy_flags(self, flags: int = 0) -> None:
        await self.call("destroy_flags", flags=flags)
        self.id = -1

    async def suspend(self) -> None:
        await self.call("suspend")

    async def resume(self) -> None:
        await self.call("resume")

    async def undefine(self) -> None:
        await self.call("undefine")

    async def undefine_flags(self, flags: int = 0) -> None:
        await self.call("undefine_flags", flags=flags)

    async def rename(self, name: str, flags: int = 0) -> None:
        await self.call("rename", new_name=name, flags=flags)
        self.name = name

    async def get_info(self) -> Any:
        """Record: state, maxMem and memory (KiB), nrVirtCpu, cpuTime (ns)."""
        return await self.call("get_info")

    async def get_state(self, flags: int = 0) -> tuple[int, int]:
        """State and reason, as numbers of virDomainState and its reasons."""
        ret = await self.call("get_state", flags=flags)
        return (ret.state, ret.reason)

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)

    async def attach_device_flags(self, xml: str, flags: int = 0) -> None:
        await self.call("attach_device_flags", xml=xml, flags=flags)

    async def detach_device_flags(self, xml: str, flags: int = 0) -> None:
        """A running guest may still have the device afterwards: an event tells when it has not."""
        await self.call("detach_device_flags", xml=xml, flags=flags)

    async def detach_device_alias(self, alias: str, flags: int = 0) -> None:
        """Asks, and does not wait."""
        await self.call("detach_device_alias", alias=alias, flags=flags)

    async def update_device_flags(self, xml: str, flags: int = 0) -> None:
        await self.call("update_device_flags", xml=xml, flags=flags)

    async def get_autostart(self) -> bool:
        return bool((await self.call("get_autostart")).autostart)

    async def set_autostart(self, on: bool) -> None:
        await self.call("set_autostart", autostart=int(on))

    async def is_active(self) -> bool:
        return bool((await self.call("is_active")).active)

    async def is_persistent(self) -> bool:
        return bool((await self.call("is_persistent")).persistent)

    async def has_managed_save_image(self, flags: int = 0) -> bool:
        return bool((await self.call("has_managed_save_image", flags=flags)).result)

    async def get_os_type(self) -> str:
        return str((await self.call("get_os_type")).type)

    async def get_max_memory(self) -> int:
        return int((await self.call("get_max_memory")).memory)

    async def get_max_vcpus(self) -> int:
        return int((await self.call("get_max_vcpus")).num)

    async def get_vcpus_flags(self, flags: int = 0) -> int:
        return int((await self.call("get_vcpus_flags", flags=flags)).num)

    async def get_security_label(self) -> tuple[str, bool]:
        ret = await self.call("get_security_label")
        return (ret.label, bool(ret.enforcing))

    async def get_messages(self, flags: int = 0) -> list[str]:
        return list((await self.call("get_messages", flags=flags)).msgs)

    async def get_metadata(self, kind: int, uri: str | None = None, flags: int = 0) -> str:
        return str((await self.call("get_metadata", type=kind, uri=uri, flags=flags)).metadata)

    async def set_metadata(self, kind: int, text: str | None, key: str | None, uri: str | None, flags: int = 0) -> None:
        await self.call("set_metadata", type=kind, metadata=text, key=key, uri=uri, flags=flags)

    async def snapshot_num(self, flags: int = 0) -> int:
        return int((await self.call("snapshot_num", flags=flags)).num)

    async def open_console(self, device: str | None = None, flags: int = 0) -> Stream:
        """The guest's console (a device's alias, or the first), both ways."""
        stream = self.conn.new_stream()
        await stream.start("domain_open_console", dom=self, dev_name=device, flags=flags)
        return stream

    async def screenshot(self, screen: int = 0, flags: int = 0) -> tuple[str, Stream]:
        """What the guest's screen shows: the MIME type, and the picture to be read."""
        stream = self.conn.new_stream()
        ret = await stream.start("domain_screenshot", dom=self, screen=screen, flags=flags)
        return (str(ret.mime), stream)

    async def interface_addresses(self, source: int = 0, flags: int = 0) -> list[Any]:
        return list((await self.call("interface_addresses", source=source, flags=flags)).ifaces)


class Network(_Handle):
    """A virtual network."""

    _procedure = "network"
    _argument = "net"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.name: str = ref.name
        self.uuid: str = ref.uuid

    async def create(self) -> None:
        await self.call("create")

    async def destroy(self) -> None:
        await self.call("destroy")

    async def undefine(self) -> None:
        await self.call("undefine")

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)

    async def get_metadata(self, kind: int, uri: str | None = None, flags: int = 0) -> str:
        return str((await self.call("get_metadata", type=kind, uri=uri, flags=flags)).metadata)

    async def set_metadata(self, kind: int, text: str | None, key: str | None, uri: str | None, flags: int = 0) -> None:
        await self.call("set_metadata", type=kind, metadata=text, key=key, uri=uri, flags=flags)

    async def get_bridge_name(self) -> str:
        return str((await self.call("get_bridge_name")).name)

    async def get_autostart(self) -> bool:
        return bool((await self.call("get_autostart")).autostart)

    async def set_autostart(self, on: bool) -> None:
        await self.call("set_autostart", autostart=int(on))

    async def is_active(self) -> bool:
        return bool((await self.call("is_active")).active)

    async def is_persistent(self) -> bool:
        return bool((await self.call("is_persistent")).persistent)

    async def update(self, command: int, section: int, parent: int, xml: str, flags: int = 0) -> None:
        """Change one element of it; ``parent`` -1 means that its parent may be any."""
        await self.call("update", command=command, section=section, parentIndex=parent, xml=xml, flags=flags)

    async def get_dhcp_leases(self, mac: str | None = None, flags: int = 0) -> list[Any]:
        """Records: iface, expirytime (s since 1970), type (0 IPv4, 1 IPv6), mac, iaid, ipaddr, prefix, hostname,
        clientid."""
        return list((await self.call("get_dhcp_leases", mac=mac, need_results=1, flags=flags)).leases)


class StoragePool(_Handle):
    """A storage pool."""

    _procedure = "storage_pool"
    _argument = "pool"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.name: str = ref.name
        self.uuid: str = ref.uuid

    async def create(self, flags: int = 0) -> None:
        await self.call("create", flags=flags)

    async def build(self, flags: int = 0) -> None:
        await self.call("build", flags=flags)

    async def destroy(self) -> None:
        await self.call("destroy")

    async def delete(self, flags: int = 0) -> None:
        await self.call("delete", flags=flags)

    async def undefine(self) -> None:
        await self.call("undefine")

    async def refresh(self, flags: int = 0) -> None:
        await self.call("refresh", flags=flags)

    async def get_info(self) -> Any:
        """Record: state, capacity, allocation, available (bytes)."""
        return await self.call("get_info")

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)

    async def get_autostart(self) -> bool:
        return bool((await self.call("get_autostart")).autostart)

    async def set_autostart(self, on: bool) -> None:
        await self.call("set_autostart", autostart=int(on))

    async def is_active(self) -> bool:
        return bool((await self.call("is_active")).active)

    async def is_persistent(self) -> bool:
        return bool((await self.call("is_persistent")).persistent)

    async def num_of_volumes(self) -> int:
        return int((await self.call("num_of_volumes")).num)

    async def list_all_volumes(self, flags: int = 0) -> list[StorageVol]:
        found = (await self.call("list_all_volumes", need_results=1, flags=flags)).vols
        return [StorageVol(self.conn, ref) for ref in found]

    async def vol_lookup_by_name(self, name: str) -> StorageVol:
        ret = await self.conn.call("storage_vol_lookup_by_name", pool=self, name=name)
        return StorageVol(self.conn, ret.vol)

    async def vol_create_xml(self, xml: str, flags: int = 0) -> StorageVol:
        ret = await self.conn.call("storage_vol_create_xml", pool=self, xml=xml, flags=flags)
        return StorageVol(self.conn, ret.vol)

    async def vol_create_xml_from(self, xml: str, clone: StorageVol, flags: int = 0) -> StorageVol:
        ret = await self.conn.call("storage_vol_create_xml_from", pool=self, xml=xml, clonevol=clone, flags=flags)
        return StorageVol(self.conn, ret.vol)


class StorageVol(_Handle):
    """A volume; ``pool`` is its pool's name."""

    _procedure = "storage_vol"
    _argument = "vol"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.pool: str = ref.pool
        self.name: str = ref.name
        self.key: str = ref.key

    async def get_info(self) -> Any:
        """Record: type, capacity, allocation (bytes)."""
        return await self.call("get_info")

    async def get_info_flags(self, flags: int = 0) -> Any:
        return await self.call("get_info_flags", flags=flags)

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)

    async def get_path(self) -> str:
        return str((await self.call("get_path")).name)

    async def delete(self, flags: int = 0) -> None:
        await self.call("delete", flags=flags)

    async def resize(self, capacity: int, flags: int = 0) -> None:
        await self.call("resize", capacity=capacity, flags=flags)

    async def wipe(self, flags: int = 0) -> None:
        await self.call("wipe", flags=flags)

    async def wipe_pattern(self, algorithm: int, flags: int = 0) -> None:
        await self.call("wipe_pattern", algorithm=algorithm, flags=flags)

    async def pool_lookup_by_volume(self) -> StoragePool:
        return StoragePool(self.conn, (await self.conn.call("storage_pool_lookup_by_volume", vol=self)).pool)

    async def upload(self, offset: int, length: int, flags: int = 0) -> Stream:
        """A stream that takes the content from ``offset`` on; ``length`` 0 means as much as comes."""
        stream = self.conn.new_stream()
        await stream.start("storage_vol_upload", vol=self, offset=offset, length=length, flags=flags)
        return stream

    async def download(self, offset: int, length: int, flags: int = 0) -> Stream:
        """A stream that gives the content from ``offset`` on; ``length`` 0 means to the end."""
        stream = self.conn.new_stream()
        await stream.start("storage_vol_download", vol=self, offset=offset, length=length, flags=flags)
        return stream


class Secret(_Handle):
    """A secret; ``usageType`` is libvirt's number of what it is for, ``usageID`` names that."""

    _procedure = "secret"
    _argument = "secret"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.uuid: str = ref.uuid
        self.usageType: int = ref.usageType
        self.usageID: str = ref.usageID

    async def undefine(self) -> None:
        await self.call("undefine")

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)

    async def get_value(self, flags: int = 0) -> bytes:
        return bytes((await self.call("get_value", flags=flags)).value)

    async def set_value(self, value: bytes, flags: int = 0) -> None:
        await self.call("set_value", value=value, flags=flags)


class NWFilter(_Handle):
    """A network filter."""

    _procedure = "nwfilter"
    _argument = "nwfilter"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.name: str = ref.name
        self.uuid: str = ref.uuid

    async def undefine(self) -> None:
        await self.call("undefine")

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)


class NWFilterBinding(_Handle):
    """That the device ``portdev`` has the filter ``filtername``."""

    _procedure = "nwfilter_binding"
    _argument = "nwfilter"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.portdev: str = ref.portdev
        self.filtername: str = ref.filtername

    async def delete(self) -> None:
        await self.call("delete")

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)


class NodeDevice(_Handle):
    """A device of the host."""

    _procedure = "node_device"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.name: str = ref.name

    async def call(self, method: str, /, **args: Any) -> Any:
        return await self.conn.call(f"node_device_{method}", name=self.name, **args)

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)

    async def get_parent(self) -> str | None:
        """The parent's name; None of the root, "computer"."""
        parent = (await self.call("get_parent")).parentName
        return None if parent is None else str(parent)

    async def num_of_caps(self) -> int:
        return int((await self.call("num_of_caps")).num)

    async def list_caps(self) -> list[str]:
        return list((await self.call("list_caps", maxnames=_MANY_NAMES)).names)

    async def create(self, flags: int = 0) -> None:
        await self.call("create", flags=flags)

    async def destroy(self) -> None:
        await self.call("destroy")

    async def undefine(self, flags: int = 0) -> None:
        await self.call("undefine", flags=flags)

    async def get_autostart(self) -> bool:
        return bool((await self.call("get_autostart")).autostart)

    async def set_autostart(self, on: bool) -> None:
        await self.call("set_autostart", autostart=int(on))

    async def is_active(self) -> bool:
        return bool((await self.call("is_active")).active)

    async def is_persistent(self) -> bool:
        return bool((await self.call("is_persistent")).persistent)

    async def dettach(self) -> None:
        """Take it from the host's driver, for a guest."""
        await self.call("dettach")

    async def detach_flags(self, driver: str | None = None, flags: int = 0) -> None:
        await self.call("detach_flags", driverName=driver, flags=flags)

    async def re_attach(self) -> None:
        await self.call("re_attach")

    async def reset(self) -> None:
        await self.call("reset")


class Interface(_Handle):
    """A network interface of the host."""

    _procedure = "interface"
    _argument = "iface"

    def __init__(self, conn: Connect, ref: Any) -> None:
        super().__init__(conn)
        self.name: str = ref.name
        self.mac: str = ref.mac

    async def get_xml_desc(self, flags: int = 0) -> str:
        return str((await self.call("get_xml_desc", flags=flags)).xml)

    async def is_active(self) -> bool:
        return bool((await self.call("is_active")).active)

    async def create(self, flags: int = 0) -> None:
        await self.call("create", flags=flags)

    async def destroy(self, flags: int = 0) -> None:
        await self.call("destroy", flags=flags)

    async def undefine(self) -> None:
        await self.call("undefine")
