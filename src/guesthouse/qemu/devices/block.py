"""A disk's images as QEMU's block nodes: for each a storage node (where the bytes are), now and then a slice of it, and
a format node on top, which refers to the format node of the image below.

The shapes are libvirt 9.0's. Nodes are numbered over a whole guest (:func:`number`), and a secret or a set of
descriptors is named after its node.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from guesthouse.errors import ConfigUnsupported, InternalError, InvalidArg
from guesthouse.model.devices.disk import Disk, Layer
from guesthouse.model.devices.disk_source import SourceHost, SourceSecret
from guesthouse.model.domain import Domain
from guesthouse.qemu.parts import Parts, Props

# cache mode -> (writeback, direct, no-flush), as QEMU's documentation has them
CACHE = {
    "none": (True, True, False),
    "writethrough": (False, False, False),
    "writeback": (True, False, False),
    "directsync": (False, True, False),
    "unsafe": (True, False, True),
}
# libvirt's names of formats -> QEMU's
_FORMATS = {
    **{name: name for name in ("raw", "bochs", "cloop", "dmg", "vdi", "vpc", "qcow", "qcow2", "qed", "vmdk")},
    "fat": "raw",
    "vhd": "vpc",
    "ploop": "parallels",
}
_WITH_BACKING = ("qcow", "qcow2", "qed", "vmdk")
_CURL = ("http", "https", "ftp", "ftps", "tftp")
TLS_FOLDER = "/etc/pki/qemu"


@dataclass(frozen=True)
class SecretWish:
    """A secret that QEMU is to know as ``id``: a secret of the host (of the usage ``usage_type``, libvirt's number), or
    the very ``value``."""

    id: str
    usage_type: int = 0
    uuid: str = ""
    usage: str = ""
    value: bytes | None = None


#: The guest's own helper for SCSI reservations.
RESERVATIONS = "pr-helper0"


@dataclass
class Prepared:
    """What the host has made ready for disks. ``secrets``: id -> a descriptor of a file that holds the value, for a
    guest that is about to start; what is not in it QEMU knows already. ``groups``: name of a group of descriptors ->
    those. ``reservations``: the socket of the guest's helper for SCSI reservations."""

    secrets: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, list[int]] = field(default_factory=dict)
    reservations: str | None = None


def number(domain: Domain) -> None:
    """Give every image of the live document its number: the last disk's is 1, those below it follow."""
    count = 0
    for disk in reversed(domain.dev.disks):
        count += 1
        if disk.source is None:
            continue
        disk.source.index = count
        below = disk.backing
        while below is not None and below.source is not None:
            count += 1
            below.index = count
            below = below.backing


def count(domain: Domain) -> int:
    """How many numbers :func:`number` has given: what else needs block nodes goes on from there."""
    below = [len(disk.layers) - 1 for disk in domain.dev.disks if disk.layers]
    return len(domain.dev.disks) + sum(below)


def node_name(index: int, layer: str = "format") -> str:
    """The name of a block node; ``index`` is the one in the live document's <source>."""
    return f"libvirt-{index}-{layer}"


def cache_mode(disk: Disk) -> str:
    """The cache mode that counts: guests that share a disk must not have caches of their own."""
    asked = (disk.driver and disk.driver.cache) or "default"
    return "none" if asked == "default" and disk.shareable and not disk.readonly else asked


def secrets(disk: Disk) -> list[SecretWish]:
    """What QEMU has to know before the disk's nodes are made."""
    found: list[SecretWish] = []
    for layer in disk.layers:
        index = layer.index or 0
        cookies = layer.source.cookies
        if layer.auth is not None and layer.auth.secret is not None:
            usage = 2 if layer.source.protocol == "rbd" else 3
            found.append(_wish(f"{node_name(index, 'storage')}-auth-secret0", usage, layer.auth.secret))
        if layer.encryption is not None:
            for secret in layer.encryption.secrets[:1]:
                found.append(_wish(f"{node_name(index)}-encryption-secret0", 1, secret))
        if cookies is not None and cookies.cookies:
            text = "; ".join(f"{cookie.name}={cookie.value or ''}" for cookie in cookies.cookies)
            found.append(SecretWish(f"{node_name(index, 'storage')}-httpcookie-secret0", value=text.encode()))
    return found


def _wish(name: str, usage_type: int, secret: SourceSecret) -> SecretWish:
    return SecretWish(name, usage_type, secret.uuid or "", secret.usage or "")


