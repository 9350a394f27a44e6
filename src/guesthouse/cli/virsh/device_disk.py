"""Commands that add and remove disks, and change the media in drives."""

from __future__ import annotations

from guesthouse.cli.virsh.command import DATA, Option, alias, command, data, flag, string
from guesthouse.cli.virsh.device_xml import (
    CONFIG,
    LIVE,
    address,
    change_flags,
    change_options,
    document,
    element,
    send,
    text,
    unlink,
    value,
    with_live,
)
from guesthouse.cli.virsh.domain_metadata import affected
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORCE = 4
_LIVE, _CONFIG, _CURRENT = affected()
_PLACES = {
    "vd": (("pci", "ccw"), "expecting a pci:0000.00.00.00 or ccw:00.0.0000 address."),
    "sd": (("scsi", "usb", "sata"), "expecting a scsi:00.00.00 or usb:00.00 or sata:00.00.00 address."),
    "hd": (("ide",), "expecting an ide:00.00.00 address."),
}


@command(
    "domain",
    "attach-disk",
    "add a disk to a guest",
    DOMAIN,
    Option("source", DATA, "the image or device, or the name of network storage", required=True, empty=True),
    data("target", "what the guest is to call it: vdb, sdc, hdc"),
    string("targetbus", "the bus it is on"),
    string("driver", "the driver's name"),
    string("subdriver", "the image's format"),
    string("iothread", "the I/O thread that serves it"),
    string("cache", "how writes are cached"),
    string("io", "how reads and writes are done"),
    string("type", "what it is: disk, cdrom, floppy, lun"),
    alias("shareable", "mode=shareable"),
    string("mode", "readonly or shareable"),
    string("sourcetype", "where the data are: file, block or network"),
    string("serial", "the disk's serial number"),
    string("wwn", "the disk's world wide name"),
    string("alias", "an alias of your own"),
    flag("rawio", "with raw SCSI commands"),
    string("address", "where it sits in the guest"),
    flag("multifunction", "the PCI slot has several functions"),
    flag("print-xml", "show the XML, and add nothing"),
    string("source-protocol", "how network storage is spoken to"),
    string("source-host-name", "the server of network storage"),
    string("source-host-transport", "how the server is reached"),
    string("source-host-socket", "the server's socket"),
    *change_options(),
    description="Add a disk to a guest.",
)
def attach(shell: Shell, given: Given) -> None:
    given.exclusive("persistent", "current")
    given.exclusive("current", "live")
    given.exclusive("current", "config")
    for option in ("source-host-name", "source-host-transport", "source-host-socket"):
        given.require(option, "source-protocol")
    given.require("source-host-socket", "source-host-transport")
    given.exclusive("source-host-name", "source-host-socket")
    flags = change_flags(given)
    xml = _disk_xml(given)
    if given.has("print-xml"):
        shell.out(xml)
        return
    guest, _ = domain(shell, given)
    flags = with_live(given, guest, flags)
    with shell.explain("Failed to attach disk"):
        send(given, guest, "attach", xml, flags)
    shell.extra("Disk attached successfully\n")


def _disk_xml(given: Given) -> str:
    names = ("source", "target", "driver", "subdriver", "type", "mode", "iothread", "cache", "io", "serial", "wwn")
    more = ("address", "targetbus", "alias", "sourcetype")
    network = ("source-protocol", "source-host-name", "source-host-transport", "source-host-socket")
    got = {name: given.text(name) for name in (*names, *more, *network)}
    kind = _source_type(got)
    if got["mode"] not in (None, "readonly", "shareable"):
        raise Failed(f"No support for {got['mode']} in command 'attach-disk'")
    wwn = got["wwn"]
    if wwn is not None and not _is_wwn(wwn):
        raise Failed("") from InternalError(f"Malformed wwn: {wwn}")
    driver = {"name": got["driver"], "type": got["subdriver"], "iothread": got["iothread"]}
    inside = element("driver", {**driver, "cache": got["cache"], "io": got["io"]})
    source = got["source"]
    if kind == "network":
        inside += element("source", {"protocol": got["source-protocol"], "name": source}, _host(got))
    else:
        inside += element("source", {"file" if kind == "file" else "dev": source})
    bus = f" bus='{got['targetbus']}'" if got["targetbus"] else ""
    inside += f"<target dev='{got['target']}'{bus}/>\n"
    if got["mode"]:
        inside += f"<{got['mode']}/>\n"
    if got["serial"]:
        inside += f"<serial>{got['serial']}</serial>\n"
    if got["alias"]:
        inside += f"<alias name='{got['alias']}'/>\n"
    if wwn:
        inside += f"<wwn>{wwn}</wwn>\n"
    if got["address"]:
        inside += _place(got["address"], got["target"] or "", given.has("multifunction"))
    raw = "yes" if given.has("rawio") else None
    return element("disk", {"type": kind, "device": got["type"], "rawio": raw}, inside)


def _source_type(got: dict[str, str | None]) -> str:
    asked, protocol = got["sourcetype"], got["source-protocol"]
    if asked is not None and asked not in ("file", "block", "network"):
        raise Failed(f"Unknown source type: '{asked}'")
    if asked is None:
        block = got["driver"] not in ("file", "tap") and _is_block(got["source"])
        asked = "network" if protocol else "block" if block else "file"
    if (asked == "network") != bool(protocol):
        raise Failed("--source-protocol option requires --sourcetype network")
    return asked


