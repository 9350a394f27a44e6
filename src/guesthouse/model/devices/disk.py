"""<disk>: what the guest sees as a disk, a CD or a floppy."""

from __future__ import annotations

from dataclasses import dataclass

from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import XMLError
from guesthouse.model.devices.address import AcpiIndex, Address, Alias, Boot, DeviceSeclabel
from guesthouse.model.devices.disk_source import (
    Auth,
    Cookies,
    Encryption,
    Identity,
    Initiator,
    MetadataCache,
    ReadAhead,
    Reconnect,
    Reservations,
    Slice,
    Slices,
    SourceAddress,
    SourceConfig,
    SourceHost,
    SourceSnapshot,
    Ssl,
    Timeout,
)
from guesthouse.model.fields import (
    Attr,
    Bool,
    Child,
    Children,
    Choice,
    Element,
    Flag,
    OnOff,
    Raw,
    Text,
    UInt,
)

#: Formats of images that documents may name.
FORMATS = (
    *("raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "vhd", "fat", "ploop", "cow", "qcow", "qcow2", "qed"),
    *("vmdk", "aio"),  # the last from a time when one wrote so
)
BUSES = ("ide", "fdc", "scsi", "virtio", "xen", "usb", "uml", "sata", "sd", "none")


class DiskDriver(Element, tag="driver"):
    name: str | None = Attr("name", alias=("driver_name",))
    type: str | None = Attr("type", alias=("driver_type",))
    cache: str | None = Attr(
        "cache",
        Choice("default", "none", "writethrough", "writeback", "directsync", "unsafe"),
        alias=("cache",),
    )
    error_policy: str | None = Attr(
        "error_policy", Choice("stop", "report", "ignore", "enospace"), alias=("error_policy",)
    )
    rerror_policy: str | None = Attr("rerror_policy", Choice("stop", "report", "ignore"))
    io: str | None = Attr("io", Choice("native", "threads", "io_uring"), alias=("io",))
    ioeventfd: bool | None = Attr("ioeventfd", OnOff)
    event_idx: bool | None = Attr("event_idx", OnOff)
    copy_on_read: bool | None = Attr("copy_on_read", OnOff)
    discard: str | None = Attr("discard", Choice("unmap", "ignore"), alias=("discard",))
    iothread: int | None = Attr("iothread", UInt)
    detect_zeroes: str | None = Attr("detect_zeroes", Choice("on", "off", "unmap"), alias=("detect_zeroes",))
    queues: int | None = Attr("queues", UInt)
    queue_size: int | None = Attr("queue_size", UInt)
    iommu: bool | None = Attr("iommu", OnOff)
    ats: bool | None = Attr("ats", OnOff)
    packed: bool | None = Attr("packed", OnOff)
    page_per_vq: bool | None = Attr("page_per_vq", OnOff)
    discard_no_unref: bool | None = Attr("discard_no_unref", OnOff)
    metadata_cache: MetadataCache | None = Child(MetadataCache)


def _namespace(text: str) -> int:
    try:
        return int(UInt.parse(text))
    except ValueError:
        raise XMLError(f"malformed namespace '{text}'", domain=ErrorDomain.DOMAIN) from None


_NAMESPACE = UInt._replace(parse=_namespace)


class DiskSource(Element, tag="source"):
    """Where the data is: one of the attributes, by the disk's type."""

    type: str | None = Attr("type", Choice("unix", "pci"))
    path: str | None = Attr("path", key="source.path")
    file: str | None = Attr("file", alias=("path",))
    fdgroup: str | None = Attr("fdgroup")
    dev: str | None = Attr("dev")
    dir: str | None = Attr("dir")
    protocol: str | None = Attr("protocol", alias=("source_protocol",))
    name: str | None = Attr("name", alias=("source_name",))
    query: str | None = Attr("query")
    tls: bool | None = Attr("tls", Bool)
    tls_hostname: str | None = Attr("tlsHostname")
    pool: str | None = Attr("pool", alias=("source_pool",))
    volume: str | None = Attr("volume", alias=("source_volume",))
    mode: str | None = Attr("mode", Choice("default", "host", "direct"))
    managed: bool | None = Attr("managed", Bool)
    namespace: int | None = Attr("namespace", _NAMESPACE)
    startup_policy: str | None = Attr(
        "startupPolicy", Choice("mandatory", "requisite", "optional"), alias=("startup_policy",)
    )
    index: int | None = Attr("index", UInt)
    hosts: list[SourceHost] = Children(SourceHost)
    snapshot: SourceSnapshot | None = Child(SourceSnapshot)
    config: SourceConfig | None = Child(SourceConfig)
    initiator: Initiator | None = Child(Initiator)
    ssl: Ssl | None = Child(Ssl)
    cookies: Cookies | None = Child(Cookies, secret=True)
    readahead: ReadAhead | None = Child(ReadAhead)
    timeout: Timeout | None = Child(Timeout)
    identity: Identity | None = Child(Identity)
    address: SourceAddress | None = Child(SourceAddress)
    reconnect: Reconnect | None = Child(Reconnect)
    seclabels: list[DeviceSeclabel] = Children(DeviceSeclabel)
    slices: Slices | None = Child(Slices)
    auth: Auth | None = Child(Auth)
    encryption: Encryption | None = Child(Encryption)
    reservations: Reservations | None = Child(Reservations)

    @property
    def slice(self) -> Slice | None:
        """The part of the storage that counts, None for all of it."""
        return self.slices.slices[0] if self.slices is not None and self.slices.slices else None


class BackingFormat(Element, tag="format"):
    type: str | None = Attr("type")
    metadata_cache: MetadataCache | None = Child(MetadataCache)


class BackingStore(Element, tag="backingStore"):
    """The image below; an empty one says that there is none."""

    type: str | None = Attr("type", Choice("file", "block", "dir", "network", "volume", "nvme"))
    index: int | None = Attr("index", UInt)
    format: BackingFormat | None = Child(BackingFormat)
    source: DiskSource | None = Child(DiskSource)
    backing: BackingStore | None = Child(None)


class DiskTarget(Element, tag="target"):
    dev: str | None = Attr("dev", alias=("target",))
    bus: str | None = Attr("bus", Choice(*BUSES), alias=("bus",))
    tray: str | None = Attr("tray", Choice("open", "closed"))
    removable: bool | None = Attr("removable", OnOff, alias=("removable",))
    rotation_rate: int | None = Attr("rotation_rate", UInt, alias=("rotation_rate",))


class BlockIo(Element, tag="blockio"):
    logical_block_size: int | None = Attr("logical_block_size", UInt, alias=("logical_block_size",))
    physical_block_size: int | None = Attr("physical_block_size", UInt, alias=("physical_block_size",))


class Geometry(Element, tag="geometry"):
    """What old systems ask a disk for."""

    cyls: int | None = Attr("cyls", UInt)
    heads: int | None = Attr("heads", UInt)
    secs: int | None = Attr("secs", UInt)
    trans: str | None = Attr("trans", Choice("none", "auto", "lba"))


class IoTune(Element, tag="iotune"):
    """Limits, in bytes and operations a second."""

    total_bytes_sec: int | None = Text("total_bytes_sec", UInt, alias=("total_bytes_sec",))
    read_bytes_sec: int | None = Text("read_bytes_sec", UInt, alias=("read_bytes_sec",))
    write_bytes_sec: int | None = Text("write_bytes_sec", UInt, alias=("write_bytes_sec",))
    total_iops_sec: int | None = Text("total_iops_sec", UInt, alias=("total_iops_sec",))
    read_iops_sec: int | None = Text("read_iops_sec", UInt, alias=("read_iops_sec",))
    write_iops_sec: int | None = Text("write_iops_sec", UInt, alias=("write_iops_sec",))
    total_bytes_sec_max: int | None = Text("total_bytes_sec_max", UInt)
    read_bytes_sec_max: int | None = Text("read_bytes_sec_max", UInt)
    write_bytes_sec_max: int | None = Text("write_bytes_sec_max", UInt)
    total_iops_sec_max: int | None = Text("total_iops_sec_max", UInt)
    read_iops_sec_max: int | None = Text("read_iops_sec_max", UInt)
    write_iops_sec_max: int | None = Text("write_iops_sec_max", UInt)
    size_iops_sec: int | None = Text("size_iops_sec", UInt)
    group_name: str | None = Text("group_name")
    total_bytes_sec_max_length: int | None = Text("total_bytes_sec_max_length", UInt)
    read_bytes_sec_max_length: int | None = Text("read_bytes_sec_max_length", UInt)
    write_bytes_sec_max_length: int | None = Text("write_bytes_sec_max_length", UInt)
    total_iops_sec_max_length: int | None = Text("total_iops_sec_max_length", UInt)
    read_iops_sec_max_length: int | None = Text("read_iops_sec_max_length", UInt)
    write_iops_sec_max_length: int | None = Text("write_iops_sec_max_length", UInt)


class Transient(Element, tag="transient"):
    """What the guest writes is thrown away when it stops."""

    share_backing: bool | None = Attr("shareBacking", Bool)


@dataclass
class Layer:
    """An image of a disk's chain. ``ends``: the document says that nothing is below it; else that is not known (or it is
    not the last one). ``index`` numbers its nodes in QEMU."""

    kind: str
    source: DiskSource
    format: str
    index: int | None
    metadata_cache: MetadataCache | None
    auth: Auth | None
    encryption: Encryption | None = None
    ends: bool = False

    @property
    def path(self) -> str | None:
        """On this host, where it is there."""
        source = self.source
        return {"file": source.file, "block": source.dev, "dir": source.dir}.get(self.kind)


class Disk(Element, tag="disk"):
    """A disk; without a source an empty drive."""

    type: str = Attr("type", Choice("file", "block", "dir", "network", "volume", "nvme", "vhostuser"), default="file")
    device: str = Attr("device", Choice("disk", "cdrom", "floppy", "lun"), default="disk")
    model: str | None = Attr("model", Choice("virtio", "virtio-transitional", "virtio-non-transitional"))
    raw_io: bool | None = Attr("rawio", Bool)
    sgio: str | None = Attr("sgio", Choice("filtered", "unfiltered"))
    snapshot: str | None = Attr("snapshot", alias=("snapshot_policy",))
    driver: DiskDriver | None = Child(DiskDriver)
    auth: Auth | None = Child(Auth)
    source: DiskSource | None = Child(DiskSource)
    backing: BackingStore | None = Child(BackingStore)
    mirror: object = Raw("mirror")
    geometry: Geometry | None = Child(Geometry)
    blockio: BlockIo | None = Child(BlockIo)
    target: DiskTarget | None = Child(DiskTarget)
    iotune: IoTune | None = Child(IoTune)
    readonly: bool = Flag("readonly", alias=("readonly",))
    shareable: bool = Flag("shareable")
    transient: Transient | None = Child(Transient)
    serial: str | None = Text("serial", alias=("serial",))
    wwn: str | None = Text("wwn")
    vendor: str | None = Text("vendor")
    product: str | None = Text("product")
    encryption: Encryption | None = Child(Encryption)
    boot: Boot | None = Child(Boot)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)

    @property
    def path(self) -> str | None:
        """The file, block device or folder of this host, None for an empty drive or another kind of source. That of a
        volume is known once it has been told by :meth:`place`."""
        return self.layers[0].path if self.layers else None

    @property
    def kind(self) -> str:
        """What QEMU opens: the type; that of its source for a volume that has been placed."""
        return self._placed[0]

    def place(self, kind: str, source: DiskSource) -> None:
        """Say where the volume's data are: a source of the type ``kind``. This is not part of the document."""
        self.__dict__["_place"] = (kind, source)

    @property
    def _placed(self) -> tuple[str, DiskSource | None]:
        placed: tuple[str, DiskSource | None] = self.__dict__.get("_place") or (self.type, self.source)
        return placed if self.type == "volume" else (self.type, self.source)

    @property
    def layers(self) -> list[Layer]:
        """The image that the guest sees, then those below it that are known; nothing for an empty drive. How the last
        one ends: see :attr:`Layer.ends`."""
        kind, source = self._placed
        if source is None or (kind == "volume" and source.volume is None):
            return []
        driver = self.driver
        cache = driver.metadata_cache if driver is not None else None
        own = self.source or source
        top = Layer(kind, source, self.format, own.index, cache, own.auth or source.auth or self.auth)
        top.encryption = own.encryption or self.encryption
        found, below = [top], self.backing
        while below is not None and below.source is not None:
            form = below.format
            layer = Layer(
                below.type or "file",
                below.source,
                (form and form.type) or "raw",
                below.index,
                form.metadata_cache if form is not None else None,
                below.source.auth,
            )
            layer.encryption = below.source.encryption
            found.append(layer)
            below = below.backing
        found[-1].ends = below is not None
        return found

    @property
    def startup_policy(self) -> str:
        """What to do where the source is not there."""
        return (self.source and self.source.startup_policy) or "mandatory"

    @property
    def bus(self) -> str:
        return (self.target and self.target.bus) or ""

    @property
    def dev(self) -> str:
        """The target name: vda, sdb, hdc, fda."""
        return (self.target and self.target.dev) or ""

    @property
    def format(self) -> str:
        return (self.driver and self.driver.type) or "raw"
