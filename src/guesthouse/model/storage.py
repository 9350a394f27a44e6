"""``<pool>`` and ``<volume>``: storage of the host, in libvirt 9.0's vocabulary and element order.

Parse documents from outside with :mod:`guesthouse.model.storage_rules`, which applies libvirt's checks and brings
values into its spelling; ``from_xml`` alone reads what has been through that. Sizes are bytes.
"""

from __future__ import annotations

from typing import Any

from guesthouse.model.fields import (
    Attr,
    Bool,
    Child,
    Children,
    Choice,
    Content,
    Element,
    Flag,
    Hex,
    Int,
    Kind,
    Size,
    Text,
    UInt,
    Uuid,
)

#: Pool types in the order of libvirt's numbers (virStoragePoolType).
POOL_TYPES = (
    "dir",
    "fs",
    "netfs",
    "logical",
    "disk",
    "iscsi",
    "iscsi-direct",
    "scsi",
    "mpath",
    "rbd",
    "sheepdog",
    "gluster",
    "zfs",
    "vstorage",
)
#: Volume types in the order of libvirt's numbers (virStorageVolType).
VOLUME_TYPES = ("file", "block", "dir", "network", "netdir", "ploop")

_NO_ID = 2**32 - 1


def _parse_mode(text: str) -> int:
    mode = int(text, 8)
    if mode & ~0o777:
        raise ValueError(text)
    return mode


def _parse_id(text: str) -> int | None:
    number = int(text, 10)
    if not -1 <= number <= _NO_ID:
        raise ValueError(text)
    return None if number in (-1, _NO_ID) else number


_Mode = Kind(_parse_mode, lambda mode: f"0{mode:o}", "an octal mode, such as 0644")
_Id = Kind(_parse_id, str, "a number of a user or group")


class Permissions(Element, tag="permissions"):
    """None stands for the default: of the daemon's user and group, a mode by kind, no label."""

    mode: int | None = Text("mode", _Mode)
    owner: int | None = Text("owner", _Id)
    group: int | None = Text("group", _Id)
    label: str | None = Text("label")

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.mode, self.owner, self.group, self.label))


class Secret(Element, tag="secret"):
    type: str | None = Attr("type")
    uuid: str | None = Attr("uuid", Uuid)
    usage: str | None = Attr("usage")


# -- pools


class SourceHost(Element, tag="host"):
    name: str | None = Attr("name")
    port: int | None = Attr("port", Int)


class FreeExtent(Element, tag="freeExtent"):
    start: int | None = Attr("start", UInt)
    end: int | None = Attr("end", UInt)


class SourceDevice(Element, tag="device"):
    path: str | None = Attr("path")
    part_separator: bool | None = Attr("part_separator", Bool)
    free_extents: list[FreeExtent] = Children(FreeExtent)


class SourceDir(Element, tag="dir"):
    path: str | None = Attr("path")


class PciAddress(Element, tag="address"):
    domain: int | None = Attr("domain", Hex(4))
    bus: int | None = Attr("bus", Hex(2))
    slot: int | None = Attr("slot", Hex(2))
    function: int | None = Attr("function", Hex(1))


class ParentAddress(Element, tag="parentaddr"):
    unique_id: int | None = Attr("unique_id", UInt)
    address: PciAddress | None = Child(PciAddress)


class Adapter(Element, tag="adapter"):
    """A SCSI or Fibre Channel host adapter."""

    type: str | None = Attr("type", Choice("scsi_host", "fc_host"))
    name: str | None = Attr("name")
    parent: str | None = Attr("parent")
    parent_wwnn: str | None = Attr("parent_wwnn")
    parent_wwpn: str | None = Attr("parent_wwpn")
    parent_fabric_wwn: str | None = Attr("parent_fabric_wwn")
    managed: bool | None = Attr("managed", Bool)
    wwnn: str | None = Attr("wwnn")
    wwpn: str | None = Attr("wwpn")
    parent_address: ParentAddress | None = Child(ParentAddress)


class Iqn(Element, tag="iqn"):
    name: str | None = Attr("name")


class Initiator(Element, tag="initiator"):
    iqn: Iqn | None = Child(Iqn)


class SourceFormat(Element, tag="format"):
    type: str | None = Attr("type")


class Auth(Element, tag="auth"):
    type: str | None = Attr("type", Choice("chap", "ceph"))
    username: str | None = Attr("username", required=True)
    secret: Secret | None = Child(Secret, required=True)


class Protocol(Element, tag="protocol"):
    version: str | None = Attr("ver")


class Named(Element, tag="named"):
    """An element that is all name: ``<vendor name='...'/>``."""

    name: str | None = Attr("name")


class PoolSource(Element, tag="source", paired=True):
    """Where the pool's storage comes from. Directory pools have an empty one."""

    hosts: list[SourceHost] = Children(SourceHost)
    devices: list[SourceDevice] = Children(SourceDevice)
    dir: SourceDir | None = Child(SourceDir)
    adapter: Adapter | None = Child(Adapter)
    name: str | None = Text("name")
    initiator: Initiator | None = Child(Initiator)
    format: SourceFormat | None = Child(SourceFormat)
    auth: Auth | None = Child(Auth)
    protocol: Protocol | None = Child(Protocol)
    vendor: Named | None = Child(Named, "vendor")
    product: Named | None = Child(Named, "product")


