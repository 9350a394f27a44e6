"""<disk>: what the guest sees as a disk, a CD or a floppy."""

from __future__ import annotations

from guesthouse.model.devices.address import Address, Alias, Boot, DeviceSeclabel
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


class SourceHost(Element, tag="host"):
    """A server of network storage."""

    name: str | None = Attr("name", alias=("source_host_name",))
    port: str | None = Attr("port", alias=("source_host_port",))
    transport: str | None = Attr("transport", alias=("source_host_transport",))
    socket: str | None = Attr("socket", alias=("source_host_socket",))


class DiskSource(Element, tag="source"):
    """Where the data is: one of the attributes, by the disk's type."""

    file: str | None = Attr("file", alias=("path",))
    dev: str | None = Attr("dev")
    dir: str | None = Attr("dir")
    protocol: str | None = Attr("protocol", alias=("source_protocol",))
    name: str | None = Attr("name", alias=("source_name",))
    pool: str | None = Attr("pool", alias=("source_pool",))
    volume: str | None = Attr("volume", alias=("source_volume",))
    mode: str | None = Attr("mode")
    startup_policy: str | None = Attr(
        "startupPolicy", Choice("mandatory", "requisite", "optional"), alias=("startup_policy",)
    )
    index: int | None = Attr("index", UInt)
    hosts: list[SourceHost] = Children(SourceHost)
    seclabels: list[DeviceSeclabel] = Children(DeviceSeclabel)


class BackingFormat(Element, tag="format"):
    type: str | None = Attr("type")


class BackingStore(Element, tag="backingStore"):
    """The image below; an empty one says that there is none."""

    type: str | None = Attr("type")
    index: int | None = Attr("index", UInt)
    format: BackingFormat | None = Child(BackingFormat)
    source: DiskSource | None = Child(DiskSource)
    backing_raw: object = Raw("backingStore")


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
    trans: str | None = Attr("trans")


class IoTune(Element, tag="iotune"):
    """Limits, in bytes and operations a second."""

    total_bytes_sec: int | None = Text("total_bytes_sec", UInt, alias=("total_bytes_sec",))
    read_bytes_sec: int | None = Text("read_bytes_sec", UInt, alias=("read_bytes_sec",))
    write_bytes_sec: int | None = Text("write_bytes_sec", UInt, alias=("write_bytes_sec",))
    total_iops_sec: int | None = Text("total_iops_sec", UInt, alias=("total_iops_sec",))
    read_iops_sec: int | None = Text("read_iops_sec", UInt, alias=("read_iops_sec",))
    write_iops_sec: int | None = Text("write_iops_sec", UInt, alias=("write_iops_sec",))


class Transient(Element, tag="transient"):
    """What the guest writes is thrown away when it stops."""

    share_backing: bool | None = Attr("shareBacking", Bool)


class Disk(Element, tag="disk"):
    """A disk; without a source an empty drive."""

    type: str = Attr("type", Choice("file", "block", "dir", "network", "volume", "nvme", "vhostuser"), default="file")
    device: str = Attr("device", Choice("disk", "cdrom", "floppy", "lun"), default="disk")
    model: str | None = Attr("model")
    raw_io: bool | None = Attr("rawio", Bool)
    sgio: str | None = Attr("sgio")
    snapshot: str | None = Attr("snapshot", alias=("snapshot_policy",))
    driver: DiskDriver | None = Child(DiskDriver)
    auth: object = Raw("auth")
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
    encryption: object = Raw("encryption")
    boot: Boot | None = Child(Boot)
    alias: Alias | None = Child(Alias)
    address: Address | None = Child(Address)

    @property
    def path(self) -> str | None:
        """The file or block device, None for an empty drive or another kind of source. That of a volume is known once
        it has been told by :meth:`place`."""
        if self.source is None:
            return None
        if self.type == "volume":
            return self._placed[1]
        return self.source.file if self.type == "file" else self.source.dev if self.type == "block" else None

    @property
    def kind(self) -> str:
        """What QEMU opens: the type; "file" or "block" for a volume that has been placed."""
        return self._placed[0] if self.type == "volume" else self.type

    def place(self, kind: str, path: str) -> None:
        """Say where the volume's data are: a "file" or a "block" device. This is not part of the document."""
        self.__dict__["_place"] = (kind, path)

    @property
    def _placed(self) -> tuple[str, str | None]:
        placed: tuple[str, str | None] = self.__dict__.get("_place", ("volume", None))
        return placed

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
