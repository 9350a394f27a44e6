"""Commands of a guest's life: define, create, start, stop, pause, reset."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, NAME, UUID, domain, read_file
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError

_FILE = data("file", "a file with the guest's XML", "file")
_VALIDATE = flag("validate", "check the XML against its schema")
_START_FLAGS = {"paused": 1, "autodestroy": 2, "bypass-cache": 4, "force-boot": 8, "reset-nvram": 32}
_CREATE_FLAGS = {"paused": 1, "autodestroy": 2, "validate": 16, "reset-nvram": 32}
_FORCE_BOOT = 8
# libvirt's codes NO_SUPPORT and INVALID_ARG: a daemon that does not know a flag
_UNKNOWN_FLAG = (3, 8)
_MODES = {"acpi": 1, "agent": 2, "initctl": 4, "signal": 8, "paravirt": 16}
_MODE = string("mode", "how: acpi, agent, initctl, signal or paravirt; several with commas", " ".join(_MODES))


@command(
    "domain",
    "define",
    "define a guest from an XML file, without starting it",
    _FILE,
    _VALIDATE,
    description="Make a guest known to the daemon, or change the configuration of one that is.",
)
def define(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to define domain from {path}"):
        guest = shell.conn.define_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Domain '{guest.name}' defined from {path}\n")


@command(
    "domain",
    "create",
    "start a guest from an XML file",
    _FILE,
    flag("console", "open the guest's console afterwards"),
    flag("paused", "leave the guest paused"),
    flag("autodestroy", "end the guest when virsh disconnects"),
    string("pass-fds", "hand these open file descriptors to the guest: N,M,..."),
    _VALIDATE,
    flag("reset-nvram", "make the guest's NVRAM anew from its template"),
    description="Start a guest that lives only until it stops, unless it is defined too.",
)
def create(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    files = given.descriptors()
    with shell.explain(f"Failed to create domain from {path}"):
        guest = _create(shell, xml, given.flags(_CREATE_FLAGS), files)
    shell.extra(f"Domain '{guest.name}' created from {path}\n")
    if given.has("console"):
        from guesthouse.cli.virsh.console import run_console

        run_console(shell, guest)


@command(
    "domain",
    "start",
    "start a guest that is defined",
    data("domain", "name or UUID of the guest", "domain"),
    flag("console", "open the guest's console afterwards"),
    flag("paused", "leave the guest paused"),
    flag("autodestroy", "end the guest when virsh disconnects"),
    flag("bypass-cache", "read a saved state past the host's file cache"),
    flag("force-boot", "boot afresh, giving up a saved state"),
    string("pass-fds", "hand these open file descriptors to the guest: N,M,..."),
    flag("reset-nvram", "make the guest's NVRAM anew from its template"),
    description="Start a guest, from its saved state where there is one.",
)
def start(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given, UUID | NAME)
    if guest.id != -1:
        raise Failed("Domain is already active")
    files = given.descriptors()
    flags = given.flags(_START_FLAGS)
    started = False
    if flags & _FORCE_BOOT:
        try:
            _start(guest, flags, files)
            started = True
        except GuesthouseError as error:
            if error.number not in _UNKNOWN_FLAG:
                raise
            _drop_saved_state(shell, guest)
            flags &= ~_FORCE_BOOT
    if not started:
        with shell.explain(f"Failed to start domain '{guest.name}'"):
            _start(guest, flags, files)
    shell.extra(f"Domain '{guest.name}' started\n")
    if given.has("console"):
        from guesthouse.cli.virsh.console import run_console

        run_console(shell, guest)


TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Domain


def _create(shell: Shell, xml: str, flags: int, files: list[int]) -> Domain:
    if not files:
        return shell.conn.create_xml(xml, flags)
    made = shell.conn.call_with_files("domain_create_xml_with_files", files, xml_desc=xml, flags=flags)
    return shell.conn.lookup_by_name(made.dom.name)


def _start(guest: Domain, flags: int, files: list[int]) -> None:
    if files:
        guest.conn.call_with_files("domain_create_with_files", files, dom=guest, flags=flags)
    elif flags:
        guest.create_with_flags(flags)
    else:
        guest.create()


def _drop_saved_state(shell: Shell, guest: Domain) -> None:
    try:
        saved = guest.has_managed_save_image()
    except GuesthouseError:
        return
    if saved:
        guest.call("managed_save_remove", flags=0)


@command(
    "domain",
    "shutdown",
    "ask a guest to shut down",
    DOMAIN,
    _MODE,
    description="Ask the guest's system to power off; it decides whether and when.",
)
def shutdown(shell: Shell, given: Given) -> None:
    flags = _mode(given, "'signal', or 'paravirt'")
    guest, name = domain(shell, given)
    with shell.explain(f"Failed to shutdown domain '{name}'"):
        if flags:
            guest.shutdown_flags(flags)
        else:
            guest.shutdown()
    shell.extra(f"Domain '{name}' is being shutdown\n")


@command(
    "domain",
    "reboot",
    "ask a guest to reboot",
    DOMAIN,
    _MODE,
    description="Ask the guest's system to reboot; it decides whether and when.",
)
def reboot(shell: Shell, given: Given) -> None:
    flags = _mode(given, "'signal' or 'paravirt'")
    guest, name = domain(shell, given)
    with shell.explain(f"Failed to reboot domain '{name}'"):
        guest.reboot(flags)
    shell.extra(f"Domain '{name}' is being rebooted\n")


def _mode(given: Given, last_two: str) -> int:
    """The bits of the option "mode". Raises Failed for a word that is no mode."""
    flags = 0
    text = given.text("mode")
    for word in text.split(",") if text else ():
        if word not in _MODES:
            raise Failed(f"Unknown mode {word} value, expecting 'acpi', 'agent', 'initctl', {last_two}")
        flags |= _MODES[word]
    return flags


@command(
    "domain",
    "destroy",
    "end a guest by force",
    DOMAIN,
    flag("graceful", "fail rather than kill a guest that does not end in time"),
    flag("remove-logs", "remove the guest's logs too"),
    description="End a guest at once, as if its plug was pulled; its definition and disks stay.",
)
def destroy(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    flags = given.flags({"graceful": 1, "remove-logs": 2})
    with shell.explain(f"Failed to destroy domain '{name}'"):
        if flags:
            guest.destroy_flags(flags)
        else:
            guest.destroy()
    shell.extra(f"Domain '{name}' destroyed\n")


@command("domain", "reset", "reset a guest", DOMAIN, description="Reset a guest as its reset button would.")
def reset(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    with shell.explain(f"Failed to reset domain '{name}'"):
        guest.reset()
    shell.extra(f"Domain '{name}' was reset\n")


@command("domain", "suspend", "pause a guest", DOMAIN, description="Pause a running guest; it stays in memory.")
def suspend(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    with shell.explain(f"Failed to suspend domain '{name}'"):
        guest.suspend()
    shell.extra(f"Domain '{name}' suspended\n")


@command("domain", "resume", "let a paused guest run on", DOMAIN, description="Let a paused guest run on.")
def resume(shell: Shell, given: Given) -> None:
    guest, name = domain(shell, given)
    with shell.explain(f"Failed to resume domain '{name}'"):
        guest.resume()
    shell.extra(f"Domain '{name}' resumed\n")