class Sources(Element, tag="sources", paired=True):
    """What pools could be made of."""

    sources: list[PoolSource] = Children(PoolSource)


class PoolTarget(Element, tag="target"):
    path: str | None = Text("path")
    permissions: Permissions | None = Child(Permissions)


class Cow(Element, tag="cow"):
    state: bool | None = Attr("state", Bool)


class PoolFeatures(Element, tag="features"):
    cow: Cow | None = Child(Cow)


class RefreshVolume(Element, tag="volume"):
    allocation: str | None = Attr("allocation", Choice("default", "capacity"))


class Refresh(Element, tag="refresh"):
    volume: RefreshVolume | None = Child(RefreshVolume)


class Pool(Element, tag="pool"):
    """A storage pool. ``capacity``, ``allocation`` and ``available`` are those of the last refresh."""

    type: str = Attr("type", Choice(*POOL_TYPES), required=True)
    name: str | None = Text("name")
    uuid: str | None = Text("uuid", Uuid)
    capacity: int | None = Size("capacity", keep="bytes")
    allocation: int | None = Size("allocation", keep="bytes")
    available: int | None = Size("available", keep="bytes")
    features: PoolFeatures | None = Child(PoolFeatures)
    source: PoolSource | None = Child(PoolSource)
    target: PoolTarget | None = Child(PoolTarget)
    refresh: Refresh | None = Child(Refresh)

    @property
    def path(self) -> str:
        """Where the volumes are, "" for a pool that is no folder."""
        return (self.target.path if self.target else None) or ""


# -- volumes


class Extent(Element, tag="extent"):
    start: int | None = Attr("start", UInt)
    end: int | None = Attr("end", UInt)


class ExtentDevice(Element, tag="device"):
    path: str | None = Attr("path")
    extents: list[Extent] = Children(Extent)


class VolumeSource(Element, tag="source"):
    devices: list[ExtentDevice] = Children(ExtentDevice)


class VolumeFormat(Element, tag="format"):
    type: str | None = Attr("type")


class Timestamps(Element, tag="timestamps"):
    """Seconds since 1970, with nine digits behind the point where there are any."""

    atime: str | None = Text("atime")
    mtime: str | None = Text("mtime")
    ctime: str | None = Text("ctime")
    btime: str | None = Text("btime")


class Cipher(Element, tag="cipher"):
    name: str | None = Attr("name", required=True)
    size: int | None = Attr("size", UInt, required=True)
    mode: str | None = Attr("mode")
    hash: str | None = Attr("hash")


class Ivgen(Element, tag="ivgen"):
    name: str | None = Attr("name", required=True)
    hash: str | None = Attr("hash")


class Encryption(Element, tag="encryption", paired=True):
    format: str | None = Attr("format", Choice("default", "qcow", "luks", "luks2"), required=True)
    engine: str | None = Attr("engine", Choice("qemu", "librbd"))
    secrets: list[Secret] = Children(Secret)
    cipher: Cipher | None = Child(Cipher)
    ivgen: Ivgen | None = Child(Ivgen)


class ClusterSize(Element, tag="clusterSize"):
    unit: str | None = Attr("unit")
    value: int | None = Content(UInt)


class ImageFeatures(Element, tag="features"):
    """What of the qcow2 format the image uses."""

    lazy_refcounts: bool = Flag("lazy_refcounts")
    extended_l2: bool = Flag("extended_l2")


class VolumeTarget(Element, tag="target"):
    """An image: where it is and how it is made. ``nocow`` is a wish for its creation and never written."""

    path: str | None = Text("path")
    format: VolumeFormat | None = Child(VolumeFormat)
    permissions: Permissions | None = Child(Permissions)
    timestamps: Timestamps | None = Child(Timestamps)
    encryption: Encryption | None = Child(Encryption)
    compat: str | None = Text("compat")
    cluster_size: ClusterSize | None = Child(ClusterSize)
    features: ImageFeatures | None = Child(ImageFeatures)
    nocow: bool = Flag("nocow")

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        wish, self.nocow = self.nocow, False
        super()._write(out, indent, tag, secrets)
        self.nocow = wish

    @property
    def format_name(self) -> str:
        """ "raw" where none is named."""
        return (self.format.type if self.format else None) or "raw"


class Volume(Element, tag="volume"):
    """A storage volume. ``allocation`` is what it takes on the disk, ``physical`` the file's length."""

    type: str = Attr("type", Choice(*VOLUME_TYPES), default="file")
    name: str | None = Text("name")
    key: str | None = Text("key")
    source: VolumeSource | None = Child(VolumeSource)
    capacity: int | None = Size("capacity", keep="bytes")
    allocation: int | None = Size("allocation", keep="bytes")
    physical: int | None = Size("physical", keep="bytes")
    target: Any = Child(VolumeTarget)
    backing_store: VolumeTarget | None = Child(VolumeTarget, "backingStore")

    @property
    def path(self) -> str:
        return (self.target.path if self.target else None) or ""