def fd_sets(domain: Domain) -> dict[int, int]:
    """Image number -> the number of its set of descriptors, for those that are opened by somebody else."""
    layers = [layer for disk in domain.dev.disks for layer in disk.layers if layer.source.fdgroup]
    return {index: place for place, index in enumerate(sorted(layer.index or 0 for layer in layers))}


def asks_reservations(domain: Domain) -> bool:
    """Whether a disk's SCSI reservations are for the guest's own helper to see to."""
    wishes = [layer.source.reservations for disk in domain.dev.disks for layer in disk.layers]
    return any(wish is not None and wish.managed for wish in wishes)


def reservations(domain: Domain, prepared: Prepared) -> Parts:
    """The way to the guest's own helper for SCSI reservations, where a disk needs it."""
    if not asks_reservations(domain) or prepared.reservations is None:
        return Parts()
    return Parts(objects=[{"qom-type": "pr-manager-helper", "id": RESERVATIONS, "path": prepared.reservations}])


def nodes(disk: Disk, prepared: Prepared, sets: Mapping[int, int]) -> Parts:
    """The nodes of all images, the lowest first. Raises ConfigUnsupported for what QEMU cannot open."""
    parts = Parts()
    below: str | None = None
    layers = disk.layers
    for layer in reversed(layers):
        top = layer is layers[0]
        _secret_objects(disk, layer, prepared, parts)
        base = _storage(disk, layer, prepared, sets, parts, top)
        form = _format(disk, layer, top)
        area = layer.source.slice
        if area is not None and (form["driver"] != "raw"):
            name = node_name(layer.index or 0, "slice-sto")
            part = {"driver": "raw", "node-name": name, "offset": area.offset or 0, "size": area.size or 0}
            parts.blockdevs.append({**part, "file": base, "auto-read-only": True, "discard": "unmap", **_cache(disk)})
            base = name
        elif area is not None:
            form |= {"offset": area.offset or 0, "size": area.size or 0}
        form["file"] = base
        if layer.format in _WITH_BACKING:
            if below is not None:
                form["backing"] = below
            elif layer.ends:
                form["backing"] = None
        parts.blockdevs.append(form)
        below = node_name(layer.index or 0)
    if disk.driver is not None and disk.driver.copy_on_read:
        assert below is not None
        name = f"libvirt-CoR-{disk.dev}"
        parts.blockdevs.append({"driver": "copy-on-read", "node-name": name, "file": below, "discard": "unmap"})
    return parts


def top_node(disk: Disk) -> str:
    """What the guest's drive is plugged into."""
    if disk.driver is not None and disk.driver.copy_on_read:
        return f"libvirt-CoR-{disk.dev}"
    return node_name(disk.layers[0].index or 0)


def _cache(disk: Disk) -> Props:
    mode = CACHE.get(cache_mode(disk))
    return {"cache": {"direct": mode[1], "no-flush": mode[2]}} if mode else {}


def _secret_objects(disk: Disk, layer: Layer, prepared: Prepared, parts: Parts) -> None:
    # The value stands in a file of no name: neither a command line nor a folder shows it.
    for wish in secrets(disk):
        fd = prepared.secrets.get(wish.id)
        if fd is not None and wish.id.startswith(f"libvirt-{layer.index}-"):
            parts.objects.append({"qom-type": "secret", "id": wish.id, "format": "raw", "file": f"/proc/self/fd/{fd}"})
            parts.fds.append(fd)


# -- where the bytes are


def _storage(disk: Disk, layer: Layer, prepared: Prepared, sets: Mapping[int, int], parts: Parts, top: bool) -> str:
    source, index = layer.source, layer.index or 0
    name = node_name(index, "storage")
    read_only: Props = {"auto-read-only": True}
    if layer.kind in ("file", "block"):
        path = layer.path or ""
        block = "host_cdrom" if disk.device == "cdrom" and _is_cdrom(path) else "host_device"
        props: Props = {"driver": "file" if layer.kind == "file" else block, "filename": path}
        if source.fdgroup is not None:
            files = prepared.groups.get(source.fdgroup)
            if files is None:
                raise InvalidArg(f"file descriptor group '{source.fdgroup}' was not associated with the domain")
            place = sets[index]
            props["filename"] = f"/dev/fdset/{place}"
            for count, fd in enumerate(files):
                parts.options += ["-add-fd", f"set={place},fd={fd},opaque={name}{count}"]
            parts.fds += files
            if len(files) == 1:
                read_only = {"read-only": not top or disk.readonly}
        if disk.driver is not None and disk.driver.io:
            props["aio"] = disk.driver.io
        if (manager := _reservations(layer, name, prepared, parts)) is not None:
            props["pr-manager"] = manager
    elif layer.kind == "dir":
        if layer.format != "fat":
            raise ConfigUnsupported("only 'fat' virtual FAT storage is supported for type 'dir' disks")
        props = {"driver": "vvfat", "dir": source.dir, "floppy": disk.device == "floppy", "rw": not disk.readonly}
    elif layer.kind == "nvme":
        where = source.address
        if where is None:
            raise ConfigUnsupported(f"the NVMe <source> of disk '{disk.dev}' needs an <address>")
        place_ = f"{where.domain or 0:04x}:{where.bus or 0:02x}:{where.slot or 0:02x}.{where.function or 0:x}"
        props = {"driver": "nvme", "device": place_, "namespace": source.namespace or 1}
    elif layer.kind == "network":
        props = _network(layer, name, parts)
    else:
        raise ConfigUnsupported(f"disk type '{layer.kind}' is not supported yet (disk '{disk.dev}')")
    parts.blockdevs.append({**props, "node-name": name, **_cache(disk), **read_only, "discard": "unmap"})
    return name


