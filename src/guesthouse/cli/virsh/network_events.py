"""The command that waits for what happens to networks."""

from __future__ import annotations

from guesthouse.cli.virsh import events
from guesthouse.cli.virsh.command import command, string
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import find_network
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIFECYCLE = ("Defined", "Undefined", "Started", "Stopped")


def _describe(message: Any) -> str:
    return f"event 'lifecycle' for network {message.net.name}: {events.word(_LIFECYCLE, message.event)}\n"


_KINDS = {"lifecycle": _describe}


@command(
    "network",
    "net-event",
    "wait for what happens to networks",
    string("network", "only of this network: its name or UUID", "network"),
    *events.options(_KINDS),
    description="Wait for an event of a type and print it, or list the types.",
)
def wait(shell: Shell, given: Given) -> None:
    events.watch_objects(shell, given, _KINDS, "network", find_network, shell.conn.network_event_register_any)
