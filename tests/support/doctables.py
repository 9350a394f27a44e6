"""Writes the parts of the documentation that follow from the code, between their marks, and the manual pages.

    python tests/support/doctables.py

Run it after a change of the import table, virsh's commands, virt-install's options or the handlers of procedures;
tests/structure/test_docs.py says when.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

from guesthouse.cli.virsh.index import GROUPS, all_commands
from guesthouse.cli.virt_install.options import OPTIONS
from guesthouse.wire.procedures import PROCEDURES

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from support.manuals import PAGES

ROOT = Path(__file__).parents[2]
MAN = ROOT / "share/man"

# procedures without a handler by what they are for; the first that fits counts
_THEMES = (
    ("migration", r"domain_migrate"),
    ("snapshots", r"domain_(snapshot|revert)"),
    ("checkpoints, backups", r"domain_(checkpoint|list_all_checkpoints|backup)"),
    ("saving a guest's state, core dumps", r"domain_(save|restore|managed_save|core_dump)"),
    ("adding and removing devices", r"domain_(attach|detach|update)_device"),
    ("block jobs, block and interface figures and limits", r"domain_(get_|set_)?(block|interface)"),
    (
        "guest agent, and what it knows",
        r"domain_(fs|get_fsinfo|get_time|set_time|get_hostname|get_guest|set_guest|agent|authorized|set_user|pm_)",
    ),
    ("processors, memory, tuning", r"domain_.*(vcpu|memory|sched|pin|numa|iothread|blkio|perf|cpu_stats)"),
    ("other calls of domains", r"domain_"),
    ("node devices", r"node_device|node_num_of_devices|node_list_devices|connect_list_all_node_devices"),
    ("host interfaces", r"interface|connect_(num_of|list|list_all|num_of_defined|list_defined)_interfaces"),
    ("secrets", r"secret|connect_(num_of|list|list_all)_secrets"),
    ("network filters", r"nwfilter|connect_(num_of|list|list_all)_nwfilter"),
    ("updating networks, network ports", r"network_"),
    ("QEMU's own: monitor and agent commands", r"qemu_"),
    ("SASL", r"auth_"),
    ("other calls of the host", r""),
)


def imports() -> str:
    """Who may import whom, from the test that enforces it."""
    tree = ast.parse((ROOT / "tests/structure/test_imports.py").read_text())
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    code = compile(ast.Expression(values["MAY"]), "MAY", "eval")
    may: dict[str, set[str]] = eval(code, {"BASE": ast.literal_eval(values["BASE"])})
    rows = ["| package | may import |", "|---|---|"]
    for package, others in may.items():
        names = sorted(others - {"__init__"}, key=list(may).index)
        rows.append(f"| `{package}` | {', '.join(names) or 'nothing'} |")
    return "\n".join(rows)


def virsh() -> str:
    """virsh's commands by group."""
    rows = ["| group | commands |", "|---|---|"]
    for group, commands in all_commands().items():
        rows.append(f"| {GROUPS[group]} | {' '.join(f'`{each.name}`' for each in commands)} |")
    return "\n".join(rows)


def virt_install() -> str:
    """virt-install's options by group."""
    groups: dict[str, list[str]] = {}
    for option in OPTIONS:
        if option.help:
            names = [f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names]
            groups.setdefault(option.group, []).append(f"| `{', '.join(names)}` | {option.help} |")
    parts = []
    for group, rows in groups.items():
        parts.append("\n".join([f"| {group} | |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def procedures() -> str:
    """How many procedures are served, and what the others are for."""
    calls = [row for row in PROCEDURES if row.access != "event"]
    without = [row.name for row in calls if not row.handler]
    counts = dict.fromkeys((title for title, _ in _THEMES), 0)
    for name in without:
        counts[next(title for title, pattern in _THEMES if re.match(pattern, name))] += 1
    rows = [
        f"Of the {len(calls)} calls of the remote, qemu and admin programs {len(calls) - len(without)} have a handler,"
        f" {len(without)} have none:",
        "",
        "| what for | calls |",
        "|---|---|",
        *(f"| {title} | {count} |" for title, count in counts.items() if count),
    ]
    return "\n".join(rows)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "imports": ("docs/architecture.md", imports),
    "virsh": ("docs/virsh.md", virsh),
    "virt-install": ("docs/virt-install.md", virt_install),
    "procedures": ("docs/compatibility.md", procedures),
}


def filled(name: str) -> str:
    """The page of the table ``name`` with the table as it must be."""
    file, make = TABLES[name]
    text = (ROOT / file).read_text()
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    assert found and closed, f"{file} has no marks '{start}' and '{end}'"
    return f"{before}{start}\n{make()}\n{end}{after}"


if __name__ == "__main__":
    for path, write in PAGES.items():
        (MAN / path).write_text(write())
    for each, (page, _) in TABLES.items():
        (ROOT / page).write_text(filled(each))
