"""Carrying a plan out: storage, the first boot, a console, and waiting for the installer to end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from guesthouse.cli.virt_install import first_boot
from guesthouse.cli.virt_install.guest import Plan, documents
from guesthouse.cli.virt_install.interrupts import Gate
from guesthouse.cli.virt_install.options import Options, UsageError
from guesthouse.cli.virt_install.report import Report
from guesthouse.client import Domain
from guesthouse.errors import GuesthouseError, NoDomain
from guesthouse.provision import installer, storage
from guesthouse.provision.host import Host
from guesthouse.provision.storage import NewVolume, Planner
from guesthouse.units import pretty_size

_CRASHED, _SHUTOFF = 6, 5
_REASON_DESTROYED, _REASON_SAVED = 2, 5


def install(options: Options, host: Host, report: Report, plan: Plan, planner: Planner) -> int:
    """Make the guest; returns the program's exit code. Where it raises, no guest and no volume stays behind."""
    domain = plan.request.domain
    console = _console(options, host, plan, report)
    wait = _wait_minutes(options, console, report)
    first, final = documents(options, plan)
    report.say("\nStarting install...")
    started = time.monotonic()
    if plan.password_shown:
        first_boot.let_read()
    with Gate() as gate:
        try:
            _storage(plan, planner, report, gate)
            report.begin("Creating domain...")
            guest = installer.create(
                host.conn,
                first,
                final,
                start="noreboot" not in options or first is not None,
                transient="transient" in options,
                autostart="autostart" in options,
                before=plan.before,
                proceed=gate.check,
            )
            report.end()
        except BaseException as error:
            _take_back(plan, planner, report)
            if isinstance(error, KeyboardInterrupt):
                print("\nDomain install interrupted.", file=sys.stderr)
            raise
    try:
        return _after(options, host, report, plan, guest, console, wait, started)
    except KeyboardInterrupt:
        print("\nDomain install interrupted.", file=sys.stderr)
        if "destroy-on-exit" in options:
            _end(guest)
        else:
            _advice(host, domain.name or "")
        return 1


def _storage(plan: Plan, planner: Planner, report: Report, gate: Gate) -> None:
    volumes = plan.request.volumes
    done: list[NewVolume] = []

    def begin(volume: NewVolume) -> None:
        gate.check()
        if done:
            report.end(_size(done[-1]))
        done.append(volume)
        report.begin(f"Allocating '{volume.name}'")

    storage.build(planner, volumes, begin)
    if done:
        report.end(_size(done[-1]))
    gate.check()


def _size(volume: NewVolume) -> str:
    value, unit = pretty_size(volume.capacity)
    return f"{value:.3g} {unit}"


def _take_back(plan: Plan, planner: Planner, report: Report) -> None:
    def failed(volume: NewVolume, error: Exception) -> None:
        report.error(f"Failed to remove disk '{volume.name}': {error}")

    made = [volume for volume in plan.request.volumes if volume.made is not None]
    for volume in made:
        report.begin(f"Removing disk '{volume.name}'")
        storage.remove(planner, [volume], failed)
        report.end()


# -- after the start


def _after(
    options: Options,
    host: Host,
    report: Report,
    plan: Plan,
    guest: Domain,
    console: str,
    wait: int | None,
    started: float,
) -> int:
    name = plan.request.domain.name or ""
    destroy = "destroy-on-exit" in options
    if console != "none" and _running(guest):
        _connect(options, host, report, name, console, wait is None)
        if destroy and wait is None:
            _end(guest)
        # who left the console because the guest has ended sees it end
        deadline = time.monotonic() + 2
        while wait is None and time.monotonic() < deadline and _running(guest):
            time.sleep(0.1)
    if _running(guest):
        text = "\nDomain is still running. Installation may be in progress."
        if wait is None:
            if plan.install.has_phase:
                report.say(f"{text}\nYou can reconnect to the console to complete the installation process.")
                return 0
        else:
            report.say(text)
            if not _waited(report, guest, wait, started):
                report.say("Installation has exceeded specified time limit. Exiting application.")
                return 1
    report.say("Domain creation completed.")
    if "transient" in options or _running(guest):
        return 0
    if "noreboot" in options or not plan.install.has_phase:
        report.say(f"You can restart your domain by running:\n  {_start_line(host, name)}")
        return 0
    if _was_destroyed(guest) and not destroy:
        report.say("User stopped the VM. Not rebooting.")
        return 0
    report.say("Restarting guest.")
    guest.create()
    if console != "none":
        _connect(options, host, report, name, console, True)
    return 0


