"""guest compose: several guests and networks from one declarative file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from guesthouse import client
from guesthouse.cli.guest import tables
from guesthouse.cli.guest.run import STATES, find_image
from guesthouse.cli.virt_install.interrupts import Gate
from guesthouse.client import Connect
from guesthouse.client.uri import default_uri
from guesthouse.errors import InvalidArg
from guesthouse.provision import quick
from guesthouse.provision.compose import planning, presence, reading
from guesthouse.provision.compose.carrying import carry_out, images
from guesthouse.provision.compose.definition import Project, port_text
from guesthouse.provision.compose.document import ComposeError
from guesthouse.provision.compose.planning import Plan

_PATIENCE_S = 30.0


def declare(parser: argparse.ArgumentParser) -> None:
    """The commands below "guest compose"."""
    parser.description = (
        "Make, change and remove the guests, networks and volumes of a file, after showing what is done."
    )
    _place(parser, None)
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    up = commands.add_parser("up", help="have what the file says: make, change, start, remove")
    plan = commands.add_parser("plan", help="show what 'up' would do")
    down = commands.add_parser("down", help="remove what the project has made; disks are kept")
    listing = commands.add_parser("ps", aliases=["ls"], help="the guests of the project, with their addresses")
    config = commands.add_parser("config", help="check the file, and show it with all its defaults")
    for each in (up, plan):
        each.add_argument("guests", nargs="*", metavar="GUEST", help="only these, and those that they depend on")
        each.add_argument("--recreate", action="store_true", help="make guests anew whose image or first boot differs")
        each.add_argument("--restart", action="store_true", help="restart guests that wait for it with a change")
    down.add_argument("--volumes", "-v", action="store_true", help="remove the guests' disks and the volumes, too")
    for each in (up, down):
        each.add_argument("-y", "--yes", action="store_true", help="do it without asking")
        each.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
        each.add_argument(
            "-t", "--timeout", type=float, default=_PATIENCE_S, metavar="S", help="seconds for guests to shut down (30)"
        )
    for each in (listing, config):
        each.add_argument("--json", action="store_true", help="as one JSON document")
    config.add_argument("-q", "--quiet", action="store_true", help="check alone")
    for each in (up, plan, down, listing, config):
        _place(each, argparse.SUPPRESS)


def _place(parser: argparse.ArgumentParser, default: str | None) -> None:
    """What stands before and behind the command alike."""
    parser.add_argument("-f", "--file", default=default, metavar="FILE", help="the file (guests.yaml here)")
    parser.add_argument(
        "-p", "--project-name", default=default, metavar="NAME", help="the project (default: the file's, or its folder)"
    )
    parser.add_argument("-c", "--connect", default=default, metavar="URI", help="the daemon (default: as virsh)")


def run(options: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    project = _project(options)
    if options.action == "config":
        return _config(project, options)
    with client.connect(options.connect or default_uri()) as conn:
        if options.action in ("ps", "ls"):
            return _ps(conn, project, as_json=options.json)
        there = presence.look(conn, project)
        if options.action == "down":
            plan = planning.down(project, there, volumes=options.volumes)
        else:
            only, recreate = options.guests, options.recreate
            plan = planning.up(project, there, only=only, recreate=recreate, restart=options.restart)
        return _carry_out(conn, plan, options)


def _project(options: argparse.Namespace) -> Project:
    name = reading.project_name(options.project_name) if options.project_name else None
    path = Path(options.file) if options.file else next((p for p in map(Path, reading.FILES) if p.is_file()), None)
    if path is None:
        if name is not None and options.action in ("down", "ps", "ls"):
            return Project(name, "")
        raise InvalidArg(f"there is no file {' or '.join(reading.FILES)} in this folder (-f FILE names another)")
    project = reading.read(path, _variables(path), name)
    project.file = str(path.absolute())
    return project


def _variables(path: Path) -> dict[str, str]:
    """The environment, and what it lacks from the file .env beside ``path``."""
    found: dict[str, str] = {}
    try:
        lines = (path.absolute().parent / ".env").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else value
    return found | dict(os.environ)


def _config(project: Project, options: argparse.Namespace) -> int:
    if options.quiet:
        return 0
    document = project.document()
    if options.json:
        print(json.dumps(document, indent=2))
        return 0
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.dump(document, sys.stdout)
    return 0


# -- up and down


def _carry_out(conn: Connect, plan: Plan, options: argparse.Namespace) -> int:
    name = plan.project.name
    for note in plan.notes:
        print(f"note: {note}")
    if not plan.steps:
        print(
            f"project {name}: nothing to do"
            + ("" if plan.project.guests or plan.there.guests else ", and nothing there")
        )
        return 0
    print(f"project {name}: {plan.summary()}")
    for step in plan.steps:
        print(f"  {step}")
    sys.stdout.flush()
    if options.action == "plan" or options.dry_run:
        return 0
    if not options.yes:
        _ask()

    def image(name: str, arch: str | None) -> Any:
        return find_image(conn, name, arch or platform.machine())

    def report(text: str) -> None:
        print(text, flush=True)

    try:
        found = images(plan, image)
        with Gate() as gate:
            carry_out(conn, plan, found, report, options.timeout, gate.check)
    except KeyboardInterrupt:
        print(f"interrupted; guest compose {options.action} goes on from here", file=sys.stderr)
        raise
    return 0


def _ask() -> None:
    """Raises ComposeError where nobody says yes."""
    if not sys.stdin.isatty():
        raise ComposeError("nothing was done: --yes does it without asking, and nobody can be asked here")
    if input("Do it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ComposeError("nothing was done")


# -- ps


def _ps(conn: Connect, project: Project, *, as_json: bool) -> int:
    found = {}
    for guest in conn.list_all_domains():
        labels = quick.labels(guest)
        if labels.get("project") == project.name:
            found[guest.name] = (guest, labels)
    wished = {guest.name: guest for guest in project.guests.values()}
    rows: list[dict[str, Any]] = []
    for name in [*wished, *sorted(set(found) - set(wished))]:
        wish = wished.get(name)
        row: dict[str, Any] = {
            "name": name,
            "guest": wish.key if wish else "",
            "state": "not made",
            "image": "",
            "addresses": [],
        }
        row["publish"] = [port_text(each) for each in wish.publish] if wish else []
        if name in found:
            guest, labels = found[name]
            row |= {"guest": labels.get("guest", ""), "image": labels.get("image", "")}
            row["state"] = STATES.get(guest.get_state()[0], "?")
            row["addresses"] = quick.addresses(guest) if guest.is_active() else []
        elif wish is not None:
            row["image"] = wish.image
        rows.append(row | {"in_file": wish is not None})
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print(f"project {project.name} has no guests")
        return 0
    table: list[tuple[str, ...]] = [("Name", "State", "Image", "Address", "Ports")]
    for row in rows:
        state = row["state"] + ("" if row["in_file"] or not project.file else " (not in the file)")
        texts = (row["name"], state, row["image"] or "-", ", ".join(row["addresses"]) or "-")
        table.append((*texts, ", ".join(row["publish"]) or "-"))
    tables.table(table)
    return 0
