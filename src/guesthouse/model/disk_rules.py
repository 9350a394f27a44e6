"""What a disk's document gets when it is defined, and what of it is refused then. Pure.

Values and errors are libvirt 9.0's for QEMU (domain_postparse.c, domain_validate.c, qemu_validate.c).
"""

from __future__ import annotations

import string

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model import addresses, companions
from guesthouse.model.devices.disk import FORMATS, BackingStore, Disk, DiskDriver, DiskSource
from guesthouse.model.devices.disk_source import Auth, Encryption
from guesthouse.model.domain import Domain

_BUS_BY_PREFIX = {"hd": "ide", "sd": "scsi", "vd": "virtio", "fd": "fdc", "xvd": "xen"}
_PORTS = {
    "nbd": "10809",
    "rbd": "0",
    "sheepdog": "7000",
    "gluster": "24007",
    "iscsi": "3260",
    "http": "80",
    "https": "443",
    "ftp": "21",
    "ftps": "990",
    "tftp": "69",
    "ssh": "22",
    "vxhs": "9999",
    "nfs": "2049",
}
# those that only the driver asks the port of
_PORT_NOT_TOLD = ("rbd", "nfs")
_SERIAL = frozenset(string.ascii_letters + string.digits + "-_ .+")
_COOKIE_NAME = frozenset(string.digits + string.ascii_letters + "!#$%&'*+-.^_`|~")
_NOT_IN_COOKIES = frozenset(' ",;\\')
_SECRETS = {"iscsi": ("iscsi",), "rbd": ("ceph",)}
# what the <source> of each type has, and what any has
_PARTS: dict[str, tuple[str, ...]] = {
    "file": ("file", "fdgroup"),
    "block": ("dev",),
    "dir": ("dir",),
    "network": (
        *("protocol", "name", "query", "tls", "tls_hostname", "hosts", "snapshot", "config", "initiator", "ssl"),
        *("cookies", "readahead", "timeout", "identity", "reconnect"),
    ),
    "volume": ("pool", "volume", "mode"),
    "nvme": ("type", "managed", "namespace", "address"),
    "vhostuser": ("type", "path", "reconnect"),
}
_ANYWHERE = ("startup_policy", "seclabels", "slices", "auth", "encryption", "reservations")
_VIRTIO_ONLY = ("iommu", "ats", "packed", "page_per_vq")


def complete(domain: Domain) -> None:
    """Sort the disks as libvirt does, fill in what they leave out and refuse what cannot be. Raises libvirt's errors."""
    # as the document is read: before buses that it leaves out are filled in
    disks = domain.dev.disks
    ordered: list[Disk] = []
    for disk in disks:
        # among those of its bus by target name, else behind all
        at = next(
            (i for i, other in enumerate(ordered) if other.bus == disk.bus and _index(other) > _index(disk)),
            None,
        )
        if at is None:
            at = max((i + 1 for i, other in enumerate(ordered) if other.bus == disk.bus), default=len(ordered))
        ordered.insert(at, disk)
    disks[:] = ordered
    for disk in disks:
        _complete(disk)
        _check(domain, disk)


def _index(disk: Disk) -> int:
    try:
        return addresses.disk_index(disk.dev)
    except GuesthouseError:
        return -1


# -- what is filled in


