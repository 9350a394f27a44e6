"""The command that waits for what happens to networks."""

from __future__ import annotations

from guesthouse.cli.virsh import events
from guesthouse.cli.virsh.command import command, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import find_network
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIFECYCLE = ("Defined", "Undefined", "Started", "Stopped")
_KINDS = ["lifecycle"]


def _describe(message: Any) -> str:
    return f"event 'lifecycle' for network {message.net.name}: {events.word(_LIFECYCLE, message.event)}\n"


@command(
    "network",
    "net-event",
    "wait for what happens to networks",
    string("network", "only of this network: its name or UUID", "network"),
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
    name = given.text("network")
    net = None if name is None else find_network(shell, name)
    events.watch(
        shell,
        given,
        {wanted: _describe},
        lambda number, callback: shell.conn.network_event_register_any(net, number, callback),
    )
