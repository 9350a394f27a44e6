"""A guest made after another: its document with new names, addresses and files, and copies of its disks.

A :class:`Plan` says what will be done and changes nothing; :func:`carry_out` does it, or leaves no trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from guesthouse import units
from guesthouse.client import Connect, StorageVol
from guesthouse.client import Domain as Handle
from guesthouse.errors import GuesthouseError, InvalidArg, NoDomain, NoStorageVol
from guesthouse.model.devices.disk import Disk, DiskSource
from guesthouse.model.devices.interface import MacAddress
from guesthouse.model.domain import Domain
from guesthouse.model.storage import Volume, VolumeFormat, VolumeTarget
from guesthouse.provision import copying, network, request
from guesthouse.provision.host import Host
from guesthouse.provision.storage import Planner, PoolView

_SHUTOFF = 5
_REFLINK = 2
_SHORT_SUFFIX = 7
_FILES = ("dir", "fs", "netfs", "gluster", "vstorage")


class CloneError(InvalidArg):
    """A guest, or a disk of it, that cannot be cloned."""

    prefix = ""


SHARE, COPY, PRESERVE = "share", "copy", "preserve"


@dataclass
class Part:
    """A disk of the original, or its firmware's variables, and what happens to it: both guests use it (SHARE), it is
    copied to ``new_path`` (COPY), or ``new_path`` is there already (PRESERVE)."""

    disk: Disk
    action: str
    new_path: str | None = None
    volume: StorageVol | None = None
    pool: PoolView | None = None
    #: what was made for it: a volume, or a file of this host
    made: StorageVol | None = None
    made_file: str | None = None

    @property
    def path(self) -> str | None:
        return self.disk.path

    @property
    def name(self) -> str:
        return os.path.basename(self.new_path or "")  # noqa: PTH119


@dataclass
class Plan:
    """What will be: the new guest's document, and its disks. ``nvram`` is the file of the firmware's variables where
    there is one to be copied. ``replaces`` is the guest that goes. ``sparse`` disks take no more room than they must;
    with ``reflink`` copies share their blocks with the original."""

    original: Domain
    guest: Domain
    parts: list[Part] = field(default_factory=list)
    nvram: Part | None = None
    replaces: Handle | None = None
    sparse: bool = True
    reflink: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def copies(self) -> list[Part]:
        """What is copied, in order."""
        return [part for part in [*self.parts, *([self.nvram] if self.nvram else [])] if part.action == COPY]


def original(conn: Connect, name: str) -> str:
    """The document of the guest ``name``, secrets included. Raises CloneError where there is none, or it runs."""
    try:
        guest = conn.lookup_by_name(name)
    except NoDomain:
        raise CloneError(f"Domain '{name}' was not found.") from None
    if guest.get_state()[0] != _SHUTOFF:
        raise CloneError("Domain to clone must be shutoff.")
    return guest.get_xml_desc(1)


def plan(host: Host, document: str) -> Plan:
    """The beginning of a plan: a guest with a name, a UUID and addresses of its own; which disks are copied."""
    before = Domain.from_xml(document)
    guest = before.copy()
    result = Plan(before, guest)
    guest.id = guest.title = None
    guest.uuid = units.new_uuid()
    for display in guest.dev.graphics:
        if display.port not in (None, -1, 0):
            result.notes.append("Setting the graphics device port to autoport, in order to avoid conflicting.")
            display.port, display.autoport = -1, None
    given: set[str] = set()
    for nic in guest.dev.interfaces:
        if nic.target is not None:
            nic.target.dev = None
            if nic.target == type(nic.target)():
                nic.target = None
        mac = network.free_mac(host)
        while mac in given:
            mac = network.free_mac(host)
        given.add(mac)
        request.part(nic, "mac", MacAddress).address = mac
    for channel in guest.dev.channels:
        target = channel.target.name if channel.target is not None else None
        for source in channel.sources if channel.type == "unix" else []:
            if target and source.path and target in source.path:
                source.path = None
        channel.sources = [source for source in channel.sources if source != type(source)()]
    guest.name = free_name(host, before.name or "")
    planner = Planner(host, dry=True)
    for disk in before.dev.disks:
        result.parts.append(_part(planner, disk))
    return result


def free_name(host: Host, name: str) -> str:
    """A name for a clone of ``name``: web-clone, then web-clone1; of web-clone it is web-clone1."""
    match = re.search(r"-clone([1-9]*)$", name)
    number = 0
    if match is not None:
        number = int(match[1] or 0) + 1
        name = name[: match.start()]
    while host.has_domain(found := f"{name}-clone{number or ''}"):
        number += 1
    return found


def _part(planner: Planner, disk: Disk) -> Part:
    found = Part(disk, COPY)
    nothing = disk.source is None or (disk.path is None and disk.kind != "network")
    if nothing or disk.readonly or disk.shareable:
        found.action = SHARE
    if disk.path is not None:
        found.volume = _volume_at(planner.host.conn, disk.path)
    return found


def _volume_at(conn: Connect, path: str) -> StorageVol | None:
    try:
        return conn.storage_vol_lookup_by_path(path)
    except (NoStorageVol, GuesthouseError):
        return None


# -- where copies go


def place(plan: Plan, host: Host, paths: Iterable[str], dry: bool) -> None:
    """Give each disk that is not shared its new path: the next of ``paths``, else one that follows from the old. Raises
    CloneError where a disk cannot be copied, or not to there."""
    planner = Planner(host, dry=dry)
    given = list(paths)
    taken: set[str] = set()
    for part in plan.parts:
        if part.action == SHARE:
            continue
        path = given.pop(0) if given else None
        if path is not None:
            path = path if host.is_remote else os.path.abspath(path)  # noqa: PTH100
        if part.path is None and part.disk.kind != "network":
            part.action = SHARE  # an empty drive
            continue
        if part.action == COPY:
            _check_source(part, host)
        _put(planner, part, path or _free_path(plan, host, part.path or "", taken), taken)
        _use(plan, part)
    _place_files(plan, host)


def _check_source(part: Part, host: Host) -> None:
    trouble = ""
    if part.disk.kind == "network":
        protocol = part.disk.source.protocol if part.disk.source is not None else None
        trouble = f"Disk network type '{protocol}' is not cloneable."
        if protocol == "rbd":
            trouble = "Cloning rbd volumes is not yet supported."
    elif part.volume is None and (host.is_remote or not os.path.exists(part.path or "")):  # noqa: PTH110
        trouble = f"Disk path '{part.path}' does not exist."
    if trouble:
        raise CloneError(f"Could not determine original disk information: {trouble}")


def _put(planner: Planner, part: Part, path: str, taken: set[str]) -> None:
    host = planner.host

    def cannot(why: str) -> CloneError:
        return CloneError(f"Could not use path '{path}' for cloning: {why}")

    if path in taken:
        raise cannot("another disk of the clone goes there")
    taken.add(path)
    part.new_path = path
    there = _volume_at(host.conn, path)
    exists = there is not None or (not host.is_remote and os.path.exists(path))  # noqa: PTH110
    if part.action == PRESERVE:
        if not exists:
            raise cannot(f"there is no '{path}', whose data could be preserved")
        return
    if there is not None:
        device = not host.is_remote and part.path and os.access(part.path, os.R_OK) and path.startswith("/dev/")
        if not device or not os.access(path, os.W_OK):
            raise cannot(f"Clone onto existing storage volume is not currently supported: '{path}'")
        part.volume = None  # the device is written to directly
        return
    if part.volume is not None:
        try:
            part.pool = planner.pool_of_folder(os.path.dirname(path))  # noqa: PTH120
        except GuesthouseError as error:
            raise cannot(error.message) from None
    if part.pool is None:
        part.volume = None
        if host.is_remote:
            raise cannot("no storage pool of that host has such a folder")
        if not os.path.isdir(os.path.dirname(path)):  # noqa: PTH112, PTH120
            raise cannot("there is no such folder")
        if not os.access(part.path or "", os.R_OK):
            raise cannot(f"you may not read '{part.path}'")


def _use(plan: Plan, part: Part) -> None:
    """Have the new guest's disk be the copy."""
    disk = next(disk for disk in plan.guest.dev.disks if disk.dev == part.disk.dev)
    path = part.new_path or ""
    kind = "block" if path.startswith("/dev/") or (part.pool is not None and part.pool.type not in _FILES) else "file"
    disk.type = kind
    old = disk.source or DiskSource()
    disk.source = DiskSource(
        file=path if kind == "file" else None, dev=path if kind == "block" else None, startup_policy=old.startup_policy
    )
    disk.backing = None


