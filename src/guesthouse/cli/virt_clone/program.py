"""The program: a plan of the clone, and then the plan shown or carried out."""

from __future__ import annotations

import os
import sys
import time

from guesthouse.cli.virt_clone.options import ROWS, usage
from guesthouse.cli.virt_install.frame import program
from guesthouse.cli.virt_install.options import Options, UsageError, parse
from guesthouse.cli.virt_install.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.provision.clone import Part, Plan
    from guesthouse.provision.host import Host

_CHECKS = ("path_in_use", "disk_size", "mac_in_use", "path_exists", "all")
_REFRESH_S = 0.2


def main(argv: list[str] | None = None) -> int:
    """Run virt-clone with ``argv`` (default: the arguments of this process); returns its exit code."""
    args = sys.argv[1:] if argv is None else argv
    aborted = "Cloning aborted at user request; what was made of the clone is gone again"
    return program(lambda: parse(args, ROWS), _is_quiet, _run, aborted)


def _is_quiet(options: Options) -> bool:
    return "quiet" in options or "print-xml" in options


def _run(options: Options, report: Report) -> int:
    if "help" in options or "version" in options:
        from guesthouse.cli.virt_install.help import version

        print(version() if "version" in options else usage())
        return 0
    checks = _checks(options)
    if "file" not in options and "auto-clone" not in options:
        raise UsageError("Either --auto-clone or --file is required, use '--auto-clone or --file' and try again.")
    if "original" not in options and "original-xml" not in options:
        raise UsageError("An original machine name is required, use '--original src_name' and try again.")
    if "name" not in options and "auto-clone" not in options:
        raise UsageError("A name is required for the new virtual machine, use '--name NEW_VM_NAME' to specify one.")
    from guesthouse import client
    from guesthouse.client.uri import default_uri
    from guesthouse.provision import clone
    from guesthouse.provision.host import Host

    with client.connect(options.last("connect") or default_uri()) as conn:
        host = Host(conn, conn.get_uri())
        if (path := options.last("original-xml")) is not None:
            with open(path) as file:
                document = file.read()
        else:
            document = clone.original(conn, options.last("original") or "")
        plan = clone.plan(host, document)
        _fill(options, host, plan, checks)
        for note in plan.notes:
            report.warn(note)
        if "print-xml" in options:
            print(plan.guest.to_xml(secrets=True), end="")
            return 0
        _carry_out(host, report, plan)
    report.say(f"\nClone '{plan.guest.name}' created successfully.")
    return 0


def _checks(options: Options) -> dict[str, bool]:
    from guesthouse.cli.virt_install.suboptions import switch

    found: dict[str, bool] = {}
    for text in options.all("check"):
        for item in text.split(","):
            key, _, value = item.partition("=")
            if key not in _CHECKS:
                raise UsageError(f"Unknown --check options: ['{key}']", f"There are {', '.join(_CHECKS)}.")
            found[key] = switch("check", key, value or None)
    if "force" in options:
        found.setdefault("all", False)
    return found


def _refuse(checks: dict[str, bool], name: str, message: str) -> None:
    """Raises UsageError, unless the check ``name`` is off."""
    if checks.get(name, checks.get("all", True)):
        raise UsageError(message, f"(Use --check {name}=off or --check all=off to override)")


def _fill(options: Options, host: Host, plan: Plan, checks: dict[str, bool]) -> None:
    """What the options say of the plan. Raises UsageError and CloneError; nothing is made."""
    from guesthouse.errors import NoDomain
    from guesthouse.provision import clone, network
    from guesthouse.units import parse_mac, parse_uuid

    plan.sparse, plan.reflink = "nonsparse" not in options, "reflink" in options
    guest = plan.guest
    if (uuid := options.last("uuid")) is not None:
        guest.uuid = parse_uuid(uuid)
    guest.name = options.last("name") or guest.name
    try:
        there = host.conn.lookup_by_name(guest.name or "")
    except NoDomain:
        pass
    else:
        if "replace" not in options:
            raise UsageError(f"Invalid name for new guest: Guest name '{guest.name}' is already in use.")
        if there.name == plan.original.name:
            raise UsageError("A guest cannot be replaced by its own clone.")
        plan.replaces = there
    macs = options.all("mac")
    if macs and macs[0] != "RANDOM":
        taken = network.macs(host)
        for text, nic in zip(macs, guest.dev.interfaces, strict=False):
            mac = parse_mac(text)
            if mac in taken:
                message = f"The MAC address '{mac}' is in use by another virtual machine."
                _refuse(checks, "mac_in_use", message)
            if nic.mac is not None:
                nic.mac.address = mac
    for part in plan.parts:
        if part.disk.dev in options.all("force-copy"):
            part.action = clone.COPY
        if part.disk.dev in options.all("skip-copy"):
            part.action = clone.SHARE
        if "preserve-data" in options and part.action == clone.COPY:
            part.action = clone.PRESERVE
    clone.place(plan, host, options.all("file"), dry="print-xml" in options)
    clone.place_nvram(plan, host, options.last("nvram"), "preserve-data" in options)
    _check_parts(host, plan, checks)


def _check_parts(host: Host, plan: Plan, checks: dict[str, bool]) -> None:
    from guesthouse.provision.clone import COPY, SHARE
    from guesthouse.provision.storage import Planner

    planner = Planner(host, dry=True)
    room: dict[str, int] = {}
    for part in plan.parts:
        if part.action == SHARE or part.new_path is None:
            continue
        if part.action == COPY and not host.is_remote and os.path.exists(part.new_path):  # noqa: PTH110
            _refuse(checks, "path_exists", f"This will overwrite the existing path '{part.new_path}'")
        users = [name for name in planner.users(part.new_path) if plan.replaces is None or name != plan.replaces.name]
        if users:
            _refuse(checks, "path_in_use", f"Disk {part.new_path} is already in use by other guests {users}.")
        if part.action == COPY and part.volume is not None and part.pool is not None and part.pool.handle is not None:
            # a sparse copy is as large as what the original has in it; a shared one takes nothing
            info = part.volume.get_info()
            wanted = 0 if plan.reflink else int(info.allocation if plan.sparse else info.capacity)
            room[part.pool.name] = room.get(part.pool.name, 0) + wanted
            handle = part.pool.handle
            free = handle.get_info().available if handle.is_active() else None
            if free is not None and room[part.pool.name] > free:
                message = (
                    f"There is not enough free space to create the disk. {room[part.pool.name] // 2**20} M requested >"
                    f" {free // 2**20} M available"
                )
                _refuse(checks, "disk_size", message)


def _carry_out(host: Host, report: Report, plan: Plan) -> None:
    from guesthouse.cli.virt_install.interrupts import Gate
    from guesthouse.provision import clone
    from guesthouse.units import pretty_size

    shown = time.monotonic()
    on_terminal = not report.quiet and sys.stdout.isatty()
    current = ""

    def begin(part: Part) -> None:
        nonlocal current
        current = f"Allocating '{part.name}'"
        report.begin(current)

    def moved(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if on_terminal and total and now - shown > _REFRESH_S:
            shown = now
            print(f"\r{current:<50.50} | {done * 100 // total:>3} %", end="", flush=True)

    def end(part: Part, size: int) -> None:
        value, unit = pretty_size(size)
        report.end(f"{value:.3g} {unit}")

    with Gate() as gate:
        clone.carry_out(plan, host, begin, moved, end, gate.check)