def _running(guest: Domain) -> bool:
    """Whether the guest runs. Raises UsageError where it has crashed."""
    try:
        state, _ = guest.get_state()
    except NoDomain:  # a transient one that has ended
        return False
    if state == _CRASHED:
        raise UsageError("Domain has crashed.")
    return state != _SHUTOFF


def _was_destroyed(guest: Domain) -> bool:
    try:
        state, reason = guest.get_state()
    except GuesthouseError:
        return False
    return state == _SHUTOFF and reason in (_REASON_DESTROYED, _REASON_SAVED)


def _end(guest: Domain) -> None:
    try:
        guest.destroy()
    except GuesthouseError:  # it has ended by itself
        pass


def _waited(report: Report, guest: Domain, minutes: int, started: float) -> bool:
    """Wait for the guest to end; whether it did within ``minutes`` (negative: for ever)."""
    if minutes < 0:
        report.say("Waiting for the installation to complete.")
    else:
        report.say(f"Waiting {minutes} minute{'' if minutes == 1 else 's'} for the installation to complete.")
    while _running(guest):
        if 0 <= minutes * 60 <= time.monotonic() - started:
            return False
        time.sleep(0.5)
    report.say("Domain has shutdown. Continuing.")
    return True


def _start_line(host: Host, name: str) -> str:
    return f"virsh --connect {host.uri} start {name}"


def _advice(host: Host, name: str) -> None:
    print(
        "Domain installation does not appear to have been successful.\n"
        "If it was, you can restart your domain by running:\n"
        f"  {_start_line(host, name)}\n"
        "otherwise, please restart your installation.",
        file=sys.stderr,
    )


# -- consoles


def _console(options: Options, host: Host, plan: Plan, report: Report) -> str:
    """Which console to open: "text", "graphical" or "none"."""
    wanted = options.last("autoconsole") or "default"
    if "noautoconsole" in options:
        wanted = "none"
    if wanted not in ("default", "text", "graphical", "none"):
        raise UsageError(f"Unknown autoconsole type '{wanted}'", "There are default, text, graphical and none.")
    if (options.last("wait") or "") == "0":
        report.warn("Treating --wait 0 as --noautoconsole")
        wanted = "none"
    kinds = {display.type for display in plan.request.domain.dev.graphics}
    if wanted == "default":
        if kinds & {"vnc", "spice"}:
            if not shutil.which("virt-viewer"):
                report.warn("Unable to connect to graphical console: virt-viewer not installed.")
                return "none"
            if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
                report.warn("Graphical console requires DISPLAY to be set. Not launching virt-viewer.")
                return "none"
            return "graphical"
        if kinds:
            return "none"
        dev = plan.request.domain.dev
        wanted = "text" if dev.consoles or dev.serials else "none"
    if wanted == "text" and plan.install.cdrom and not plan.install.kernel:
        report.warn(
            "CDROM media does not print to the text console by default, so you likely will not see text install"
            " output. You might want to use --location."
        )
    return wanted


def _wait_minutes(options: Options, console: str, report: Report) -> int | None:
    text = options.last("wait")
    if text is not None and text != "0":
        try:
            return int(text)
        except ValueError:
            raise UsageError(f"argument --wait: invalid int value: '{text}'") from None
    by_user = "noautoconsole" in options or text == "0" or (options.last("autoconsole") or "default") != "default"
    if console == "none" and not by_user:
        report.warn("No console to launch for the guest, defaulting to --wait -1")
        return -1
    return None


def _connect(options: Options, host: Host, report: Report, name: str, console: str, wait: bool) -> None:
    """Open the console in a program of its own; with ``wait`` until the user closes it."""
    if console == "graphical":
        argv = ["virt-viewer", "--connect", host.uri, "--wait", name]
        report.say(f"Running graphical console command: {' '.join(argv)}")
    else:
        # our virsh where it was installed beside us, else the one that the user has
        beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "virsh")  # noqa: PTH100, PTH118, PTH120
        program = beside if os.access(beside, os.X_OK) else "virsh"
        argv = [program, "--connect", host.uri, "console", name]
        report.say(f"Running text console command: {' '.join(['virsh', *argv[1:]])}")
    try:
        process = subprocess.Popen(argv)
    except OSError as error:
        report.warn(f"Error launching {argv[0]}: {error.strerror}")
        return
    if not wait:
        return
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:
            if console == "graphical":
                process.terminate()
                raise
            # the console has the terminal: the key is the guest's
    if code:
        report.warn("Console command returned failure.")
