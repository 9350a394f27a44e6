"""The program: options, a plan, and then the plan shown or carried out."""

from __future__ import annotations

import os
import sys

from guesthouse.cli.virt_install.frame import program
from guesthouse.cli.virt_install.options import FLAG, OPTIONS, Options, UsageError, parse
from guesthouse.cli.virt_install.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.cli.virt_install.guest import Plan
    from guesthouse.provision.host import Host
    from guesthouse.provision.storage import Planner


def main(argv: list[str] | None = None) -> int:
    """Run virt-install with ``argv`` (default: the arguments of this process); returns its exit code."""
    args = sys.argv[1:] if argv is None else argv
    # its users know --debug for what it tells of the work, and the daemon's errors as one line
    return program(lambda: parse(args), _is_quiet, _run, "Installation aborted at user request", traced=(OSError,))


def _is_quiet(options: Options) -> bool:
    return any(name in options for name in ("quiet", "print-xml", "print-step", "test-media-detection"))


def _run(options: Options, report: Report) -> int:
    if "help" in options or "version" in options:
        from guesthouse.cli.virt_install import help as help_text

        print(help_text.version() if "version" in options else help_text.usage())
        return 0
    if _listed(options):
        return 0
    from guesthouse import client
    from guesthouse.client.uri import default_uri
    from guesthouse.provision.host import Host
    from guesthouse.provision.storage import Planner

    if (place := options.last("test-media-detection")) is not None:
        from guesthouse.provision import media

        found = media.identify(place)
        print(found.name if found is not None else None)
        return 0
    from guesthouse.cli.virt_install.guest import read

    plan = read(options, report)
    uri = options.last("connect") or default_uri()
    with client.connect(uri) as conn:
        host = Host(conn, conn.get_uri())
        shown = "print-xml" in options
        planner = Planner(host, dry=shown or "dry-run" in options)
        try:
            _built(options, host, report, plan, planner)
            if shown or "dry-run" in options:
                return _show(options, report, plan, shown)
            from guesthouse.cli.virt_install import run

            return run.install(options, host, report, plan, planner)
        finally:
            for path in plan.temporary:
                try:
                    os.unlink(path)  # noqa: PTH108
                except OSError:
                    pass


def _built(options: Options, host: Host, report: Report, plan: Plan, planner: Planner) -> None:
    from guesthouse.cli.virt_install.guest import build
    from guesthouse.provision.host import NotOffered

    try:
        build(options, host, report, plan, planner)
    except NotOffered as error:
        if options.last("virt-type") != "kvm" or "domain type kvm" not in error.message:
            raise
        raise UsageError(
            f"{error.message}: {_why_no_kvm(host)}",
            "Guests run without KVM, slower, with --virt-type qemu.",
        ) from None


def _why_no_kvm(host: Host) -> str:
    """Why this host has no KVM guests, as far as one can tell from here."""
    if host.is_remote:
        return "the daemon offers no KVM guests"
    from guesthouse.host import kvm

    answer = kvm.usable()
    return "the daemon offers no KVM guests, though KVM works here" if answer.usable else answer.reason


def _show(options: Options, report: Report, plan: Plan, shown: bool) -> int:
    from guesthouse.cli.virt_install.guest import documents

    first, final = documents(options, plan)
    if not shown:
        report.say("Dry run completed successfully")
        return 0
    step = options.last("print-xml") or "all"
    if step not in ("1", "2", "all"):
        raise UsageError(f"Unknown XML step request '{step}', must be 1, 2, or all")
    if step == "2" and first is None:
        raise UsageError("Requested installation does not have XML step 2")
    for number, document in (("1", first), ("2", final)):
        if document is not None and (step in (number, "all") or first is None):
            print(document.to_xml(secrets=True), end="")
    return 0


def _listed(options: Options) -> bool:
    """Answer ``--disk ?`` and ``--osinfo list``; whether there was something to answer."""
    for option in OPTIONS:
        asked = [value for value in options.all(option.name) if value in ("?", "help")]
        if option.kind == FLAG or (not option.family and option.name != "location") or not asked:
            continue
        from guesthouse.cli.virt_install.families import FAMILIES
        from guesthouse.cli.virt_install.suboptions import listing

        family = FAMILIES.get(option.name)
        if family is not None:
            print(listing(option.name, family.keys()))
            return True
    if options.last("osinfo") == "list":
        from guesthouse.provision import osinfo

        print("\n".join(osinfo.listing()))
        return True
    return False
