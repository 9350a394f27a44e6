"""Manual pages in roff, from the declarations of commands and options; run by doctables.py, which writes share/man."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from guesthouse import __version__
from guesthouse.cli import virt_host_validate, virt_qemu_run, virt_xml_validate
from guesthouse.cli.guest.main import parser as guest_parser
from guesthouse.cli.virsh import help as helper
from guesthouse.cli.virsh.command import ALIAS, Command
from guesthouse.cli.virsh.index import GROUPS, all_commands
from guesthouse.cli.virt_clone.options import ROWS as CLONE_ROWS
from guesthouse.cli.virt_install.options import FLAG, MAYBE, OPTIONS, Option
from guesthouse.cli.virt_xml.options import ROWS as XML_ROWS
from guesthouse.daemon.main import _parser as daemon_parser


def _text(text: str) -> str:
    """``text`` so that roff takes it as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in escaped.splitlines())


def _head(name: str, section: int, what: str) -> list[str]:
    title = f'.TH "{name.upper()}" "{section}" "" "guesthouse {__version__}" "Guesthouse"'
    return [title, ".nh", ".ad l", ".SH NAME", f"{_text(name)} \\- {_text(what)}"]


def _listed(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Terms and what they mean."""
    lines = []
    for term, meaning in rows:
        lines += [".TP", f"\\fB{_text(term)}\\fR", _text(meaning)]
    return lines


def _see(*names: str) -> list[str]:
    pages = (f"\\fB{_text(name)}\\fR({section})" for name, _, section in (each.partition(".") for each in names))
    return [".SH SEE ALSO", ",\n".join(pages)]


def _command(command: Command) -> list[str]:
    shown = [option for option in command.options if option.kind != ALIAS]
    synopsis = "".join(helper._synopsis(shown))
    about = command.description or f"{command.help[0].upper()}{command.help[1:]}."
    lines = [f".SS {_text(command.name)}", f"\\fB{_text(command.name)}\\fR{_text(synopsis)}", ".PP", _text(about)]
    by_place = False
    rows = []
    for option in shown:
        by_place = by_place or helper._by_place(option)
        rows.append((helper._usage(option, by_place), option.help))
    return lines + _listed(rows)


def virsh() -> str:
    options = re.findall(r"^    (-.*?|  +--\S+)(?:  +|\n {28})(\S.*)$", helper._OPTIONS, re.M)
    lines = _head("virsh", 1, "manage virtual machines, networks and storage of a libvirt-compatible daemon")
    lines += [
        ".SH SYNOPSIS",
        "\\fBvirsh\\fR [\\fIOPTION\\fR]... [\\fICOMMAND\\fR [\\fIARGUMENT\\fR]...]",
        ".SH DESCRIPTION",
    ]
    lines += [
        "Runs one command, or several that a semicolon separates in one argument; without any it is a shell with history",
        "and completion. Options of a command stand anywhere behind its name, as \\fB\\-\\-name value\\fR or",
        "\\fB\\-\\-name=value\\fR; required values and most others may be given by their place alone.",
        "The exit code is 0 where the last command succeeded, else 1.",
        ".SH OPTIONS",
        *_listed(options),
        ".SH COMMANDS",
    ]
    for group, commands in all_commands().items():
        lines += [f'.SH "{GROUPS[group].upper()}"']
        for command in commands:
            lines += _command(command)
    lines += [
        ".SH ENVIRONMENT",
        *_listed(
            [
                ("VIRSH_DEFAULT_CONNECT_URI, LIBVIRT_DEFAULT_URI", "where to connect without -c"),
                ("VIRSH_DEBUG, VIRSH_LOG_FILE", "as -d and -l"),
                ("VISUAL, EDITOR", "the editor of the commands that edit"),
                ("VIRSH_HISTSIZE", "lines of history, 500 where it is not set"),
            ]
        ),
        *_see("virt-install.1", "guest.1", "guesthoused.8"),
    ]
    return "\n".join(lines) + "\n"


def _rows_page(name: str, what: str, synopsis: str, about: list[str], rows: Iterable[Option], see: list[str]) -> str:
    """The page of a program whose options are rows."""
    lines = [
        *_head(name, 1, what),
        ".SH SYNOPSIS",
        f"\\fB{_text(name)}\\fR {_text(synopsis)}",
        ".SH DESCRIPTION",
        *about,
    ]
    group = ""
    for option in rows:
        if not option.help:
            continue
        if option.group != group:
            group = option.group
            lines.append(f'.SH "{group.upper()}"')
        value = {FLAG: "", MAYBE: f" [{option.name.upper()}]"}.get(option.kind, f" {option.name.upper()}")
        names = [f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names]
        lines += _listed([(f"{', '.join(names)}{value}", option.help)])
    return "\n".join([*lines, *_see(*see)]) + "\n"


def virt_install() -> str:
    about = [
        "Defines a guest as the options say, starts its installation and opens its console. Many options take",
        "sub\\-options, separated by commas: \\fB\\-\\-disk size=20,bus=virtio\\fR; \\fB\\-\\-disk=?\\fR lists those of one.",
    ]
    return _rows_page(
        "virt-install",
        "make a virtual machine and install an operating system in it",
        "--name NAME --memory MIB STORAGE INSTALL [OPTION]...",
        about,
        OPTIONS,
        ["virsh.1", "virt-clone.1", "virt-xml.1", "guest.1", "guesthoused.8"],
    )


def virt_clone() -> str:
    about = [
        "Makes a guest after another that does not run: with a name, a UUID, MAC addresses, disks and firmware variables",
        "of its own. What is inside the disks stays as it is. Where it fails or is interrupted, nothing of the clone stays.",
    ]
    synopsis = "--original GUEST [--name NAME] --auto-clone|--file PATH... [OPTION]..."
    what = "make a virtual machine after another"
    return _rows_page("virt-clone", what, synopsis, about, CLONE_ROWS, ["virsh.1", "virt-install.1", "virt-xml.1"])


def virt_xml() -> str:
    about = [
        "Changes the document of a guest, or of one that comes from standard input, in the words of virt\\-install's",
        "options: what \\fB\\-\\-edit\\fR does not name stays as it is. An empty value takes back what was said; the word",
        "\\fBclearxml=yes\\fR empties a part first. \\fB\\-\\-disk=?\\fR lists the sub\\-options of an option.",
    ]
    synopsis = "[GUEST] --edit [SELECTED]|--add-device|--remove-device|--build-xml OPTION [OPTION]..."
    what = "change a virtual machine's document by options"
    return _rows_page("virt-xml", what, synopsis, about, XML_ROWS, ["virsh.1", "virt-install.1", "virt-clone.1"])


def _usage_page(name: str, what: str, synopsis: str, about: list[str], usage: str) -> str:
    """The page of a program whose usage says all."""
    options = re.findall(r"^ +(-\S.*?)  +(\S.*)$|^ +(-s, \S+) (\S.*)$", usage, re.M)
    rows = [(one or three, two or four) for one, two, three, four in options]
    lines = [
        *_head(name, 1, what),
        ".SH SYNOPSIS",
        f"\\fB{_text(name)}\\fR {_text(synopsis)}",
        ".SH DESCRIPTION",
        *about,
    ]
    return "\n".join([*lines, ".SH OPTIONS", *_listed(rows), *_see("virsh.1", "guest.1", "guesthoused.8")]) + "\n"


def host_validate() -> str:
    about = [
        "Looks at what QEMU's guests need, a line a check: PASS, WARN or FAIL with what is to be done. The exit code is 1",
        "where a check fails, else 0. \\fBguest doctor\\fR tells more.",
    ]
    what = "look whether guests can run on this host"
    return _usage_page("virt-host-validate", what, "[OPTION]... [qemu]", about, virt_host_validate._USAGE)


def xml_validate() -> str:
    about = [
        "Validates a document with libvirt's schemas where they are installed, else by reading it as guesthoused does. The",
        "exit code is 0 for a valid one, 3 for one that is not or is of no known kind, 2 without the file, 4 without the",
        "schema, 1 for what is no XML and for a wrong command line.",
    ]
    what = "look whether a document is one of libvirt's"
    return _usage_page("virt-xml-validate", what, "XML-FILE [SCHEMA-NAME]", about, virt_xml_validate._USAGE)


def qemu_run() -> str:
    about = [
        "Starts a daemon for one guest alone, runs the guest that the document describes, and ends when it ends. SIGINT and",
        "SIGTERM end the guest at once. The exit code is 0 then, and 1 where something fails.",
    ]
    what = "run one guest from its document"
    return _usage_page("virt-qemu-run", what, "[OPTION]... GUEST-XML-FILE", about, virt_qemu_run._USAGE)


def _argparse(parser: argparse.ArgumentParser, section: int, what: str, see: list[str]) -> str:
    lines = _head(parser.prog, section, what)
    lines += [".SH SYNOPSIS", _usage(parser)]
    lines += [".SH DESCRIPTION", _text(parser.description or what), *_actions(parser, ".SH OPTIONS")]
    for words, each in _below(parser):
        lines += [f'.SH "{" ".join(words).upper()}"', _usage(each), ".PP", _text(each.description or "")]
        lines += _actions(each, ".PP")
        if each.epilog:
            lines += [".PP", _text(each.epilog)]
    return "\n".join([*(line for line in lines if line), *_see(*see)]) + "\n"


def _usage(parser: argparse.ArgumentParser) -> str:
    return _text(" ".join(parser.format_usage().removeprefix("usage: ").split()))


def _actions(parser: argparse.ArgumentParser, head: str) -> list[str]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        term = f"{', '.join(action.option_strings)}{value}" if action.option_strings else value.strip()
        rows.append((term, (action.help or "").replace("%%", "%")))
    return [head, *_listed(rows)] if rows else []


def _below(parser: argparse.ArgumentParser, *above: str) -> list[tuple[list[str], argparse.ArgumentParser]]:
    """The commands of ``parser`` that take options of their own, and theirs."""
    found: list[tuple[list[str], argparse.ArgumentParser]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                below = _below(each, *above, name)
                found += below or [([*above, name], each)]
    return found


def guest() -> str:
    return _argparse(guest_parser(), 1, "look after this host and its guests", ["virsh.1", "guesthoused.8"])


def guesthoused() -> str:
    return _argparse(daemon_parser(), 8, "the daemon that runs guests", ["virsh.1", "virt-install.1", "guest.1"])


#: path below share/man -> what makes the page
PAGES = {
    "man1/virsh.1": virsh,
    "man1/virt-install.1": virt_install,
    "man1/virt-clone.1": virt_clone,
    "man1/virt-xml.1": virt_xml,
    "man1/virt-host-validate.1": host_validate,
    "man1/virt-xml-validate.1": xml_validate,
    "man1/virt-qemu-run.1": qemu_run,
    "man1/guest.1": guest,
    "man8/guesthoused.8": guesthoused,
}