def _is_block(path: str | None) -> bool:
    import os
    import stat

    try:
        return bool(path) and stat.S_ISBLK(os.stat(path or "").st_mode)  # noqa: PTH116
    except OSError:
        return False


def _is_wwn(name: str) -> bool:
    digits = name.removeprefix("0x")
    return len(digits) == 16 and all(digit in "0123456789abcdefABCDEF" for digit in digits)


def _host(got: dict[str, str | None]) -> str:
    attributes = {"transport": got["source-host-transport"], "socket": got["source-host-socket"]}
    name = got["source-host-name"]
    if name is not None:
        server, colon, port = name.partition(":")
        attributes |= {"name": server, "port": port if colon else None}
    return element("host", attributes)


def _place(where: str, target: str, multifunction: bool) -> str:
    found = address(where, multifunction)
    if found is None:
        raise Failed("Invalid address.")
    kinds, expected = _PLACES.get(target[:2], ((found[0],), ""))
    if found[0] not in kinds:
        raise Failed(expected)
    return found[1]


@command(
    "domain",
    "detach-disk",
    "remove a disk from a guest",
    DOMAIN,
    data("target", "the disk: its target or source"),
    *change_options(),
    flag("print-xml", "show the XML, and remove nothing"),
    description="Remove a disk from a guest.",
)
def detach(shell: Shell, given: Given) -> None:
    flags = change_flags(given)
    guest, _ = domain(shell, given)
    target = given.need("target")
    root = document(shell, guest, inactive=flags == CONFIG)
    flags = with_live(given, guest, flags)
    xml = text(_find(root, target))
    if given.has("print-xml"):
        shell.out(xml)
        return
    with shell.explain("Failed to detach disk"):
        send(given, guest, "detach", xml, flags)
    shell.extra("Disk detached successfully\n")


def _find(root: Any, path: str, *, changeable: bool = False) -> Any:
    """The disk with this target or source, without what lies below its image. Raises Failed."""
    disks = root.findall("devices/disk")
    if not disks:
        raise Failed("Failed to get disk information")
    for disk in disks:
        if changeable and disk.get("device") not in (None, "cdrom", "floppy"):
            continue
        sources = [value(disk, "source", name) for name in ("file", "dev", "dir", "name")]
        if path in (value(disk, "target", "dev"), *sources):
            below = disk.find("backingStore")
            if below is not None:
                unlink(below)
            return disk
    raise Failed(f"No disk found whose source path or target is {path}")


@command(
    "domain",
    "change-media",
    "change the medium in a guest's CD or floppy drive",
    DOMAIN,
    data("path", "the drive: its target or source"),
    string("source", "the medium"),
    flag("eject", "take the medium out"),
    flag("insert", "put the medium in"),
    flag("update", "change the medium"),
    _CURRENT,
    _LIVE,
    _CONFIG,
    flag("force", "even where the guest has locked the drive"),
    flag("print-xml", "show the XML, and change nothing"),
    flag("block", "the medium is a block device"),
    description="Take a medium out of a guest's CD or floppy drive, put one in, or change it.",
)
def change_media(shell: Shell, given: Given) -> None:
    given.exclusive("eject", "insert")
    given.exclusive("eject", "update")
    given.exclusive("insert", "update")
    given.exclusive("eject", "block")
    source = given.text("source")
    action = next((word for word in ("eject", "insert") if given.has(word)), "update")
    if given.has("update") and not source:
        action = "eject"
    given.exclusive("current", "live")
    given.exclusive("current", "config")
    flags = given.flags({"config": CONFIG, "live": LIVE, "force": _FORCE})
    guest, _ = domain(shell, given)
    path = given.need("path")
    root = document(shell, guest, inactive=bool(flags & CONFIG))
    drive = _find(root, path, changeable=True)
    _change(drive, path, action, source, block=given.has("block"))
    xml = text(drive)
    if given.has("print-xml"):
        shell.out(xml)
        return
    with shell.explain(f"Failed to complete action {action} on media"):
        guest.call("update_device_flags", xml=xml, flags=flags)
    shell.out(f"Successfully {'inserted' if action == 'insert' else action.removesuffix('e') + 'ed'} media.")


def _change(drive: Any, path: str, action: str, medium: str | None, *, block: bool) -> None:
    """Make the element of a drive one with ``medium``. Raises Failed where that cannot be meant."""
    if drive.get("device") not in ("cdrom", "floppy"):
        raise Failed(f"The disk device '{path}' is not removable")
    source, target = drive.find("source"), drive.find("target")
    if action == "eject":
        if source is None:
            raise Failed(f"The disk device '{path}' doesn't have media")
        block, medium = False, None
    elif not medium:
        raise Failed("New disk media source was not specified")
    policy = None
    if source is not None:
        if action == "insert" and any(source.get(name) for name in ("file", "dev", "dir", "pool", "name")):
            raise Failed(f"The disk device '{path}' already has media")
        policy = source.get("startupPolicy")
        unlink(source)
    drive.set("type", "block" if block else "file")
    if medium is None:
        return
    fresh = drive.makeelement("source", {"dev" if block else "file": medium})
    if policy is not None:
        fresh.set("startupPolicy", policy)
    before = target.getprevious()
    space = (before.tail if before is not None else drive.text) or ""
    target.addprevious(fresh)
    fresh.tail = space.rpartition("\n")[1] + space.rpartition("\n")[2]
