"""From a user's ``<pool>`` or ``<volume>`` to one as libvirt 9.0 keeps it: defaults, spelling, and what is refused.

Facts are storage_conf.c's: what each pool type needs of its source, which formats it knows, the order of the checks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from guesthouse.errors import ConfigUnsupported, Domain, NoSupport, XMLError
from guesthouse.model.fields import parse_document
from guesthouse.model.storage import (
    POOL_TYPES,
    ClusterSize,
    Permissions,
    Pool,
    PoolSource,
    PoolTarget,
    SourceDir,
    SourceFormat,
    Volume,
    VolumeFormat,
    VolumeTarget,
)
from guesthouse.units import new_uuid, unit_scale

#: Image formats that a volume may have (virStorageFileFormat without "none").
IMAGE_FORMATS = (
    "raw",
    "dir",
    "bochs",
    "cloop",
    "dmg",
    "iso",
    "vpc",
    "vdi",
    "fat",
    "vhd",
    "ploop",
    "cow",
    "qcow",
    "qcow2",
    "qed",
    "vmdk",
)
_DISK_VOLUME_FORMATS = (
    "none",
    "linux",
    "fat16",
    "fat32",
    "linux-swap",
    "linux-lvm",
    "linux-raid",
    "extended",
)
_FILE_SYSTEMS = (
    "auto",
    "ext2",
    "ext3",
    "ext4",
    "ufs",
    "iso9660",
    "udf",
    "gfs",
    "gfs2",
    "vfat",
    "hfs+",
    "xfs",
    "ocfs2",
    "vmfs",
)
_LONGEST = 2**63 - 1


@dataclass(frozen=True)
class PoolKind:
    """What a pool type has. ``source`` names the parts of ``<source>`` that it uses; ``formats`` of the source and
    ``volume_formats`` start with their default (all but "disk", where it is the first as well)."""

    source: frozenset[str] = frozenset()
    formats: tuple[str, ...] = ()
    default_format: str = ""
    volume_formats: tuple[str, ...] = ()


def _kind(
    source: str = "", formats: tuple[str, ...] = (), default: str = "", volumes: tuple[str, ...] = ()
) -> PoolKind:
    return PoolKind(frozenset(source.split()), formats, default or (formats[0] if formats else ""), volumes)


POOL_KINDS: dict[str, PoolKind] = {
    "dir": _kind(volumes=IMAGE_FORMATS),
    "fs": _kind("device", _FILE_SYSTEMS, volumes=IMAGE_FORMATS),
    "netfs": _kind("host dir", ("auto", "nfs", "glusterfs", "cifs"), volumes=IMAGE_FORMATS),
    "logical": _kind("name device", ("unknown", "lvm2"), "lvm2"),
    "disk": _kind(
        "device",
        ("unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2"),
        volumes=_DISK_VOLUME_FORMATS,
    ),
    "iscsi": _kind("host device initiator"),
    "iscsi-direct": _kind("host device network initiator"),
    "scsi": _kind("adapter"),
    "mpath": _kind(),
    "rbd": _kind("host network name", volumes=IMAGE_FORMATS),
    "sheepdog": _kind("host network name"),
    "gluster": _kind("host network name dir", volumes=IMAGE_FORMATS),
    "zfs": _kind("name device"),
    "vstorage": _kind("name", volumes=IMAGE_FORMATS),
}
_PARTS = ("hosts", "devices", "dir", "adapter", "name", "initiator", "format")
_NO_TARGET = ("rbd", "sheepdog", "gluster", "iscsi-direct")


def _refuse(text: str) -> XMLError:
    return XMLError(text, domain=Domain.STORAGE)


def _unsupported(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=Domain.STORAGE)


def clean_path(path: str) -> str:
    """``path`` without doubled and trailing slashes (virFileSanitizePath): two at its start mean something to POSIX,
    and URIs stay as they are."""
    if "://" in path:
        return path
    head = "//" if path.startswith("//") and not path.startswith("///") else "/" if path.startswith("/") else ""
    return (head + re.sub("/+", "/", path.strip("/"))) or path


# -- pools


def parse_pool(xml: str) -> Pool:
    """The pool that ``xml`` describes, with a UUID if it had none, and sizes 0.

    Raises XMLDetail, XMLError, ConfigUnsupported or NoSupport as libvirt does.
    """
    node = parse_document(xml, "(storage_pool_definition)")
    return complete_pool(Pool.parse(node))


def complete_pool(pool: Pool) -> Pool:
    """``pool`` itself, checked and brought into libvirt's spelling."""
    kind = POOL_KINDS[pool.type]
    source = pool.source = pool.source or PoolSource()
    _check_source(pool.type, kind, source)
    if not pool.name and "name" in kind.source:
        pool.name = source.name
    if not pool.name:
        raise _refuse("missing pool source name element")
    if "/" in pool.name:
        raise _refuse(f"name {pool.name} cannot contain '/'")
    pool.uuid = pool.uuid or new_uuid()
    cow = pool.features.cow if pool.features else None
    if cow is not None and cow.state is not None and pool.type not in ("fs", "dir"):
        raise NoSupport("cow feature may only be used for 'fs' and 'dir' pools", domain=Domain.STORAGE)
    if cow is None or cow.state is None:
        pool.features = None
    _check_needs(pool, kind, source)
    _complete_target(pool, kind, source)
    if pool.type == "iscsi-direct" and not (source.initiator and source.initiator.iqn and source.initiator.iqn.name):
        raise _unsupported("missing initiator IQN")
    if pool.refresh is not None and (pool.refresh.volume is None or pool.refresh.volume.allocation is None):
        pool.refresh = None
    pool.capacity = pool.allocation = pool.available = 0
    _keep_used(kind, source)
    return pool