def _complete(disk: Disk) -> None:
    target = disk.target
    if target is None or not target.dev:
        name = (disk.source and (disk.source.file or disk.source.dev)) or ""
        raise XMLError(f"missing target information for device {name}".strip(), domain=ErrorDomain.DOMAIN)
    if target.bus is None:
        if disk.device == "floppy":
            target.bus = "fdc"
        else:
            prefix = target.dev[:3] if target.dev.startswith("xvd") else target.dev[:2]
            target.bus = _BUS_BY_PREFIX.get(prefix, "ide")
    if disk.device == "floppy" and target.bus != "fdc":
        raise InternalError(f"Invalid bus type '{target.bus}' for floppy disk", domain=ErrorDomain.DOMAIN)
    if target.bus == "fdc" and disk.device != "floppy":
        raise InternalError(f"Invalid bus type '{target.bus}' for disk", domain=ErrorDomain.DOMAIN)
    if disk.device == "cdrom":
        disk.readonly = True
        if target.bus == "virtio":
            raise ConfigUnsupported(f"disk type of '{target.dev}' does not support ejectable media")
    if disk.driver is None:
        disk.driver = DiskDriver()
    disk.driver.name = disk.driver.name or "qemu"
    if disk.source is None:
        disk.type = "file"  # an empty drive is of no other
    else:
        _source_is_named(disk, disk.source)
    if disk.type == "vhostuser":
        disk.snapshot = disk.snapshot or "no"
    elif disk.readonly and disk.snapshot == "no":
        disk.snapshot = None  # what else
    if disk.type != "volume":
        if disk.driver.type == "aio":
            disk.driver.type = "raw"
        folder = disk.source is not None and disk.source.dir is not None
        disk.driver.type = disk.driver.type or ("fat" if folder else "raw")
    if disk.source is not None:
        _source(disk.source, disk.type)
    _encryption(disk.encryption)
    below = disk.backing
    while below is not None:
        _backing(below)
        below = below.backing
    addresses.assign_drive(disk)


def _source_is_named(disk: Disk, source: DiskSource) -> None:
    """Refuse a source that does not say of what kind it is; forget one that is of none."""
    if disk.type == "network" and source.protocol is None:
        raise XMLError("Missing required attribute 'protocol' in element 'source'", domain=ErrorDomain.NONE)
    if disk.type == "vhostuser" and source.type is None:
        raise XMLError("missing 'type' attribute for vhostuser disk source", domain=ErrorDomain.DOMAIN)
    names = {"file": ("file", "fdgroup"), "block": ("dev",), "dir": ("dir",), "volume": ("pool", "volume")}
    names_of = names.get(disk.type)
    if names_of is None or any(getattr(source, name) is not None for name in names_of):
        return
    if source.startup_policy is None and source.reservations is None:
        disk.source = None


def _source(source: DiskSource, kind: str) -> None:
    _encryption(source.encryption)
    _forget(source, kind)
    if kind == "nvme":
        _nvme(source)
    if kind != "network":
        return
    protocol = source.protocol or ""
    if protocol == "iscsi" and source.name and "/" not in source.name:
        source.name += "/0"
    _hosts(source)
    if source.identity is not None and protocol != "nfs":
        source.identity = None
    if source.identity is not None and source.identity.user is None and source.identity.group is None:
        source.identity = None


def _forget(source: DiskSource, kind: str) -> None:
    """Drop what a source of this type does not have."""
    for spec in source.SPECS:
        if spec.name not in _PARTS[kind] and spec.name not in _ANYWHERE:
            setattr(source, spec.name, [] if spec.form == "children" else None)
    source.extra_nodes[:] = [node for node in source.extra_nodes if node.tag != "privateData"]
    if kind not in ("file", "block", "volume"):
        source.seclabels.clear()
    source.seclabels[:] = [label for label in source.seclabels if not label.extra_attributes.get("labelskip")]
    for label in source.seclabels:
        label.relabel = True if label.relabel is None else label.relabel


def _nvme(source: DiskSource) -> None:
    if source.type is None:
        raise XMLError("missing 'type' attribute to disk source", domain=ErrorDomain.DOMAIN)
    if source.namespace is None:
        raise XMLError("missing 'namespace' attribute to disk source", domain=ErrorDomain.DOMAIN)
    if source.address is None:
        raise XMLError("NVMe disk source is missing address", domain=ErrorDomain.DOMAIN)
    source.managed = source.managed is not False
    for name in ("domain", "bus", "slot", "function"):
        setattr(source.address, name, getattr(source.address, name) or 0)
    source.address.extra_attributes.clear()


