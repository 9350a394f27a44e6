"""What the golden domains need on a host before they can start: images, a kernel, a block device, bridges."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guesthouse.model.domain import Domain
from support import domains, namespaces

#: Folders in the documents that become one of the test's own.
_PLACES = ("/var/lib/libvirt/images/", "/var/lib/libvirt/boot/", "/var/lib/libvirt/qemu/")

#: Golden domains that are refused, each in words that name what.
REFUSED = {
    "characters-more": "Could not open '.*characters-more.pipe': No such file",  # nobody made it, nor has the host such ports
    "devices-ends": "Cannot access device '/dev/input/event9': No such file or directory",  # no such keyboard
    "devices-host": "host doesn't support passthrough of host PCI devices",  # no IOMMU
    "disks-more": "not supported yet|Cannot access|Storage pool not found",
    "disks-network": "Cannot access|cannot access|not supported yet|Secret not found",  # nobody serves them here
    "features-windows": "kernel doesn't allow setting HyperV",  # nothing but KVM does
    "interfaces-more": "not supported|make the bridge first",
    "os-uefi": "Cannot access storage file '/var/lib/libvirt/acpi/slic.dat'",
    "screens-spice-options": "missing object type 'virtio-gpu-gl-device'",  # QEMU's OpenGL is a package of its own
    "tuned": "another <seclabel> is not supported",
}
#: The others: each really starts.
GIVEN = [name for name in domains.names() if name not in REFUSED]


@contextmanager
def block_device(folder: Path) -> Iterator[str]:
    """A loop device of a megabyte."""
    file = folder / "block.img"
    file.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "-f", "--show", str(file)], capture_output=True, text=True, check=True)
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def prepared(name: str, folder: Path, block: str) -> str:
    """The document of golden domain ``name`` with all its files in ``folder``, which are made where it will start."""
    text = domains.text(name).replace("/dev/golden", block)
    for place in _PLACES:
        text = text.replace(place, f"{folder}/")
    if name not in REFUSED:
        _make_files(text)
    return text


def open_folder(folder: Path) -> Path:
    """``folder``, for every user to write into."""
    namespaces.reachable(folder).chmod(0o777)
    return folder


def _make_files(text: str) -> None:
    domain = Domain.from_xml(text)
    for disk in domain.dev.disks:
        if disk.type == "file" and disk.path:
            size = "1440K" if disk.device == "floppy" else "1M"
            subprocess.run(["qemu-img", "create", "-q", "-f", disk.format, disk.path, size], check=True)
    os_ = domain.os
    if os_ is not None and os_.kernel and os_.initrd:
        # enough of a bzImage for QEMU to take it: the guest never runs
        head = bytearray(4096)
        head[0x1F1], head[0x206:0x208] = 1, b"\x0f\x02"
        head[0x1FE:0x200], head[0x202:0x206] = b"\x55\xaa", b"HdrS"
        head[0x22C:0x230] = b"\xff\xff\xff\x7f"
        Path(os_.kernel).write_bytes(bytes(head))
        Path(os_.initrd).write_bytes(bytes(512))
