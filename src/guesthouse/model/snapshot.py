"""``<domainsnapshot>``: the state of a guest's disks, and of its memory, at a moment; libvirt 9.0's vocabulary."""

from __future__ import annotations

import time

from guesthouse.errors import XMLError
from guesthouse.model.devices.disk import DiskDriver, DiskSource
from guesthouse.model.fields import Attr, Bool, Child, Children, Choice, Element, Int, Raw, Text

#: Where a snapshot's part is: in the image itself, in a file beside it, by hand, or nowhere.
PLACES = ("default", "no", "internal", "external", "manual")
STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended", "disk-snapshot")


class Memory(Element, tag="memory"):
    """``file`` holds the memory of an external one."""

    snapshot: str | None = Attr("snapshot", Choice(*PLACES))
    file: str | None = Attr("file")


class SnapshotDisk(Element, tag="disk"):
    """A disk by its target or its path, and where its state goes."""

    name: str | None = Attr("name", required=True)
    snapshot: str | None = Attr("snapshot", Choice(*PLACES))
    type: str | None = Attr("type", Choice("file", "block", "network", "volume", "nvme", "vhostuser"))
    discard_data: bool | None = Attr("snapshotDeleteInProgress", Bool)
    driver: DiskDriver | None = Child(DiskDriver)
    source: DiskSource | None = Child(DiskSource)


class Disks(Element, tag="disks"):
    disks: list[SnapshotDisk] = Children(SnapshotDisk)


class Parent(Element, tag="parent"):
    name: str | None = Text("name")


class Snapshot(Element, tag="domainsnapshot"):
    """``domain`` and ``inactive_domain`` are the guest's documents at that moment; ``created`` is in seconds since 1970."""

    name: str | None = Text("name")
    description: str | None = Text("description")
    state: str | None = Text("state", Choice(*STATES))
    parent: Parent | None = Child(Parent)
    created: int | None = Text("creationTime", Int)
    memory: Memory | None = Child(Memory)
    disks: Disks | None = Child(Disks)
    domain: object = Raw("domain")
    inactive_domain: object = Raw("inactiveDomain")
    active: bool | None = Text("active", Bool)


def parse_snapshot(text: str, *, redefine: bool = False, now: int | None = None) -> Snapshot:
    """A document from outside. ``redefine`` takes it as one that was written before, with its state, parent and time;
    else these are not the user's to say, and a name that is missing is the time ``now`` (seconds since 1970).

    Raises XMLError with libvirt's words where the whole makes no sense.
    """
    snapshot = Snapshot.from_xml(text)
    memory = snapshot.memory
    if redefine:
        for what, value in (("name", snapshot.name), ("creationTime", snapshot.created), ("state", snapshot.state)):
            if value is None:
                word = (
                    "a redefined snapshot must have a name"
                    if what == "name"
                    else f"missing {what} from existing snapshot"
                )
                raise XMLError(word)
    else:
        snapshot.state, snapshot.parent, snapshot.domain, snapshot.inactive_domain = None, None, None, None
        snapshot.created = int(time.time()) if now is None else now
        snapshot.name = snapshot.name or str(snapshot.created)
        snapshot.active = None
    if "/" in (snapshot.name or "") or (snapshot.name or "").startswith("."):
        raise XMLError(f"invalid snapshot name '{snapshot.name}': name can't contain '/' or start with '.'")
    if memory is not None and memory.file and memory.snapshot != "external":
        raise XMLError(f"memory filename '{memory.file}' requires external snapshot")
    if memory is not None and memory.snapshot == "external" and not memory.file:
        raise XMLError("external memory snapshots require a filename")
    if memory is not None and memory.file and not memory.file.startswith("/"):
        raise XMLError(f"memory snapshot file path ({memory.file}) must be absolute")
    return snapshot
