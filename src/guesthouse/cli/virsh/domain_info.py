"""Commands that say how a guest is."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, flag
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain, row, yes_no
from guesthouse.cli.virsh.shell import Shell
from guesthouse.cli.virsh.states import STATES, reason_text
from guesthouse.errors import GuesthouseError, NoSupport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Domain

_NO_LIMIT = 2**32 - 1
_CONTROL = ("ok", "background job", "occupied", "error")
_CONTROL_ERROR = 3
_CONTROL_REASONS = ("", "unknown", "monitor failure", "internal (locking) error")


@command("monitor", "dominfo", "show what is known of a guest", DOMAIN, description="Show a guest's basic facts.")
def show_info(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    shell.out(row("Id:", "-" if guest.id == -1 else guest.id))
    shell.out(row("Name:", guest.name))
    shell.out(row("UUID:", guest.uuid))
    last: GuesthouseError | None = None
    try:
        shell.out(row("OS Type:", guest.get_os_type()))
    except GuesthouseError as error:
        last = error
    known = True
    try:
        _figures(shell, guest)
    except GuesthouseError as error:
        known, last = False, error
    try:
        persistent = yes_no(guest.is_persistent())
    except GuesthouseError as error:
        persistent, last = "unknown", error
    shell.out(row("Persistent:", persistent))
    try:
        shell.out(row("Autostart:", "enable" if guest.get_autostart() else "disable"))
    except GuesthouseError as error:
        last = error
    try:
        saved = yes_no(guest.has_managed_save_image())
    except GuesthouseError as error:
        saved, last = "unknown", error
    shell.out(row("Managed save:", saved))
    _security(shell, guest)
    try:
        messages = guest.get_messages()
    except GuesthouseError:
        messages = []
    for index, message in enumerate(messages):
        shell.out(row("" if index else "Messages:", message))
    if not known:
        raise Failed("") from last


def _figures(shell: Shell, guest: Domain) -> None:
    info = guest.get_info()
    shell.out(row("State:", STATES.get(info.state, "no state")))
    shell.out(row("CPU(s):", info.nrVirtCpu))
    if info.cpuTime:
        shell.out(row("CPU time:", f"{info.cpuTime / 1e9:.1f}s"))
    shell.out(row("Max memory:", "no limit" if info.maxMem == _NO_LIMIT else f"{info.maxMem} KiB"))
    shell.out(row("Used memory:", f"{info.memory} KiB"))


def _security(shell: Shell, guest: Domain) -> None:
    try:
        model, doi = shell.conn.node_get_security_model()
    except NoSupport:
        return
    if not model:
        return
    shell.out(row("Security model:", model))
    shell.out(row("Security DOI:", doi))
    label, enforcing = guest.get_security_label()
    if label:
        shell.out(row("Security label:", f"{label} ({'enforcing' if enforcing else 'permissive'})"))


@command(
    "monitor",
    "domstate",
    "show a guest's state",
    DOMAIN,
    flag("reason", "and why it is in it"),
    description="Show the state of a guest.",
)
def show_state(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    state, reason = guest.get_state()
    word = STATES.get(state, "no state")
    shell.out(f"{word} ({reason_text(state, reason)})\n" if given.has("reason") else f"{word}\n")


@command(
    "monitor",
    "domcontrol",
    "show the state of the channel that controls a guest",
    DOMAIN,
    description="Show whether a guest can be controlled, or what keeps its control channel busy.",
)
def show_control(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    info = guest.call("get_control_info", flags=0)
    word = _CONTROL[info.state] if info.state < len(_CONTROL) else "unknown"
    if info.state not in (0, _CONTROL_ERROR):
        shell.out(f"{word} ({info.stateTime / 1000:.3f}s)\n")
    elif info.state == _CONTROL_ERROR and info.details:
        reason = _CONTROL_REASONS[info.details] if info.details < len(_CONTROL_REASONS) else "unknown"
        shell.out(f"{word}: {reason}\n")
    else:
        shell.out(f"{word}\n")
