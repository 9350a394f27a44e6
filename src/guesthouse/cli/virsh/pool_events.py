"""The command that waits for what happens to storage pools."""

from __future__ import annotations

from guesthouse.cli.virsh import events
from guesthouse.cli.virsh.command import command, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import find_pool
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIFECYCLE = ("Defined", "Undefined", "Started", "Stopped", "Created", "Deleted")
_KINDS = ["lifecycle", "refresh"]


def _lifecycle(message: Any) -> str:
    return f"event 'lifecycle' for storage pool {message.pool.name}: {events.word(_LIFECYCLE, message.event)}\n"


def _refresh(message: Any) -> str:
    return f"event 'refresh' for storage pool {message.pool.name}\n"


_DESCRIBE = (_lifecycle, _refresh)


@command(
    "pool",
    "pool-event",
    "wait for what happens to storage pools",
    string("pool", "only of this pool: its name or UUID", "pool"),
    *events.options(_KINDS),
    description="Wait for an event of a type and print it, or list the types.",
)
def wait(shell: Shell, given: Given) -> None:
    if given.has("list"):
        events.show_kinds(shell, _KINDS)
        return
    wanted = events.kind_id(given, _KINDS)
    if wanted is None:
        raise Failed("either --list or --event <type> is required")
    name = given.text("pool")
    pool = None if name is None else find_pool(shell, name)
    events.watch(
        shell,
        given,
        {wanted: _DESCRIBE[wanted]},
        lambda number, callback: shell.conn.storage_pool_event_register_any(pool, number, callback),
    )
