"""The command that waits for what happens to the host's devices."""

from __future__ import annotations

from guesthouse.cli.virsh import events
from guesthouse.cli.virsh.command import command, string
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.nodedev import find_device
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIFECYCLE = ("Created", "Deleted", "Defined", "Undefined")


def _lifecycle(message: Any) -> str:
    return f"event 'lifecycle' for node device {message.dev.name}: {events.word(_LIFECYCLE, message.event)}\n"


def _update(message: Any) -> str:
    return f"event 'update' for node device {message.dev.name}\n"


_KINDS = {"lifecycle": _lifecycle, "update": _update}


@command(
    "nodedev",
    "nodedev-event",
    "wait for what happens to the host's devices",
    string("device", "only of this device", "device"),
    *events.options(_KINDS),
    description="Wait for an event of a type and print it, or list the types.",
)
def wait(shell: Shell, given: Given) -> None:
    events.watch_objects(shell, given, _KINDS, "device", find_device, shell.conn.node_device_event_register_any)