def _check_source(type_: str, kind: PoolKind, source: PoolSource) -> None:
    source.name = source.name or None
    if type_ == "rbd" and source.name is None:
        raise _refuse("element 'name' is mandatory for RBD pool")
    if kind.formats:
        wanted = source.format.type if source.format else None
        if wanted is not None and wanted not in kind.formats:
            raise _unsupported(f"unknown pool format type {wanted}")
        source.format = SourceFormat(type=wanted or kind.default_format)
    for host in source.hosts:
        if host.name is None:
            raise _refuse("missing storage pool host name")
        host.port = host.port or None
    for device in source.devices:
        if device.path is None:
            raise _refuse("missing storage pool source device path")
        device.free_extents = []
    if source.dir is not None and source.dir.path:
        source.dir.path = clean_path(source.dir.path)
    elif type_ == "gluster":
        source.dir = SourceDir(path="/")
    if source.adapter is not None:
        _check_adapter_type(source)
    if source.auth is not None and source.auth.type is None:
        raise _unsupported("storage pool missing auth type")
    _check_protocol(source)


def _check_adapter_type(source: PoolSource) -> None:
    adapter = source.adapter
    assert adapter is not None
    if adapter.type is not None:
        return
    if adapter.wwnn or adapter.wwpn or adapter.parent:
        raise _refuse("Use of 'wwnn', 'wwpn', and 'parent' attributes requires use of the adapter 'type'")
    if adapter.parent_address:
        raise _refuse("Use of 'parentaddr' element requires use of the adapter 'type'")
    if adapter.name:
        adapter.type = "scsi_host"


def _check_protocol(source: PoolSource) -> None:
    version = source.protocol.version if source.protocol else None
    if not version:
        source.protocol = None
        return
    format_ = source.format.type if source.format else "auto"
    if format_ not in ("nfs", "auto"):
        raise _unsupported(f"storage pool protocol ver unsupported for pool type '{format_}'")
    if "," in version:
        raise _refuse(f"storage pool protocol ver '{version}' must not contain ','")


def _check_needs(pool: Pool, kind: PoolKind, source: PoolSource) -> None:
    if "host" in kind.source and not source.hosts:
        raise _refuse("missing storage pool source host name")
    if "dir" in kind.source and not (source.dir and source.dir.path):
        raise _refuse("missing storage pool source path")
    if "name" in kind.source and source.name is None:
        source.name = pool.name
    if "adapter" in kind.source:
        _check_adapter(source)
    if kind.source == {"device"} and not source.devices:
        raise _refuse("missing storage pool source device name")


def _check_adapter(source: PoolSource) -> None:
    adapter = source.adapter
    if adapter is None or adapter.type is None:
        raise _refuse("missing storage pool source adapter")
    if adapter.type == "fc_host":
        if not adapter.wwnn or not adapter.wwpn:
            raise _refuse("'wwnn' and 'wwpn' must be specified for adapter type 'fchost'")
        if adapter.parent_wwnn and not adapter.parent_wwpn:
            text = f"when providing parent_wwnn='{adapter.parent_wwnn}', the parent_wwpn must also be provided"
            raise _refuse(text)
        if adapter.parent_wwpn and not adapter.parent_wwnn:
            text = f"when providing parent_wwpn='{adapter.parent_wwpn}', the parent_wwnn must also be provided"
            raise _refuse(text)
    elif not adapter.name and not adapter.parent_address:
        raise _refuse("Either 'name' or 'parent' must be specified for the 'scsi_host' adapter")
    elif adapter.name and adapter.parent_address:
        raise _refuse("Both 'name' and 'parent' cannot be specified for the 'scsi_host' adapter")


