"""The files of a guest's disks: found and checked before a start, all the way down each chain of images; and the images
that transient disks write into, which go when the guest does."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from guesthouse.errors import ConfigUnsupported, OperationInvalid, ResourceBusy, SystemFailure
from guesthouse.model.devices.disk import BackingFormat, BackingStore, Disk, DiskDriver, DiskSource, Layer
from guesthouse.model.devices.disk_source import SourceHost
from guesthouse.model.domain import Domain
from guesthouse.qemu import images
from guesthouse.qemu.devices.disk import is_late
from guesthouse.qemu.process import User
from guesthouse.services.guests import Guest, Guests
from guesthouse.storage import formats

_CHANGE_MISSING = 0  # VIR_DOMAIN_EVENT_DISK_CHANGE_MISSING_ON_START
# enough of an image for its header and the name of the one below
_HEADER = 64 * 1024
# images of these formats may stand on another
_STACKED = ("qcow", "qcow2", "qed", "vmdk", "cow")
_DEEPEST = 200


class DiskFiles:
    """``folder`` is where what transient guests write is kept."""

    def __init__(self, guests: Guests, user: User, folder: Path) -> None:
        self._guests = guests
        self._user = user
        self._folder = folder

    def plan(self, guest: Guest, live: Domain) -> list[dict[str, Any]]:
        """Check that every file is there, usable and not another guest's; returns what is to be labelled or made.

        ``live`` comes to tell what is below each image. Disks that may be missing and are become empty drives, or are
        left out; transient ones get an image of their own on top. Raises libvirt's errors."""
        records: list[dict[str, Any]] = []
        self._leave_out_missing(guest, live)
        for disk in live.dev.disks:
            _can_be_had(disk)
            if not disk.layers:
                continue
            path = disk.path
            if path is not None:
                self._not_in_use(guest, disk, path)
            self._find_chain(disk)
            transient = disk.transient is not None
            above = ""
            for layer in disk.layers:
                top = not above
                self._label(layer, above, records, writable=top and not disk.readonly and not transient)
                above = layer.path or layer.source.name or "?"
            if transient and path is not None:
                records.append(self._overlay(guest, disk, path))
        return records

    def _label(self, layer: Layer, above: str, records: list[dict[str, Any]], *, writable: bool) -> None:
        path = layer.path
        if path is None or layer.source.fdgroup:
            return
        try:
            record = images.plan(path, self._user, writable=writable)
        except SystemFailure as failure:
            if above:
                what = f"Cannot access backing file '{path}' of storage file '{above}'"
                failure.message = failure.message.replace(f"Cannot access storage file '{path}'", what)
                failure.args = (failure.message,)
            raise
        if record is not None and all(old["path"] != path for old in records):
            records.append(record)

    def _leave_out_missing(self, guest: Guest, live: Domain) -> None:
        """Disks that may be missing (startupPolicy "optional") and are: an empty drive, or none at all."""
        for disk in tuple(live.dev.disks):
            policy, path = disk.source and disk.source.startup_policy, disk.path
            if policy != "optional" or path is None or os.path.exists(path):  # noqa: PTH110
                continue
            if disk.device in ("cdrom", "floppy"):
                disk.source = None
            else:
                live.dev.disks.remove(disk)
            alias = (disk.alias and disk.alias.name) or ""
            change = {"oldSrcPath": path, "newSrcPath": None, "devAlias": alias, "reason": _CHANGE_MISSING}
            self._guests.tell(guest, 9, change)

    def _not_in_use(self, guest: Guest, disk: Disk, path: str) -> None:
        real = os.path.realpath(path)
        for other in self._guests:
            if other is guest or other.live is None:
                continue
            for theirs in other.live.dev.disks:
                held = [layer.path for layer in theirs.layers[: 2 if theirs.transient else 1]]
                if all(held_path is None or os.path.realpath(held_path) != real for held_path in held):
                    continue
                if (disk.readonly and theirs.readonly) or (disk.shareable and theirs.shareable):
                    continue
                if is_late(disk) and is_late(theirs):
                    continue  # each writes into an image of its own
                raise ResourceBusy(
                    f"disk '{path}' is in use by the running domain '{other.name}'; stop that guest, or mark the"
                    " disk <shareable/> in both"
                )

    # -- chains

    def _find_chain(self, disk: Disk) -> None:
        """Put what is below the disk's image into the document, unless the document says it itself."""
        if disk.backing is not None:
            return
        top = disk.layers[0]
        disk.backing = _below(top.path, top.kind, top.format, top.source.fdgroup is not None)

    # -- transient disks

    def _overlay(self, guest: Guest, disk: Disk, path: str) -> dict[str, Any]:
        """Put an image on top of the disk's own; returns the record that makes it, and removes it at the end."""
        source, form = disk.source, disk.format
        assert source is not None
        if disk.encryption is not None or source.encryption is not None:
            raise ConfigUnsupported(f"transient disk '{disk.dev}' is encrypted: what is written would be kept in clear")
        overlay = str(self._folder / f"{guest.uuid}.{disk.dev}{images.TRANSIENT}")
        disk.backing = BackingStore(
            type=disk.type, format=BackingFormat(type=form), source=source, backing=disk.backing or BackingStore()
        )
        disk.source = DiskSource(file=overlay)
        disk.driver = disk.driver or DiskDriver(name="qemu")
        disk.driver.type = "qcow2"
        same = self._user.same
        made = {"below": path, "format": form}
        return {"path": overlay, "make": made, "set": None if same else self._user.uid, "set_gid": self._user.gid}