def _hosts(source: DiskSource) -> None:
    """Servers as libvirt writes them: TCP goes without saying, the usual port does not."""
    for host in source.hosts:
        if host.transport == "tcp":
            host.transport = None
        if host.transport == "unix":
            host.name = host.port = None
        if host.transport is None and host.port in (None, "0") and source.protocol not in _PORT_NOT_TOLD:
            host.port = _PORTS.get(source.protocol or "")


def _encryption(encryption: Encryption | None) -> None:
    if encryption is not None and encryption.engine is None and encryption.format in ("luks", "luks2"):
        encryption.engine = "qemu"


def _backing(below: BackingStore) -> None:
    if below.source is None:
        return
    if below.format is None or not below.format.type:
        raise XMLError("missing disk backing store format", domain=ErrorDomain.DOMAIN)
    _known_format(below.format.type)
    _source_is_whole(below.source, below.type or "file")
    _encryption(below.source.encryption)
    _hosts(below.source)


# -- what is refused


def _known_format(name: str) -> None:
    if name not in FORMATS:
        raise ConfigUnsupported(f"unknown driver format value '{name}'", domain=ErrorDomain.DOMAIN)
    if name == "iso":
        raise ConfigUnsupported("storage format 'iso' is not directly supported by QEMU, use 'raw' instead")


def _check(domain: Domain, disk: Disk) -> None:
    _buses(disk)
    _driver(domain, disk)
    _details(disk)
    source = disk.source
    if source is not None:
        _source_is_whole(source, disk.type)
        _policies(disk, source)
    if disk.auth is not None:
        _auth(disk.auth, source)
    encryption = disk.encryption or (source.encryption if source is not None else None)
    if encryption is not None and disk.driver is not None:
        _encrypted(disk, encryption, disk.driver.type or "raw")
    _transient(disk)
    if disk.type == "vhostuser":
        _vhost_user(domain, disk)
    if disk.device == "disk" and not (disk.layers and (disk.path is not None or disk.type not in ("file", "block"))):
        raise companions.NoSource(disk.dev)


def _buses(disk: Disk) -> None:
    if disk.raw_io and disk.device != "lun":
        raise ConfigUnsupported("rawio can be used only with device='lun'", domain=ErrorDomain.DOMAIN)
    if disk.sgio is not None and disk.device != "lun":
        raise ConfigUnsupported("sgio can be used only with device='lun'", domain=ErrorDomain.DOMAIN)
    if disk.model is not None and disk.bus != "virtio":
        raise ConfigUnsupported(f"disk model '{disk.model}' not supported for bus '{disk.bus}'")
    if disk.sgio == "unfiltered":
        raise ConfigUnsupported("unfiltered sgio is no longer supported")
    if disk.device == "lun":
        if disk.type not in ("block", "network", "volume"):
            raise ConfigUnsupported("disk device='lun' is only valid for block type disk source")
        if disk.bus not in ("virtio", "scsi"):
            raise ConfigUnsupported(f"disk device='lun' is not supported for bus='{disk.bus}'")
        if disk.type == "network" and disk.source is not None and disk.source.protocol != "iscsi":
            text = f"disk device='lun' is not supported for protocol='{disk.source.protocol}'"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
        if disk.driver is not None and disk.driver.type not in (None, "raw"):
            raise ConfigUnsupported("disk device 'lun' must use 'raw' format")
        if disk.encryption is not None or (disk.source is not None and disk.source.encryption is not None):
            raise ConfigUnsupported("disk device 'lun' doesn't support encryption")
        if disk.source is not None and disk.source.slice is not None:
            raise ConfigUnsupported("disk device 'lun' doesn't support storage slice")
    address = disk.address
    if address is None or address.type in (None, "unassigned"):
        return
    kind = address.type
    if disk.bus == "usb" and kind != "usb":
        raise InternalError("unexpected address type for usb disk")
    if disk.bus in ("ide", "sata", "scsi", "fdc") and kind != "drive":
        raise ConfigUnsupported(
            f"Invalid address type '{kind}' for the disk '{disk.dev}' with the bus type '{disk.bus}'",
            domain=ErrorDomain.DOMAIN,
        )
    if disk.bus == "virtio" and kind == "drive":
        raise ConfigUnsupported("virtio disk cannot have an address of type 'drive'", domain=ErrorDomain.DOMAIN)
    if kind == "drive":
        if disk.bus in ("ide", "sata", "fdc") and address.target:
            raise ConfigUnsupported(f"target must be 0 for {disk.bus} controller")
        if disk.bus == "scsi" and address.bus:
            raise InternalError("SCSI controller only supports 1 bus")
        if disk.bus in ("ide", "fdc") and address.controller:
            name = "IDE" if disk.bus == "ide" else "fdc"
            raise InternalError(f"Only 1 {name} controller is supported")