def _complete_target(pool: Pool, kind: PoolKind, source: PoolSource) -> None:
    if pool.type in _NO_TARGET or "network" in kind.source:
        pool.target = None
        return
    target = pool.target = pool.target or PoolTarget()
    if pool.type == "logical":
        target.path = f"/dev/{source.name}"
    elif pool.type == "zfs":
        target.path = f"/dev/zvol/{source.name}"
    elif not target.path:
        raise _refuse("missing storage pool target path")
    target.path = clean_path(target.path)
    if not target.permissions:
        target.permissions = None


def _keep_used(kind: PoolKind, source: PoolSource) -> None:
    """Drop what this type of pool makes no use of."""
    used = {f"{part}s" if part in ("host", "device") else part for part in kind.source}
    if kind.formats:
        used.add("format")
    if source.initiator is not None and (source.initiator.iqn is None or not source.initiator.iqn.name):
        source.initiator = None
    for part in _PARTS:
        if part not in used:
            setattr(source, part, [] if part in ("hosts", "devices") else None)


def pool_number(type_: str) -> int:
    """libvirt's number of a pool type."""
    return POOL_TYPES.index(type_)


# -- volumes


def parse_volume(xml: str, pool_type: str = "dir", *, capacity: str = "required") -> Volume:
    """The volume that ``xml`` describes for a pool of ``pool_type``.

    ``capacity`` may be "required", "with-backing" (a backing image may say it) or "optional"; 0 where it is missing.
    ``allocation`` stays None where the document has none. Raises as :func:`parse_pool`.
    """
    node = parse_document(xml, "(storage_volume_definition)")
    features = node.find("target/features")
    for child in features if features is not None else ():
        if isinstance(child.tag, str) and child.tag not in ("lazy_refcounts", "extended_l2"):
            raise _unsupported(f"unsupported feature {child.tag}")
    volume = Volume.parse(node)
    formats = POOL_KINDS[pool_type].volume_formats
    if not volume.name:
        raise _refuse("missing volume name element")
    volume.key = volume.key or None
    backing = volume.backing_store = (
        volume.backing_store if volume.backing_store and volume.backing_store.path else None
    )
    if backing is not None:
        _complete_format(backing, formats)
        backing.timestamps = backing.encryption = backing.compat = backing.features = backing.cluster_size = None
        backing.nocow = False
    if volume.capacity is None:
        if capacity == "required" or (capacity == "with-backing" and backing is None):
            raise _refuse("missing capacity element")
        volume.capacity = 0
    for size in (volume.capacity, volume.allocation or 0):
        if size > _LONGEST:
            raise _refuse(f"value too large: {size}")
    volume.source = None
    volume.physical = None
    target = volume.target = volume.target or VolumeTarget()
    _complete_format(target, formats)
    _complete_image(target)
    return volume


def _complete_format(target: VolumeTarget, formats: tuple[str, ...]) -> None:
    wanted = target.format.type if target.format else None
    if not formats:
        target.format = None
    elif wanted is not None and wanted not in formats:
        raise _unsupported(f"unknown volume format type {wanted}")
    else:
        target.format = VolumeFormat(type=wanted or formats[0])
    if not target.permissions:
        target.permissions = None


def _complete_image(target: VolumeTarget) -> None:
    target.timestamps = None
    if target.compat is not None:
        if not re.fullmatch(r"\d+\.\d+", target.compat):
            raise _refuse("forbidden characters in 'compat' attribute")
    elif target.features is not None:
        target.compat = "1.1"
    encryption = target.encryption
    if encryption is not None:
        if encryption.format != "luks":
            encryption.cipher = encryption.ivgen = None
        elif encryption.ivgen is not None and encryption.cipher is None:
            raise _refuse("ivgen element found, but cipher is missing")
    size = target.cluster_size
    if size is not None:
        value = (size.value or 0) * unit_scale(size.unit or "B")
        target.cluster_size = ClusterSize(unit="B", value=value) if value else None


def default_permissions(target: PoolTarget | VolumeTarget | None) -> Permissions:
    """The wishes about permissions, empty where there are none."""
    return (target.permissions if target else None) or Permissions()
