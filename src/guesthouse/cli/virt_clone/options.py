"""The command line of virt-clone."""

from __future__ import annotations

from guesthouse.cli.virt_install.options import FLAG, LIST, VALUE, Option


def _rows() -> tuple[Option, ...]:
    general, storage, net, misc = "General options", "Storage", "Network", "Miscellaneous"
    return (
        Option(("connect",), VALUE, "daemon that has the guest (a libvirt URI)", general),
        Option(("original", "o"), VALUE, "guest to clone; it must not run", general),
        Option(("original-xml",), VALUE, "file with the document of the guest to clone", general),
        Option(("auto-clone",), FLAG, "make up the name and the paths that are not given", general),
        Option(("name", "n"), VALUE, "name of the clone", general),
        Option(("uuid", "u"), VALUE, "UUID of the clone", general),
        Option(("reflink",), FLAG, "copies share their blocks with the originals (btrfs, XFS)", general),
        Option(("file", "f"), LIST, "path of the next disk's copy", storage),
        Option(
            ("force-copy",), LIST, "copy this disk, too, though it is read-only or shared: --force-copy hdc", storage
        ),
        Option(("skip-copy",), LIST, "do not copy this disk; both guests use it: --skip-copy vdb", storage),
        Option(("nonsparse",), FLAG, "give copies all their room at once", storage),
        Option(("preserve-data",), FLAG, "copy nothing: the files that --file names are there already", storage),
        Option(("nvram",), VALUE, "path of the copy of the firmware's variables", storage),
        Option(("mac", "m"), LIST, "MAC address of the next card; else a free one (or RANDOM)", net),
        Option(("replace",), FLAG, "end and undefine a guest of the clone's name, if there is one", misc),
        Option(("print-xml",), FLAG, "show the document of the clone, and make nothing", misc),
        Option(("check",), LIST, "leave checks out: --check path_exists=off, mac_in_use=off, all=off", misc),
        Option(("quiet", "q"), FLAG, "only errors", misc),
        Option(("debug", "d"), FLAG, "show where an error came from", misc),
        Option(("version",), FLAG, "print the version", misc),
        Option(("help", "h"), FLAG, "print this text", misc),
        # of old
        Option(("prompt",), FLAG),
        Option(("force",), FLAG),
    )


ROWS: tuple[Option, ...] = _rows()


def usage() -> str:
    """What ``--help`` prints."""
    from guesthouse.cli.virt_install.help import listed

    return "\n".join(
        [
            "usage: virt-clone --original GUEST [--name NAME] --auto-clone|--file PATH... [options]",
            "",
            "Make a guest after another: a name, a UUID, MAC addresses, disks and firmware variables of its own.",
            "What is inside the disks stays as it is: host names, addresses and passwords are the original's.",
            *listed(ROWS),
            "",
            "For example:",
            "  virt-clone --original web --auto-clone",
        ]
    )
