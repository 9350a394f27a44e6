"""What a host has beside guests: node devices, interfaces, secrets, network filters."""

from __future__ import annotations

from guesthouse.libvirt.objects import Object, declared, uuid_bytes


@declared("""
XMLDesc(flags=0) node_device_get_xml_desc
autostart() node_device_get_autostart
create(flags=0) node_device_create
destroy() node_device_destroy
detachFlags(driverName,flags=0) node_device_detach_flags
dettach() node_device_dettach
isActive() node_device_is_active
isPersistent() node_device_is_persistent
listCaps() node_device_list_caps
numOfCaps() node_device_num_of_caps
parent() node_device_get_parent
reAttach() node_device_re_attach
reset() node_device_reset
setAutostart(autostart) node_device_set_autostart
undefine(flags=0) node_device_undefine
""")
class virNodeDevice(Object):
    """A device of the host."""

    _kind = "nonnull_node_device"

    def name(self) -> str:
        return str(self._o.ref[0])


@declared("""
XMLDesc(flags=0) interface_get_xml_desc
create(flags=0) interface_create
destroy(flags=0) interface_destroy
isActive() interface_is_active
undefine() interface_undefine
""")
class virInterface(Object):
    """A network interface of the host."""

    _kind = "nonnull_interface"

    def name(self) -> str:
        return str(self._o.ref[0])

    def MACString(self) -> str:
        return str(self._o.ref[1])


@declared("""
XMLDesc(flags=0) secret_get_xml_desc
setValue(value,flags=0) secret_set_value value=typed.raw(value)
undefine() secret_undefine
value(flags=0) secret_get_value
""")
class virSecret(Object):
    """A secret that the host keeps."""

    _kind = "nonnull_secret"

    def UUID(self) -> bytes:
        return uuid_bytes(self._o.ref[0])

    def UUIDString(self) -> str:
        return str(self._o.ref[0])

    def usageType(self) -> int:
        return int(self._o.ref[1])

    def usageID(self) -> str:
        return str(self._o.ref[2])


@declared("""
XMLDesc(flags=0) nwfilter_get_xml_desc
undefine() nwfilter_undefine
""")
class virNWFilter(Object):
    """A network filter."""

    _kind = "nonnull_nwfilter"

    def name(self) -> str:
        return str(self._o.ref[0])

    def UUID(self) -> bytes:
        return uuid_bytes(self._o.ref[1])

    def UUIDString(self) -> str:
        return str(self._o.ref[1])


@declared("""
XMLDesc(flags=0) nwfilter_binding_get_xml_desc
delete() nwfilter_binding_delete
""")
class virNWFilterBinding(Object):
    """A network filter at a port."""

    _kind = "nonnull_nwfilter_binding"

    def portDev(self) -> str:
        return str(self._o.ref[0])

    def filterName(self) -> str:
        return str(self._o.ref[1])
