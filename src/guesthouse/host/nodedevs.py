"""The devices of this host: which there are, and what libvirt calls them.

Read from sysfs alone, so no udevd need run; what only udevd knows (serial numbers, links below /dev) is taken from its
database where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from guesthouse.host.sysfs import Sysfs

ROOT_NAME = "computer"

# where devices are listed, and what they are by their DEVTYPE ("": whatever it is)
_FOLDERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("/bus/pci/devices", "pci", {"": "pci"}),
    ("/bus/usb/devices", "usb", {"usb_device": "usb_device", "usb_interface": "usb"}),
    ("/bus/scsi/devices", "scsi", {"scsi_host": "scsi_host", "scsi_target": "scsi_target", "scsi_device": "scsi"}),
    ("/bus/mdev/devices", "mdev", {"": "mdev"}),
    ("/class/net", "net", {"": "net", "wlan": "net"}),
    ("/class/block", "block", {"disk": "storage"}),
    ("/class/scsi_generic", "scsi_generic", {"": "scsi_generic"}),
    ("/class/drm", "drm", {"drm_minor": "drm"}),
)
_KINDS = {subsystem: kinds for _, subsystem, kinds in _FOLDERS}
# disks that libvirt knows by their names where udevd has not said what they are
_DISKS = re.compile(r"(vd|xvd|sd|nvme|dasd|hd)[a-z0-9]+$")
_CDROMS = re.compile(r"sr[0-9]+$")
_CARDS = re.compile(r"mmcblk[0-9]+$")
_FLOPPIES = re.compile(r"fd[0-9]+$")


@dataclass(frozen=True)
class Found:
    """A device: libvirt's name, its place in sysfs ("" for the computer), the type of its capability, and all types
    that it is listed by."""

    name: str
    path: str
    kind: str
    kinds: tuple[str, ...]
    parent: str = ""

    @property
    def leaf(self) -> str:
        """The kernel's name of it."""
        return self.path.rpartition("/")[2]


COMPUTER = Found(ROOT_NAME, "", "system", ("system",))


def scan(sysfs: Sysfs) -> dict[str, Found]:
    """All devices by their places, the computer's is ""."""
    found = {"": COMPUTER}
    for folder, subsystem, _ in _FOLDERS:
        for name in sysfs.names(folder):
            path = sysfs.real(f"{folder}/{name}")
            if path is not None and (device := look(sysfs, path, subsystem)) is not None:
                found[path] = device
    return {path: adopt(device, found) for path, device in found.items()}


def look(sysfs: Sysfs, path: str, subsystem: str) -> Found | None:
    """The device at ``path``, not yet knowing its parent; None for one that libvirt does not list."""
    kinds = _KINDS.get(subsystem)
    if kinds is None or not sysfs.exists(path):
        return None
    properties = sysfs.properties(path)
    kind = kinds.get(properties.get("DEVTYPE", ""), kinds.get("") if subsystem in ("pci", "mdev") else None)
    if kind is None:
        return None
    leaf = path.rpartition("/")[2]
    if kind == "storage" and drive_type(sysfs, path, udev_properties(sysfs, path)) is None:
        return None
    words = [subsystem, leaf, *_name_ends(sysfs, path, kind)]
    name = re.sub(r"[^A-Za-z0-9]", "_", "_".join(words))
    return Found(name, path, kind, (kind, *_details(sysfs, path, kind)))


def _name_ends(sysfs: Sysfs, path: str, kind: str) -> Iterator[str]:
    """What a name has behind the kernel's: a MAC address, a serial number."""
    if kind == "net" and (address := sysfs.text(f"{path}/address")):
        yield address
    if kind == "storage" and (serial := udev_properties(sysfs, path).get("ID_SERIAL")):
        yield serial
    if kind == "mdev":
        yield path.split("/")[-2]


def _details(sysfs: Sysfs, path: str, kind: str) -> Iterator[str]:
    """Other types that it is listed by."""
    if kind == "scsi_host":
        leaf = path.rpartition("/")[2]
        if sysfs.exists(f"/class/fc_host/{leaf}"):
            yield "fc_host"
            if sysfs.exists(f"/class/fc_host/{leaf}/vport_create"):
                yield "vports"
    if kind == "pci" and sysfs.exists(f"{path}/mdev_supported_types"):
        yield "mdev_types"


def adopt(device: Found, known: dict[str, Found]) -> Found:
    """``device`` with its parent: the nearest one above it that is known, else the computer."""
    if not device.path:
        return device
    above = device.path.rpartition("/")[0]
    while above and above not in known:
        above = above.rpartition("/")[0]
    return Found(device.name, device.path, device.kind, device.kinds, known[above].name if above else ROOT_NAME)


def drive_type(sysfs: Sysfs, path: str, udev: dict[str, str]) -> str | None:
    """What kind of drive a block device is; None for what is none (loop devices, RAM disks, mapped devices)."""
    known = udev.get("ID_TYPE")
    if known == "cd":
        return "cdrom"
    if known and known != "generic":
        return known if known in ("disk", "floppy", "sd", "cdrom", "dasd") else None
    for name, kind in (("ID_DRIVE_FLOPPY", "floppy"), ("ID_CDROM", "cdrom"), ("ID_DRIVE_FLASH_SD", "sd")):
        if name in udev:
            return kind
    leaf = path.rpartition("/")[2]
    for pattern, kind in ((_DISKS, "disk"), (_CDROMS, "cdrom"), (_CARDS, "sd"), (_FLOPPIES, "floppy")):
        if pattern.match(leaf):
            return kind
    return None


def udev_properties(sysfs: Sysfs, path: str) -> dict[str, str]:
    """What udevd's database has of a device; empty where no udevd runs."""
    return dict(line[2:].split("=", 1) for line in _database(sysfs, path) if line.startswith("E:") and "=" in line)


def udev_links(sysfs: Sysfs, path: str) -> list[str]:
    """The links below /dev that udevd made to a device, sorted."""
    return sorted(f"/dev/{line[2:]}" for line in _database(sysfs, path) if line.startswith("S:"))


def _database(sysfs: Sysfs, path: str) -> list[str]:
    number = sysfs.text(f"{path}/dev")
    if number is None:
        return []
    letter = "b" if "/block/" in path else "c"
    try:
        with open(f"{sysfs.root}/run/udev/data/{letter}{number}", encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