def _can_be_had(disk: Disk) -> None:
    """Raises ConfigUnsupported for what a command line can say but no guest gets here."""
    if disk.raw_io:
        raise ConfigUnsupported(f"rawio of disk '{disk.dev}' is not supported: guests have no such privilege")
    if disk.type == "nvme":
        raise ConfigUnsupported(f"NVMe disks of the host are not supported yet (disk '{disk.dev}')")


def _below(path: str | None, kind: str, form: str, given: bool) -> BackingStore | None:
    """The chain below an image, down to its end. None where that cannot be told (QEMU then looks for itself)."""
    first: BackingStore | None = None
    last: BackingStore | None = None
    for _ in range(_DEEPEST):
        found: BackingStore | None = None
        if form not in _STACKED:
            found = BackingStore()
        elif path is not None and kind in ("file", "block") and not given:
            found = _next(path, form)
        if last is None:
            first = found
        else:
            last.backing = found
        if found is None or found.source is None:
            return first
        last, given = found, False
        kind, form = found.type or "file", (found.format and found.format.type) or "raw"
        path = found.source.file or found.source.dev
    raise OperationInvalid(f"the chain of images below '{path}' does not end")


def _next(path: str, form: str) -> BackingStore | None:
    """The image that the one at ``path`` names, an end where it names none; None where it cannot be read."""
    header = _header(path)
    if header is None:
        return None
    image = formats.inspect(header, form)
    if image.backing is None:
        return BackingStore()
    local = formats.backing_path(path, image.backing)
    if local is None:
        return _remote(image.backing, image.backing_format)
    below = image.backing_format
    if below is None:
        # as libvirt has it: nobody may turn a raw image into one that leads to files of the host
        seen = _header(local)
        if seen is not None and formats.probe(seen).format != "raw":
            raise OperationInvalid(
                f"format of backing image '{local}' of image '{path}' was not specified in the image metadata"
                " (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)"
            )
        below = "raw"
    is_block = _is_block(local)
    source = DiskSource(dev=local) if is_block else DiskSource(file=local)
    return BackingStore(type="block" if is_block else "file", format=BackingFormat(type=below), source=source)


def _remote(name: str, form: str | None) -> BackingStore | None:
    """``nbd://host:port/export`` and the like; None for what is spelled another way."""
    protocol, _, rest = name.partition("://")
    place, _, path = rest.partition("/")
    if protocol not in ("nbd", "http", "https", "ftp", "ftps", "ssh") or not place or "@" in place or "?" in path:
        return None
    host, _, port = place.rpartition(":") if place.rpartition(":")[2].isdecimal() else (place, "", "")
    source = DiskSource(
        protocol=protocol, name=path or None, hosts=[SourceHost(name=host.strip("[]"), port=port or None)]
    )
    return BackingStore(type="network", format=BackingFormat(type=form or "raw"), source=source)


def _header(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_HEADER)
    except OSError:
        return None


def _is_block(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False
