"""The command that waits for what happens to storage pools."""

from __future__ import annotations

from guesthouse.cli.virsh import events
from guesthouse.cli.virsh.command import command, string
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import find_pool
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIFECYCLE = ("Defined", "Undefined", "Started", "Stopped", "Created", "Deleted")


def _lifecycle(message: Any) -> str:
    return f"event 'lifecycle' for storage pool {message.pool.name}: {events.word(_LIFECYCLE, message.event)}\n"


def _refresh(message: Any) -> str:
    return f"event 'refresh' for storage pool {message.pool.name}\n"


_KINDS = {"lifecycle": _lifecycle, "refresh": _refresh}


@command(
    "pool",
    "pool-event",
    "wait for what happens to storage pools",
    string("pool", "only of this pool: its name or UUID", "pool"),
    *events.options(_KINDS),
    description="Wait for an event of a type and print it, or list the types.",
)
def wait(shell: Shell, given: Given) -> None:
    events.watch_objects(shell, given, _KINDS, "pool", find_pool, shell.conn.storage_pool_event_register_any)
