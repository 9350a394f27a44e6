"""guest host bridge: a network card of this host becomes a port of a bridge, and the host stays reachable."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from typing import Any

from guesthouse.cli.guest.tables import table
from guesthouse.errors import GuesthouseError, OperationFailed
from guesthouse.network.hostbridge import change, kernel, plan, systems
from guesthouse.network.hostbridge.plan import Plan

_WITHIN_S = 60


def declare(parser: argparse.ArgumentParser) -> None:
    """The commands below "guest host bridge"."""
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    create = commands.add_parser(
        "create",
        help="make a bridge of a network card; addresses and routes move to it",
        description="Make a bridge, make a network card its port, and move the card's addresses and routes to it. All is"
        " taken back by itself when the gateway does not answer any more, or when nobody confirms in time.",
    )
    create.add_argument("name", metavar="BRIDGE", help="its name, such as br0")
    create.add_argument("--port", required=True, metavar="DEVICE", help="the network card, such as eth0")
    how = create.add_mutually_exclusive_group()
    how.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="IP/PREFIX",
        help="its address instead of the card's; repeatable",
    )
    how.add_argument("--dhcp", action="store_true", help="ask for its address by DHCP from the next boot on")
    create.add_argument(
        "--gateway", action="append", default=[], metavar="IP", help="the default route, with --address"
    )
    create.add_argument("--dns", action="append", default=[], metavar="IP", help="name servers, with --address")
    create.add_argument("--stp", action="store_true", help="speak the spanning tree protocol (30 s until it forwards)")
    create.add_argument("--temporary", action="store_true", help="write no files: it lasts until the next boot")
    _changing(create)
    delete = commands.add_parser("delete", help="take such a bridge away; addresses and routes move back to the card")
    delete.add_argument("name", metavar="BRIDGE")
    delete.add_argument("--force", action="store_true", help="although guests are plugged into it")
    _changing(delete)
    for name, text in (
        ("confirm", "keep the change that is being tried"),
        ("rollback", "take back the change that is being tried"),
        ("forget", "drop the record of a bridge, and change nothing else"),
    ):
        commands.add_parser(name, help=text).add_argument("name", metavar="BRIDGE")
    listing = commands.add_parser("list", help="bridges of this host, with their ports and addresses")
    listing.add_argument("--json", action="store_true", help="as one JSON document")


def _changing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument("--yes", action="store_true", help="keep it as soon as the gateway answers, without asking")
    parser.add_argument(
        "--within", type=float, default=_WITHIN_S, metavar="SECONDS", help="how long to wait for the confirmation (60)"
    )


def run(options: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code. Raises GuesthouseError where it cannot be done."""
    if options.action == "list" and os.geteuid():
        return _list(as_json=options.json)
    for line in change.settle():
        print(line)
    if options.action == "list":
        return _list(as_json=options.json)
    if options.action == "confirm":
        change.confirm(options.name)
        print(f"{options.name} is kept")
        return 0
    if options.action == "rollback":
        change.roll_back(options.name)
        print(f"The change of {options.name} is taken back")
        return 0
    if options.action == "forget":
        change.forget(options.name)
        print(f"{options.name} is not looked after any more")
        return 0
    if options.action == "create":
        if (options.gateway or options.dns) and not options.address:
            raise OperationFailed("--gateway and --dns go with --address")
        own = bool(options.address or options.dhcp)
        texts = (tuple(options.address), tuple(options.gateway), tuple(options.dns))
        wish = systems.Wish(not own, options.dhcp, *texts)
        todo = plan.creation(options.name, options.port, wish, stp=options.stp, lasting=not options.temporary)
    else:
        made = change.find(options.name)
        if made is None or made.phase != change.KEPT:
            raise OperationFailed(f"no bridge {options.name} was made by 'guest host bridge create' (see 'list')")
        todo = plan.removal(made.plan, force=options.force)
    return _show(todo) if options.dry_run else _change(todo, options.within, sure=options.yes)


def _show(todo: Plan) -> int:
    if todo.kind == "create":
        print(f"# configured by: {todo.system or 'nothing (until the next boot)'}")
    for step in todo.steps():
        print(step)
    for note in todo.notes:
        print(f"note: {note}")
    lines = "".join(todo.diff())
    if lines:
        print(f"\n{lines}", end="")
    return 0


def _change(todo: Plan, within: float, *, sure: bool) -> int:
    name = todo.bridge
    print(f"Changing {name} under a guardian; if the way out does not work, all is taken back by itself.", flush=True)
    _, reader = change.start(todo, within=within, sure=sure)
    last = ""
    with os.fdopen(reader) as words:
        for line in words:
            last = line.strip()
            if last == "waiting":
                if not sure:
                    _ask(name, within, words.fileno())
            elif last == "kept" or last.startswith("failed: "):
                break
            else:
                print(last, flush=True)
    if last == "kept":
        done = "is there" if todo.kind == "create" else "is gone"
        print(f"{name} {done}" + (f"; {todo.system} knows" if todo.system else ", until the next boot"))
        for note in todo.notes:
            print(note)
        if todo.kind == "create":
            print(f"Guests use it with: virt-install ... --network bridge={name}")
        return 0
    raise OperationFailed(
        last.removeprefix("failed: ") or "the guardian ended without a word; see guest host bridge list"
    )


def _ask(name: str, within: float, guardian: int) -> None:
    """Ask for the confirmation; returns when there is an answer, or the guardian has something to say."""
    if not sys.stdin.isatty():
        print(f"Within {within:.0f} s: guest host bridge confirm {name} (or rollback)", flush=True)
        return
    print(f"Keep it? 'yes' within {within:.0f} s, anything else takes it back: ", end="", flush=True)
    ready, _, _ = select.select([sys.stdin, guardian], [], [])
    if sys.stdin not in ready:
        print()
        return
    try:
        (change.confirm if sys.stdin.readline().strip().lower() in ("y", "yes") else change.roll_back)(name)
    except GuesthouseError as error:  # it was too late
        print(error)


def _list(*, as_json: bool) -> int:
    links = kernel.links()
    try:
        known = {record.plan.bridge: record for record in change.records()}
    except PermissionError:
        known = {}
    found: list[dict[str, Any]] = []
    for link in links:
        if link.kind != "bridge":
            continue
        record = known.get(link.name)
        state = "no" if record is None else "kept" if record.phase == change.KEPT else "waits for 'confirm'"
        ports = [other.name for other in links if other.master == link.index]
        found.append({"name": link.name, "ports": ports, "addresses": kernel.belongings(link).texts(), "made": state})
    if as_json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [("Bridge", "Ports", "Addresses", "Made here")]
    for row in found:
        rows.append((row["name"], ", ".join(row["ports"]) or "-", ", ".join(row["addresses"]) or "-", row["made"]))
    table(rows)
    return 0
