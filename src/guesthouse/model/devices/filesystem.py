"""<filesystem>: a folder of the host's in the guest, by virtiofs or by 9p."""

from __future__ import annotations

from guesthouse.model.devices.address import AcpiIndex, Address, Alias, Boot
from guesthouse.model.fields import Attr, Child, Choice, Element, Flag, Int, Kind, OnOff, Size, UInt

# modes of files and folders: read and written in octal
Octal = Kind(lambda text: int(text, 8), lambda value: f"{value:04o}", "an octal number, such as 0644")


class FilesystemDriver(Element, tag="driver"):
    """``type`` says who plays the file system: "path" is QEMU itself (9p)."""

    type: str | None = Attr(
        "type", Choice("default", "path", "handle", "loop", "nbd", "ploop", "virtiofs"), alias=("driver_type",)
    )
    format: str | None = Attr("format")
    wrpolicy: str | None = Attr("wrpolicy", Choice("default", "immediate"))
    queue: int | None = Attr("queue", UInt)
    iommu: bool | None = Attr("iommu", OnOff)
    ats: bool | None = Attr("ats", OnOff)
    packed: bool | None = Attr("packed", OnOff)
    page_per_vq: bool | None = Attr("page_per_vq", OnOff)


class FilesystemCache(Element, tag="cache", hollow=True):
    mode: str | None = Attr("mode", Choice("none", "always"))


class FilesystemSandbox(Element, tag="sandbox", hollow=True):
    mode: str | None = Attr("mode", Choice("namespace", "chroot"))


class FilesystemLock(Element, tag="lock", hollow=True):
    posix: bool | None = Attr("posix", OnOff)
    flock: bool | None = Attr("flock", OnOff)


class ThreadPool(Element, tag="thread_pool", hollow=True):
    size: int | None = Attr("size", Int)


class FilesystemBinary(Element, tag="binary", hollow=True):
    """virtiofsd, and what it is told."""

    path: str | None = Attr("path")
    xattr: bool | None = Attr("xattr", OnOff)
    cache: FilesystemCache | None = Child(FilesystemCache)
    sandbox: FilesystemSandbox | None = Child(FilesystemSandbox)
    lock: FilesystemLock | None = Child(FilesystemLock)
    thread_pool: ThreadPool | None = Child(ThreadPool)


class FilesystemSource(Element, tag="source"):
    """A folder, or the socket of a virtiofsd that somebody else runs."""

    dir: str | None = Attr("dir", alias=("source",))
    socket: str | None = Attr("socket")
    file: str | None = Attr("file")
    dev: str | None = Attr("dev")
    name: str | None = Attr("name")
    usage: str | None = Attr("usage")
    units: str | None = Attr("units")
    pool: str | None = Attr("pool")
    volume: str | None = Attr("volume")


class FilesystemTarget(Element, tag="target"):
    """``dir`` is the tag that the guest mounts by."""

    dir: str | None = Attr("dir", alias=("target",))


class Filesystem(Element, tag="filesystem"):
    """A folder that host and guest share."""

    type: str = Attr("type", Choice("mount", "block", "file", "template", "ram", "bind", "volume"), default="mount")
    accessmode: str | None = Attr("accessmode", Choice("passthrough", "mapped", "squash"), alias=("mode",))
    model: str | None = Attr("model", Choice("virtio", "virtio-transitional", "virtio-non-transitional"))
    multidevs: str | None = Attr("multidevs", Choice("default", "remap", "forbid", "warn"))
    fmode: int | None = Attr("fmode", Octal)
    dmode: int | None = Attr("dmode", Octal)
    driver: FilesystemDriver | None = Child(FilesystemDriver)
    binary: FilesystemBinary | None = Child(FilesystemBinary)
    source: FilesystemSource | None = Child(FilesystemSource)
    target: FilesystemTarget | None = Child(FilesystemTarget)
    readonly: bool = Flag("readonly")
    boot: Boot | None = Child(Boot)
    alias: Alias | None = Child(Alias)
    acpi: AcpiIndex | None = Child(AcpiIndex)
    address: Address | None = Child(Address)
    space_hard_limit: int | None = Size("space_hard_limit", keep="bytes")
    space_soft_limit: int | None = Size("space_soft_limit", keep="bytes")

    @property
    def is_virtiofs(self) -> bool:
        return self.driver is not None and self.driver.type == "virtiofs"

    @property
    def socket(self) -> str | None:
        """The socket of a virtiofsd that is not ours."""
        return self.source.socket if self.source is not None else None
