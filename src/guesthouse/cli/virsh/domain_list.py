"""The list of guests."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, flag
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.shell import Shell
from guesthouse.cli.virsh.states import STATES
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Domain

_ACTIVE, _INACTIVE = 1, 2
_SHUT_OFF = 5
_FILTERS = {
    "persistent": 1 << 2,
    "transient": 1 << 3,
    "state-running": 1 << 4,
    "state-paused": 1 << 5,
    "state-shutoff": 1 << 6,
    "state-other": 1 << 7,
    "with-managed-save": 1 << 8,
    "without-managed-save": 1 << 9,
    "autostart": 1 << 10,
    "no-autostart": 1 << 11,
    "with-snapshot": 1 << 12,
    "without-snapshot": 1 << 13,
    "with-checkpoint": 1 << 14,
    "without-checkpoint": 1 << 15,
}


@command(
    "monitor",
    "list",
    "list guests",
    flag("inactive", "guests that do not run"),
    flag("all", "guests that run, and those that do not"),
    flag("transient", "guests without a definition"),
    flag("persistent", "guests with a definition"),
    flag("with-snapshot", "guests that have snapshots"),
    flag("without-snapshot", "guests that have no snapshots"),
    flag("with-checkpoint", "guests that have checkpoints"),
    flag("without-checkpoint", "guests that have no checkpoints"),
    flag("state-running", "guests that run"),
    flag("state-paused", "guests that are paused"),
    flag("state-shutoff", "guests that are shut off"),
    flag("state-other", "guests in any other state"),
    flag("autostart", "guests that start with the host"),
    flag("no-autostart", "guests that do not start with the host"),
    flag("with-managed-save", "guests with a saved state"),
    flag("without-managed-save", "guests without a saved state"),
    flag("uuid", "show UUIDs"),
    flag("name", "show names"),
    flag("id", "show ids"),
    flag("table", "show a table; the default"),
    flag("managed-save", "call guests with a saved state saved"),
    flag("title", "show titles too"),
    description="List the guests that run, or those that the options choose.",
)
def show_list(shell: Shell, given: Given) -> None:
    flags = _ACTIVE
    if given.has("inactive") or given.has("state-shutoff"):
        flags = _INACTIVE
    if given.has("all"):
        flags = _ACTIVE | _INACTIVE
    flags |= given.flags(_FILTERS)
    for other in ("name", "uuid", "id"):
        given.exclusive("table", other)
    with shell.explain("Failed to list domains"):
        guests = shell.conn.list_all_domains(flags)
    guests.sort(key=_order)
    if given.has("uuid") or given.has("name") or given.has("id"):
        for guest in guests:
            _line(shell, given, guest)
    else:
        _table(shell, given, guests)


def _order(guest: Domain) -> tuple[bool, int, str]:
    """Running guests by id, then the others by name, whatever the case of letters."""
    return guest.id == -1, guest.id, guest.name.lower()


def _id(guest: Domain) -> str:
    return "-" if guest.id == -1 else str(guest.id)


def _line(shell: Shell, given: Given, guest: Domain) -> None:
    words = []
    if given.has("uuid"):
        words.append(guest.uuid)
    if given.has("id"):
        if guest.id == -1 and not given.has("uuid") and not given.has("name"):
            return
        words.append(_id(guest))
    if given.has("name"):
        words.append(guest.name)
    shell.out(" ".join(words) + "\n")


def _table(shell: Shell, given: Given, guests: list[Domain]) -> None:
    title = given.has("title")
    rows = []
    for guest in guests:
        try:
            state, _ = guest.get_state()
        except GuesthouseError:
            continue  # gone meanwhile
        word = STATES.get(state, "no state")
        if given.has("managed-save") and state == _SHUT_OFF and _saved(guest):
            word = "saved"
        cells = [_id(guest), guest.name, word]
        if title:
            from guesthouse.cli.virsh.domain_metadata import read_text

            cells.append(read_text(shell, guest, title=True))
        rows.append(cells)
    head = ["Id", "Name", "State", "Title"] if title else ["Id", "Name", "State"]
    shell.out(format_table(head, rows, header=not shell.quiet))


def _saved(guest: Domain) -> bool:
    try:
        return guest.has_managed_save_image()
    except GuesthouseError:
        return False