def _is_cdrom(path: str) -> bool:
    """Whether it is a CD drive of the host; of one that is not there the name decides."""
    try:
        info = os.stat(path)  # noqa: PTH116
    except OSError:
        return path.startswith("/dev/cdrom")
    return stat.S_ISBLK(info.st_mode) and os.major(info.st_rdev) == 11


def _reservations(layer: Layer, name: str, prepared: Prepared, parts: Parts) -> str | None:
    wish = layer.source.reservations
    if wish is None:
        return None
    if wish.managed:
        if prepared.reservations is None:
            raise ConfigUnsupported(
                "SCSI reservations of a disk that is plugged in need the helper of a disk before it"
            )
        return RESERVATIONS
    if wish.source is None or not wish.source.path:
        raise ConfigUnsupported("missing connection path for reservations")
    manager = f"pr-helper-{name}"
    parts.objects.append({"qom-type": "pr-manager-helper", "id": manager, "path": wish.source.path})
    return manager


def _network(layer: Layer, name: str, parts: Parts) -> Props:
    source = layer.source
    protocol = source.protocol or ""
    hosts = source.hosts
    user = layer.auth.username if layer.auth is not None else None
    key = f"{name}-auth-secret0" if layer.auth is not None and layer.auth.secret is not None else None
    if protocol in _CURL:
        props: Props = {"driver": protocol, "url": _url(layer)}
        if user is not None:
            props["username"] = user
        if key is not None:
            props["password-secret"] = key
        if source.ssl is not None and source.ssl.verify is not None:
            props["sslverify"] = source.ssl.verify
        if source.cookies is not None and source.cookies.cookies:
            props["cookie-secret"] = f"{name}-httpcookie-secret0"
        if source.timeout is not None and source.timeout.seconds:
            props["timeout"] = source.timeout.seconds
        if source.readahead is not None and source.readahead.size:
            props["readahead"] = source.readahead.size
        return props
    if protocol == "nbd":
        props = {"driver": "nbd", "server": _server(_one(hosts, protocol), "10809")}
        if source.name:
            props["export"] = source.name
        if source.tls:
            creds = f"obj{name}_tls0"
            made: Props = {"qom-type": "tls-creds-x509", "id": creds, "dir": TLS_FOLDER, "endpoint": "client"}
            parts.objects.append({**made, "verify-peer": True})
            props["tls-creds"] = creds
            if source.tls_hostname:
                props["tls-hostname"] = source.tls_hostname
        return props
    if protocol == "rbd":
        pool, _, image = (source.name or "").partition("/")
        props = {"driver": "rbd", "pool": pool, "image": image}
        if source.snapshot is not None:
            props["snapshot"] = source.snapshot.name
        if source.config is not None:
            props["conf"] = source.config.file
        if hosts:
            props["server"] = [{"host": host.name or "", "port": host.port or "0"} for host in hosts]
        if user is not None:
            props["user"] = user
        if key is not None:
            props |= {"auth-client-required": ["cephx", "none"], "key-secret": key}
        if layer.encryption is not None and layer.encryption.engine == "librbd":
            secret = f"{node_name(layer.index or 0)}-encryption-secret0"
            props["encrypt"] = {"format": layer.encryption.format, "key-secret": secret}
        return props
    if protocol == "iscsi":
        target, _, lun = (source.name or "").partition("/")
        host = _one(hosts, protocol)
        portal = f"{_bracketed(host.name or '')}:{host.port or '3260'}"
        props = {"driver": "iscsi", "portal": portal, "target": target, "lun": _lun(lun), "transport": "tcp"}
        if user is not None:
            props["user"] = user
        if key is not None:
            props["password-secret"] = key
        if source.initiator is not None and source.initiator.iqn is not None:
            props["initiator-name"] = source.initiator.iqn.name
        return props
    if protocol == "gluster":
        volume, slash, path = (source.name or "").partition("/")
        if not slash or not path:
            raise ConfigUnsupported(f"missing volume name and path in gluster volume '{source.name or ''}'")
        servers = [_server(host, "24007") for host in hosts]
        return {"driver": "gluster", "volume": volume, "path": path, "server": servers, "debug": 4}
    if protocol == "ssh":
        host = _one(hosts, protocol)
        return {"driver": "ssh", "path": source.name or "", "server": {"host": host.name, "port": host.port or "22"}}
    if protocol == "nfs":
        props = {"driver": "nfs", "server": {"host": _one(hosts, protocol).name, "type": "inet"}}
        props["path"] = source.name or ""
        identity = source.identity
        for field_ in ("user", "group") if identity is not None else ():
            if (value := getattr(identity, field_)) is not None:
                props[field_] = _nfs_id(field_, value)
        return props
    raise ConfigUnsupported(f"the protocol '{protocol}' of network disks is not supported by QEMU")