def _driver(domain: Domain, disk: Disk) -> None:
    driver = disk.driver
    assert driver is not None
    if driver.type is not None:
        _known_format(driver.type)
    if driver.io == "native" and driver.cache not in ("none", "directsync"):
        raise ConfigUnsupported("io='native' needs either no disk cache or directsync cache mode")
    if driver.copy_on_read and disk.readonly:
        raise ConfigUnsupported(f"copy_on_read is not compatible with read-only disk '{disk.dev}'")
    if driver.copy_on_read and disk.device in ("cdrom", "floppy"):
        raise ConfigUnsupported(f"copy_on_read is not supported with removable disk '{disk.dev}'")
    if driver.type == "fat" and disk.type not in ("dir", "volume"):
        raise ConfigUnsupported("storage format 'fat' is supported only with 'dir' storage type")
    if disk.type == "dir" and driver.type != "fat":
        raise ConfigUnsupported("storage type 'dir' requires use of storage format 'fat'")
    if driver.type == "fat" and not disk.readonly:
        raise ConfigUnsupported("virtual FAT storage can't be accessed in read-write mode")
    if disk.shareable and not disk.readonly and disk.source is not None and driver.type not in (None, "raw"):
        raise ConfigUnsupported(f"shared access for disk '{disk.dev}' requires use of supported storage format")
    if disk.bus == "virtio":
        thread = driver.iothread
        if thread is not None and not has_iothread(domain, thread):
            raise ConfigUnsupported(f"Disk iothread '{thread}' not defined in iothreadid")
        return
    for name in ("ioeventfd", "event_idx"):
        if getattr(driver, name) is not None:
            raise ConfigUnsupported(f"disk {name} mode supported only for virtio bus", domain=ErrorDomain.DOMAIN)
    if driver.iothread is not None:
        raise ConfigUnsupported(f"IOThreads not available for bus {disk.bus} target {disk.dev}")
    for name in ("queues", "queue_size"):
        if getattr(driver, name) is not None:
            raise ConfigUnsupported(f"{name} attribute in disk driver element is only supported by virtio-blk")
    for name in _VIRTIO_ONLY:
        if getattr(driver, name) is not None:
            text = f"{name} driver option is only supported for virtio devices"
            raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)


def has_iothread(domain: Domain, number: int) -> bool:
    """Whether the guest has the I/O thread of that number: they count from 1 where the document names none."""
    listed = getattr(domain.iothreadids, "threads", ())
    return any(thread.id == number for thread in listed) or 0 < number <= (domain.iothreads or 0)


