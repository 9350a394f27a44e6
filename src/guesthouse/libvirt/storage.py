"""Storage pools and volumes."""

from __future__ import annotations

from typing import Any

from guesthouse.libvirt.objects import Object, declared, invalid, unsigned, unsigned_long, uuid_bytes
from guesthouse.wire.connection import STREAM_DATA_MAX


@declared("""
XMLDesc(flags=0) storage_pool_get_xml_desc
autostart() storage_pool_get_autostart
build(flags=0) storage_pool_build
create(flags=0) storage_pool_create
createXML(xmlDesc,flags=0) storage_vol_create_xml
createXMLFrom(xmlDesc,clonevol,flags=0) storage_vol_create_xml_from
delete(flags=0) storage_pool_delete
destroy() storage_pool_destroy
info() storage_pool_get_info
isActive() storage_pool_is_active
isPersistent() storage_pool_is_persistent
listAllVolumes(flags=0) storage_pool_list_all_volumes
listVolumes() storage_pool_list_volumes
numOfVolumes() storage_pool_num_of_volumes
refresh(flags=0) storage_pool_refresh
setAutostart(autostart) storage_pool_set_autostart
storageVolLookupByName(name) storage_vol_lookup_by_name
undefine() storage_pool_undefine
""")
class virStoragePool(Object):
    """A storage pool."""

    _kind = "nonnull_storage_pool"

    def name(self) -> str:
        return str(self._o.ref[0])

    def UUID(self) -> bytes:
        return uuid_bytes(self._o.ref[1])

    def UUIDString(self) -> str:
        return str(self._o.ref[1])


@declared("""
XMLDesc(flags=0) storage_vol_get_xml_desc
delete(flags=0) storage_vol_delete
info() storage_vol_get_info
infoFlags(flags=0) storage_vol_get_info_flags
path() storage_vol_get_path
resize(capacity,flags=0) storage_vol_resize
storagePoolLookupByVolume() storage_pool_lookup_by_volume
wipe(flags=0) storage_vol_wipe
wipePattern(algorithm,flags=0) storage_vol_wipe_pattern
""")
class virStorageVol(Object):
    """A volume of a storage pool."""

    _kind = "nonnull_storage_vol"
    streamBufSize = STREAM_DATA_MAX

    def name(self) -> str:
        return str(self._o.ref[1])

    def key(self) -> str:
        return str(self._o.ref[2])

    def download(self, stream: Any, offset: int, length: int, flags: int = 0) -> int:
        """Have ``stream`` give the volume's bytes from ``offset`` on, ``length`` of them (0: all)."""
        return self._flow("virStorageVolDownload", "storage_vol_download", stream, offset, length, flags)

    def upload(self, stream: Any, offset: int, length: int, flags: int = 0) -> int:
        """Have what goes into ``stream`` written to the volume at ``offset``, at most ``length`` bytes (0: any)."""
        return self._flow("virStorageVolUpload", "storage_vol_upload", stream, offset, length, flags)

    def _flow(self, function: str, procedure: str, stream: Any, offset: int, length: int, flags: int) -> int:
        if stream is None:
            invalid(function, "stream")
        where = {"offset": unsigned_long(offset), "length": unsigned_long(length), "flags": unsigned(flags)}
        stream._start(function, procedure, {"vol": self._o.ref, **where})
        return 0
