"""The command line of virt-xml: what to do, and one of virt-install's options that says to what."""

from __future__ import annotations

from guesthouse.cli.virt_install.options import FLAG, LIST, MAYBE, OPTIONS, VALUE, Option, Options, UsageError

ACTIONS = ("edit", "add-device", "remove-device", "build-xml")
#: Options of virt-install that are about installing.
_NOT_HERE = ("osinfo", "install", "unattended", "cloud-init", "location")
_ALONE = ("xml", "qemu-commandline", "iothreads")


def _rows() -> tuple[Option, ...]:
    action, output, misc = "What to do", "What becomes of it", "Miscellaneous"
    return (
        Option(("connect", "c"), VALUE, "daemon that has the guest (a libvirt URI)", "General options"),
        Option(("edit",), MAYBE, "change the first (or the SELECTED: 2, -1, all, target=vda, /a/path)", action, ""),
        Option(("add-device",), FLAG, "add a device: --add-device --disk size=1", action),
        Option(("remove-device",), FLAG, "remove a device: --remove-device --disk target=vdb (or 2, or all)", action),
        Option(
            ("build-xml",), FLAG, "show what an option gives, and change nothing; a guest need not be named", action
        ),
        Option(("update",), FLAG, "change the running guest, too", output),
        Option(("define",), FLAG, "change the definition, also where something is printed", output),
        Option(("no-define",), FLAG, "leave the definition as it is", output),
        Option(("start",), FLAG, "start the guest afterwards; with --no-define as changed, once", output),
        Option(("print-diff",), FLAG, "show the change as a difference, and make it not", output),
        Option(("print-xml",), FLAG, "show the whole changed document, and change nothing", output),
        Option(("confirm",), FLAG, "show the change and ask before it is made", output),
        Option(("osinfo", "os-variant"), VALUE, "operating system, for devices that suit it", output),
        *(
            option._replace(kind=LIST if option.kind == VALUE else option.kind)
            for option in OPTIONS
            if (option.family or option.name in _ALONE) and option.name not in _NOT_HERE
        ),
        Option(("quiet", "q"), FLAG, "only errors", misc),
        Option(("debug", "d"), FLAG, "tell more, and show where an error came from", misc),
        Option(("version",), FLAG, "print the version", misc),
        Option(("help", "h"), FLAG, "print this text", misc),
    )


ROWS: tuple[Option, ...] = _rows()


def usage() -> str:
    """What ``--help`` prints."""
    from guesthouse.cli.virt_install.help import listed

    return "\n".join(
        [
            "usage: virt-xml [GUEST] --edit [SELECTED]|--add-device|--remove-device|--build-xml OPTION [options]",
            "",
            "Change the document of a guest (its name, id or UUID), or of one that comes from standard input.",
            *listed(ROWS),
            "",
            "All sub-options of an option are listed by '?': virt-xml --disk=?",
        ]
    )


def action_of(options: Options) -> str:
    """Which of ACTIONS is asked for. Raises UsageError where none or several are."""
    found = [name for name in ACTIONS if name in options]
    if not found:
        raise UsageError(f"One of {', '.join(f'--{name}' for name in ACTIONS)} must be specified.")
    if len(found) > 1:
        raise UsageError(f"Conflicting options {', '.join(f'--{name}' for name in found)}")
    return found[0]


def family_of(options: Options) -> str:
    """The name of the one option that says what is changed. Raises UsageError."""
    names = [row.name for row in ROWS if row.family or row.name in _ALONE]
    found = [name for name in names if name in options]
    if not found:
        raise UsageError("No change specified.")
    if len(found) > 1:
        shown = [f"--{name}" for name in found]
        raise UsageError(f"Only one change operation may be specified (conflicting options {shown})")
    return found[0]