def _details(disk: Disk) -> None:
    target = disk.target
    assert target is not None
    if disk.serial is not None and not set(disk.serial) <= _SERIAL:
        raise InternalError(f"driver serial '{disk.serial}' contains unsafe characters", domain=ErrorDomain.DOMAIN)
    if disk.wwn is not None:
        digits = disk.wwn.removeprefix("0x")
        if len(digits) != 16 or not set(digits) <= frozenset(string.hexdigits):
            raise InternalError(f"Malformed wwn: {disk.wwn}")
        if disk.bus not in ("ide", "scsi"):
            raise ConfigUnsupported("Only ide and scsi disk support wwn")
    for name, most in (("vendor", 8), ("product", 16)):
        value = getattr(disk, name)
        if value is None:
            continue
        if disk.bus != "scsi":
            raise ConfigUnsupported("Only scsi disk supports vendor and product")
        if len(value) > most:
            raise ConfigUnsupported(f"disk {name} is more than {most} characters", domain=ErrorDomain.DOMAIN)
        if not all(" " <= char <= "~" for char in value):
            raise XMLError(f"disk {name} is not printable string", domain=ErrorDomain.DOMAIN)
    if target.removable is not None and disk.bus != "usb":
        raise XMLError("removable is only valid for usb disks", domain=ErrorDomain.DOMAIN)
    if target.rotation_rate and disk.bus not in ("scsi", "ide", "sata"):
        raise InternalError("rotation rate is only valid for SCSI/IDE/SATA bus")
    if target.tray is not None and disk.device not in ("cdrom", "floppy"):
        raise ConfigUnsupported("tray is only valid for cdrom and floppy", domain=ErrorDomain.DOMAIN)
    if disk.geometry is not None and disk.geometry.trans is not None and disk.bus != "ide":
        raise ConfigUnsupported(f"CHS translation mode can only be set for 'ide' bus not '{disk.bus}'")
    tune = disk.iotune
    for what in ("bytes", "iops") if tune is not None else ():
        for end, shown in (("", ""), ("_max", "_max")):
            total, read, write = (getattr(tune, f"{who}_{what}_sec{end}") for who in ("total", "read", "write"))
            if total and (read or write):
                raise XMLError(f"total and read/write {what}_sec{shown} cannot be set at the same time")


def _policies(disk: Disk, source: DiskSource) -> None:
    policy = source.startup_policy
    if policy is not None and disk.type == "network":
        raise XMLError("Setting disk startupPolicy is not allowed for disk of 'network' type")
    if policy == "requisite" and disk.device not in ("cdrom", "floppy"):
        raise XMLError("disk startupPolicy 'requisite' is allowed only for cdrom or floppy")
    wish = source.reservations
    if wish is None:
        return
    if wish.managed is None:
        raise XMLError("Missing required attribute 'managed' in element 'reservations'", domain=ErrorDomain.DOMAIN)
    if wish.managed is False and (wish.source is None or wish.source.type is None):
        raise XMLError("missing connection type for <reservations/>")
    if wish.managed is False and wish.source is not None and not wish.source.path:
        raise XMLError("missing path for <reservations/>")
    given = wish.source
    if given is not None and given.type not in (None, "unix"):
        raise XMLError(f"unsupported connection type for <reservations/>: {given.type}")
    if given is not None and given.mode not in (None, "client"):
        raise XMLError(f"unsupported connection mode for <reservations/>: {given.mode}")
    if disk.device != "lun":
        raise ConfigUnsupported("<reservations/> allowed only for lun devices", domain=ErrorDomain.DOMAIN)


def _source_is_whole(source: DiskSource, kind: str) -> None:
    for part in source.slices.slices if source.slices is not None else ():
        if part.offset is None or part.size is None:
            raise XMLError("missing offset or size attribute of slice", domain=ErrorDomain.DOMAIN)
    if kind == "volume" and (source.pool is None) != (source.volume is None):
        raise XMLError("'pool' and 'volume' must be specified together for 'pool' type source")
    if kind == "nvme" and not source.namespace:
        raise ConfigUnsupported("NVMe namespace can't be zero", domain=ErrorDomain.DOMAIN)
    if kind != "network":
        return
    protocol = source.protocol or ""
    if protocol not in _PORTS:
        text = f"Invalid value for attribute 'protocol' in element 'source': '{protocol}'."
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if not source.name and protocol != "nbd":
        raise XMLError("missing name for disk source", domain=ErrorDomain.DOMAIN)
    if protocol in ("gluster", "rbd") and "/" not in (source.name or ""):
        text = f"can't split path '{source.name}' into pool name and image name"
        raise XMLError(text, domain=ErrorDomain.DOMAIN)
    if protocol == "nfs" and any(host.port for host in source.hosts):
        text = "port cannot be specified in 'nfs' protocol host"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    if protocol == "tftp":
        raise ConfigUnsupported("'tftp' protocol is not supported with this QEMU binary")
    for host in source.hosts:
        if host.transport == "unix" and not host.socket:
            raise XMLError("missing socket for unix transport", domain=ErrorDomain.DOMAIN)
        if host.transport in (None, "tcp", "rdma") and not host.name:
            raise XMLError("missing name for host", domain=ErrorDomain.DOMAIN)
    for cookie in source.cookies.cookies if source.cookies is not None else ():
        if not cookie.name or not set(cookie.name) <= _COOKIE_NAME:
            raise XMLError(f"cookie name '{cookie.name or ''}' contains invalid characters")
        value = cookie.value or ""
        inner = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
        if set(inner) & _NOT_IN_COOKIES or not all("!" <= char <= "~" for char in inner):
            raise XMLError(f"value of cookie '{cookie.name}' contains invalid characters")
    if source.auth is not None:
        _auth(source.auth, source)