def _one(hosts: list[SourceHost], protocol: str) -> SourceHost:
    if len(hosts) != 1:
        raise InternalError(f"protocol '{protocol}' accepts only one host")
    return hosts[0]


def _server(host: SourceHost, port: str) -> Props:
    if host.transport == "unix":
        return {"type": "unix", "path": host.socket}
    return {"type": "inet", "host": host.name, "port": host.port or port}


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _lun(text: str) -> int:
    try:
        return int(text or "0")
    except ValueError:
        raise InternalError(f"cannot parse target for lunID '{text}'") from None


def _nfs_id(field_: str, text: str) -> int:
    import grp
    import pwd

    number_ = text.removeprefix("+")
    if number_.isdecimal():
        return int(number_)
    try:
        return pwd.getpwnam(text).pw_uid if field_ == "user" else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ConfigUnsupported(f"there is no {field_} '{text}' on this host, for an NFS disk") from None


def _url(layer: Layer) -> str:
    source = layer.source
    protocol = source.protocol or ""
    host = _one(source.hosts, protocol)
    ports = {"http": "80", "https": "443", "ftp": "21", "ftps": "990", "tftp": "69"}
    path = source.name or ""
    query = f"?{source.query}" if source.query else ""
    slash = "" if path.startswith("/") else "/"
    return f"{protocol}://{_bracketed(host.name or '')}:{host.port or ports[protocol]}{slash}{path}{query}"


# -- formats


def _format(disk: Disk, layer: Layer, top: bool) -> Props:
    driver, name = disk.driver, node_name(layer.index or 0)
    props: Props = {"node-name": name, "read-only": disk.readonly or not top}
    if driver is not None and driver.discard:
        props["discard"] = driver.discard
    if driver is not None and driver.detect_zeroes and top:
        # QEMU unmaps zeroes only where it may unmap at all
        unmap = driver.detect_zeroes == "unmap" and driver.discard != "unmap"
        props["detect-zeroes"] = "on" if unmap else driver.detect_zeroes
    props |= _cache(disk)
    kind = _FORMATS.get(layer.format)
    if layer.format == "fat" and layer.kind not in ("dir",):
        raise ConfigUnsupported(f"storage format 'fat' of disk '{disk.dev}' needs a source of type 'dir'")
    if layer.format == "iso":
        raise ConfigUnsupported("storage format 'iso' is directly not supported by QEMU, use 'raw' instead")
    if kind is None:
        raise ConfigUnsupported(f"unsupported disk driver type '{layer.format}'")
    secret = f"{name}-encryption-secret0"
    encryption = layer.encryption
    if encryption is not None and encryption.engine != "librbd":
        if not encryption.secrets:
            raise ConfigUnsupported(f"the <encryption> of disk '{disk.dev}' names no secret")
        if encryption.format != "luks":
            raise ConfigUnsupported(f"'{encryption.format}' image encryption is not supported by QEMU")
        if layer.format == "raw":
            return {**props, "driver": "luks", "key-secret": secret}
        if layer.format != "qcow2":
            raise ConfigUnsupported(f"images of the format '{layer.format}' cannot be encrypted")
        props |= {"driver": "qcow2", "encrypt": {"format": "luks", "key-secret": secret}}
    else:
        props["driver"] = kind
    if layer.metadata_cache is not None and layer.metadata_cache.max_size and layer.format == "qcow2":
        props["cache-size"] = layer.metadata_cache.max_size
    return props
