"""The help text, from the rows of the options."""

from __future__ import annotations

from collections.abc import Sequence

from guesthouse.cli.virt_install.options import FLAG, MAYBE, OPTIONS, Option

_WIDTH = 30


def version() -> str:
    from guesthouse import __version__

    return __version__


def usage() -> str:
    """What ``--help`` prints."""
    lines = [
        "usage: virt-install --name NAME --memory MB STORAGE INSTALL [options]",
        "",
        "Make a virtual machine, and install an operating system in it.",
    ]
    lines += listed(OPTIONS)
    lines += [
        "",
        "All sub-options of an option are listed by '?': virt-install --disk=?",
        "",
        "For example, Debian from its CD:",
        "  virt-install --name demo --memory 2048 --disk size=20 --cdrom debian.iso --osinfo debian12",
    ]
    return "\n".join(lines)


def listed(rows: Sequence[Option]) -> list[str]:
    """What ``rows`` say of themselves, by their groups."""
    lines: list[str] = []
    group = ""
    for option in rows:
        if not option.help:
            continue
        if option.group != group:
            group = option.group
            lines += ["", f"{group}:"]
        value = {FLAG: "", MAYBE: f" [{option.name.upper()}]"}.get(option.kind, f" {option.name.upper()}")
        short = [f"-{name}" for name in option.names if len(name) == 1]
        long = [f"--{name}" for name in option.names if len(name) > 1]
        head = f"  {', '.join(short + long)}{value}"
        lines.append(
            f"{head:<{_WIDTH}} {option.help}" if len(head) < _WIDTH else f"{head}\n{'':<{_WIDTH}} {option.help}"
        )
    return lines