def _auth(auth: Auth, source: DiskSource | None) -> None:
    if not auth.username:
        raise XMLError("missing username for auth", domain=ErrorDomain.DOMAIN)
    if auth.secret is None:
        raise XMLError("Missing <secret> element in auth", domain=ErrorDomain.DOMAIN)
    if not auth.secret.usage and not auth.secret.uuid:
        raise XMLError("missing secret uuid or usage attribute", domain=ErrorDomain.DOMAIN)
    wanted = _SECRETS.get((source and source.protocol) or "")
    if wanted and auth.secret.type is not None and auth.secret.type not in wanted:
        raise ConfigUnsupported(f"invalid secret type '{auth.secret.type}'", domain=ErrorDomain.DOMAIN)


def _encrypted(disk: Disk, encryption: Encryption, form: str) -> None:
    if encryption.format in ("qcow", "default"):
        raise ConfigUnsupported("old qcow/qcow2 encryption is not supported", domain=ErrorDomain.DOMAIN)
    if encryption.engine == "librbd":
        if disk.source is None or disk.source.protocol != "rbd":
            raise ConfigUnsupported("librbd encryption is supported only with RBD backed disks")
        return
    if encryption.format == "luks2":
        raise ConfigUnsupported("luks2 is currently not supported by the qemu encryption engine")
    if form not in ("raw", "qcow2"):
        raise ConfigUnsupported("encryption is supported only with 'raw' and 'qcow2' image format")


def _transient(disk: Disk) -> None:
    if disk.transient is None:
        return
    if disk.readonly:
        raise ConfigUnsupported(f"transient disk '{disk.dev}' must not be read-only")
    if disk.type != "file":
        raise ConfigUnsupported(f"transient disk supported only with 'file' type ({disk.dev})")
    if disk.source is None:
        raise ConfigUnsupported(f"transient disk '{disk.dev}' must not be empty")
    if disk.device != "disk":
        raise ConfigUnsupported(f"transient disk supported only with 'disk' device ({disk.dev})")
    if disk.transient.share_backing and disk.bus not in ("virtio", "usb", "scsi"):
        text = f"disk bus '{disk.bus}' doesn't support transiend disk backing image sharing"
        raise ConfigUnsupported(text)


def _vhost_user(domain: Domain, disk: Disk) -> None:
    again = disk.source.reconnect if disk.source is not None else None
    if again is not None and again.enabled and again.timeout is None:
        raise XMLError("Missing required attribute 'timeout' in element 'reconnect'")
    if disk.bus != "virtio":
        raise ConfigUnsupported("vhostuser disk supports only virtio bus", domain=ErrorDomain.DOMAIN)
    for name in ("serial", "wwn", "vendor", "product", "geometry", "blockio", "iotune", "encryption", "transient"):
        if getattr(disk, name) is not None:
            raise ConfigUnsupported(f"{name} is not supported with vhostuser disk", domain=ErrorDomain.DOMAIN)
    for name in ("readonly", "shareable"):
        if getattr(disk, name):
            raise ConfigUnsupported(f"{name} is not supported with vhostuser disk", domain=ErrorDomain.DOMAIN)
    companions.require_shared_memory(domain, "vhostuser")