def _free_path(plan: Plan, host: Host, path: str, taken: set[str] | None = None) -> str:
    """A path beside ``path`` for the clone: disk-clone.qcow2, disk-clone-1.qcow2; a file that is called like the
    original guest becomes one that is called like the new one."""
    base, suffix = path, ""
    if "." in path and len(path.rpartition(".")[2]) <= _SHORT_SUFFIX:
        base, _, end = path.rpartition(".")
        suffix = f".{end}"
    folder, name = os.path.split(base)
    stem = (plan.guest.name or "") if name and name == plan.original.name else f"{name}-clone"
    number = 0
    while True:
        found = os.path.join(folder, f"{stem}-{number}{suffix}" if number else f"{stem}{suffix}")  # noqa: PTH118
        here = not host.is_remote and os.path.exists(found)  # noqa: PTH110
        if found not in (taken or ()) and not here and _volume_at(host.conn, found) is None:
            return found
        number += 1


def _place_files(plan: Plan, host: Host) -> None:
    """Files that ports write to."""
    for device in [*plan.guest.dev.consoles, *plan.guest.dev.serials]:
        if device.type == "file":
            for source in device.sources:
                if source.path:
                    source.path = _free_path(plan, host, source.path)


def place_nvram(plan: Plan, host: Host, path: str | None, preserve: bool) -> None:
    """Give the firmware's variables a file of the clone's own: ``path``, or one that is called after it. It is copied
    where the original has one; the daemon makes it anew where there is none."""
    boot = plan.guest.os
    old = boot.nvram.file if boot is not None and boot.nvram is not None else None
    if boot is None or boot.nvram is None or old is None:
        return
    ending = os.path.splitext(old)[1] or ".fd"  # noqa: PTH122
    name = f"{os.path.basename(plan.guest.name or '')}_VARS{ending}"  # noqa: PTH119
    new = path or os.path.join(os.path.dirname(old), name)  # noqa: PTH118, PTH120
    if boot.nvram.source is not None and boot.nvram.source.file:
        boot.nvram.source.file = new
    else:
        boot.nvram.path = new
    part = Part(Disk(type="file", source=DiskSource(file=old)), COPY, new_path=new)
    there = not host.is_remote and os.path.exists(new)  # noqa: PTH110
    if preserve or there or _volume_at(host.conn, new) is not None:
        return
    part.volume = _volume_at(host.conn, old)
    if part.volume is not None:
        part.pool = Planner(host, dry=True).pool_of_folder(os.path.dirname(new))  # noqa: PTH120
    if part.pool is None:
        part.volume = None
        if host.is_remote or not os.path.exists(old):  # noqa: PTH110
            return
        if not os.access(old, os.R_OK):
            raise CloneError(f"you may not read '{old}', the variables of the firmware")
    plan.nvram = part


# -- doing it


def carry_out(
    plan: Plan,
    host: Host,
    begin: Callable[[Part], None],
    moved: Callable[[int, int], None],
    end: Callable[[Part, int], None],
    proceed: Callable[[], None],
) -> Handle:
    """Define the guest and copy its disks. ``begin`` and ``end`` (with the size in bytes) are told of each copy,
    ``moved`` how many bytes of how many are there; ``proceed`` is called between steps and may raise. Where anything
    raises, the guest and what was made of it is gone again, and the guest that it should have replaced is defined
    again."""
    conn = host.conn
    former = plan.replaces.get_xml_desc(3) if plan.replaces is not None else None
    made: Handle | None = None
    try:
        if plan.replaces is not None:
            _take_away(plan.replaces)
        made = conn.define_xml(plan.guest.to_xml(secrets=True))
        for part in plan.copies:
            proceed()
            begin(part)
            end(part, _copy(plan, part, moved, proceed))
        proceed()
        return made
    except BaseException:
        for part in plan.copies:
            _remove(part)
        try:
            if made is not None:
                _take_away(made)
            if former is not None:
                conn.define_xml(former)
        except GuesthouseError:  # the daemon is gone, or the guest is
            pass
        raise


def _copy(plan: Plan, part: Part, moved: Callable[[int, int], None], proceed: Callable[[], None]) -> int:
    """Copy one file; returns its size. What is half-made stands in the part."""
    if part.volume is not None and part.pool is not None and part.pool.handle is not None:
        size = int(part.volume.get_info().capacity)
        document = _volume_document(part, size, plan.sparse)
        if not part.pool.handle.is_active():
            part.pool.handle.create()
        flags = _REFLINK if plan.reflink else 0
        part.made = part.pool.handle.vol_create_xml_from(document, part.volume, flags)
        return size
    path = part.new_path or ""
    if not os.path.exists(path):  # noqa: PTH110 - a device that was there is not ours to remove
        part.made_file = path

    def going(done: int, total: int) -> None:
        proceed()
        moved(done, total)

    return copying.copy(part.path or "", path, sparse=plan.sparse, reflink=plan.reflink, moved=going)


def _volume_document(part: Part, size: int, sparse: bool) -> str:
    assert part.volume is not None
    before = Volume.from_xml(part.volume.get_xml_desc())
    kind = before.target.format.type if before.target is not None and before.target.format is not None else None
    target = None
    if part.pool is not None and part.pool.type in _FILES and kind not in (None, "unknown"):
        target = VolumeTarget(format=VolumeFormat(type=kind))
    return Volume(name=part.name, capacity=size, allocation=0 if sparse else size, target=target).to_xml()


def _remove(part: Part) -> None:
    try:
        if part.made is not None:
            part.made.delete()
        elif part.made_file is not None:
            os.unlink(part.made_file)  # noqa: PTH108
    except (GuesthouseError, OSError):  # it is gone, or the daemon is
        pass
    part.made = part.made_file = None


def _take_away(guest: Handle) -> None:
    """End and undefine a guest; its disks and the firmware's variables stay."""
    if guest.is_active():
        guest.destroy()
    # with the saved state, the metadata of snapshots and checkpoints; variables are kept
    guest.undefine_flags(1 | 2 | 8 | 16)
