"""The command that waits for what happens to guests."""

from __future__ import annotations

from guesthouse.cli.virsh import events
from guesthouse.cli.virsh.command import command, string
from guesthouse.cli.virsh.events import word
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import find_domain
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# virDomainEventType, and for each its details
_LIFECYCLE = (
    ("Defined", ("Added", "Updated", "Renamed", "Snapshot")),
    ("Undefined", ("Removed", "Renamed")),
    ("Started", ("Booted", "Migrated", "Restored", "Snapshot", "Event wakeup")),
    (
        "Suspended",
        (
            *("Paused", "Migrated", "I/O Error", "Watchdog", "Restored", "Snapshot", "API error", "Post-copy"),
            "Post-copy Error",
        ),
    ),
    ("Resumed", ("Unpaused", "Migrated", "Snapshot", "Post-copy", "Post-copy Error")),
    ("Stopped", ("Shutdown", "Destroyed", "Crashed", "Migrated", "Saved", "Failed", "Snapshot")),
    ("Shutdown", ("Finished", "Finished after guest request", "Finished after host request")),
    ("PMSuspended", ("Memory", "Disk")),
    ("Crashed", ("Panicked", "Crashloaded")),
)
# what newer daemons may send; the words for it differ, as libvirt has them
_UNSUPPORTED = "unsupported value"
_WATCHDOG = ("none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi")
_IO_ERROR = ("none", "pause", "report")
_PHASES = ("connect", "initialize", "disconnect")
_FAMILIES = ("IPv4", "IPv6", "unix")
_BLOCK_JOBS = ("Unknown job", "Block Pull", "Block Copy", "Block Commit", "Active Block Commit", "Backup")
_BLOCK_STATUS = ("completed", "failed", "canceled", "ready")
_DISK_CHANGES = ("changed", "dropped")
_TRAY_CHANGES = ("opened", "closed")
_AGENT_STATES = (_UNSUPPORTED, "connected", "disconnected")
_AGENT_REASONS = ("unknown", "domain started", "channel event")
_METADATA = ("description", "title", "element")
_RECIPIENTS = ("hypervisor", "guest")
_FAILURE_ACTIONS = ("ignore", "inject", "fatal", "reset")
_ACTION_REQUIRED, _RECURSIVE = 1, 2


def _null(text: Any) -> str:
    return "<null>" if text is None else str(text)


def _params(params: Any) -> str:
    return "".join(f"\n\t{param.field}: {_value(param)}" for param in params)


def _value(param: Any) -> str:
    if param.kind == "boolean":
        return "1" if param.value else "0"
    return f"{param.value:g}" if param.kind == "double" else str(param.value)


def _lifecycle(event: Any) -> str:
    if not 0 <= event.event < len(_LIFECYCLE):
        return ": unknown unknown"
    name, details = _LIFECYCLE[event.event]
    return f": {name} {word(details, event.detail)}"


def _graphics(event: Any) -> str:
    local, remote = (
        f"{word(_FAMILIES, address.family)} {address.node} {address.service}" for address in (event.local, event.remote)
    )
    text = f": {word(_PHASES, event.phase)} local[{local}] remote[{remote}] {event.authScheme}"
    return text + "".join(f"\n\t{identity.type}={identity.name}" for identity in event.subject)


def _memory_failure(event: Any) -> str:
    recipient = word(_RECIPIENTS, event.recipient, _UNSUPPORTED)
    action = word(_FAILURE_ACTIONS, event.action, _UNSUPPORTED)
    required, recursive = int(event.flags & _ACTION_REQUIRED > 0), int(event.flags & _RECURSIVE > 0)
    return (
        f":\nrecipient: {recipient}\naction: {action}\nflags:\n\taction required: {required}\n\trecursive: {recursive}"
    )


def _plain(event: Any) -> str:
    return ""


def _io_error(event: Any) -> str:
    return f": {event.srcPath} ({event.devAlias}) {word(_IO_ERROR, event.action)}"


def _block_job(path: str) -> Callable[[Any], str]:
    def describe(event: Any) -> str:
        return f": {word(_BLOCK_JOBS, event.type, _BLOCK_JOBS[0])} for {getattr(event, path)} {word(_BLOCK_STATUS, event.status)}"

    return describe


def _alias(event: Any) -> str:
    return f": {event.devAlias}"


# by id (virDomainEventID): the name of the type, and what is said behind the guest's name
_KINDS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("lifecycle", _lifecycle),
    ("reboot", _plain),
    ("rtc-change", lambda event: f": {event.offset}"),
    ("watchdog", lambda event: f": {word(_WATCHDOG, event.action)}"),
    ("io-error", _io_error),
    ("graphics", _graphics),
    ("io-error-reason", lambda event: f"{_io_error(event)} due to {event.reason}"),
    ("control-error", _plain),
    ("block-job", _block_job("path")),
    (
        "disk-change",
        lambda event: (
            f" disk {event.devAlias}: {_null(event.oldSrcPath)} -> {_null(event.newSrcPath)}:"
            f" {word(_DISK_CHANGES, event.reason)}"
        ),
    ),
    ("tray-change", lambda event: f" disk {event.devAlias}: {word(_TRAY_CHANGES, event.reason)}"),
    ("pm-wakeup", _plain),
    ("pm-suspend", _plain),
    ("balloon-change", lambda event: f": {event.actual}KiB"),
    ("pm-suspend-disk", _plain),
    ("device-removed", _alias),
    ("block-job-2", _block_job("dst")),
    ("tunable", lambda event: f":{_params(event.params)}"),
    (
        "agent-lifecycle",
        lambda event: (
            f": state: '{word(_AGENT_STATES, event.state, _UNSUPPORTED)}' reason: '{word(_AGENT_REASONS, event.reason, _UNSUPPORTED)}'"
        ),
    ),
    ("device-added", _alias),
    ("migration-iteration", lambda event: f": iteration: '{event.iteration}'"),
    ("job-completed", lambda event: f":{_params(event.params)}"),
    ("device-removal-failed", _alias),
    ("metadata-change", lambda event: f": type {word(_METADATA, event.type, _UNSUPPORTED)}, uri {_null(event.nsuri)}"),
    ("block-threshold", lambda event: f": dev: {event.dev}({_null(event.path)}) {event.threshold} {event.excess}"),
    ("memory-failure", _memory_failure),
    ("memory-device-size-change", lambda event: f":\nalias: {event.alias}\nsize: {event.size}"),
)
_NAMES = [name for name, _ in _KINDS]


def _describe(name: str, details: Callable[[Any], str]) -> Callable[[Any], str]:
    def describe(message: Any) -> str:
        # the older events are wrapped: their own structure is one field of the message
        event = message.msg if "msg" in message.fields else message
        return f"event '{name}' for domain '{event.dom.name}'{details(event)}\n"

    return describe


@command(
    "events",
    "event",
    "wait for what happens to guests",
    string("domain", "only of this guest: its name, id or UUID", "domain"),
    *events.options(_NAMES, every=True),
    description="Wait for an event of a type, or of all types, and print it; or list the types.",
)
def wait(shell: Shell, given: Given) -> None:
    given.exclusive("all", "event")
    given.exclusive("list", "all")
    given.exclusive("list", "event")
    if given.has("list"):
        events.show_kinds(shell, _NAMES)
        return
    wanted = events.kind_id(given, _NAMES)
    if wanted is None and not given.has("all"):
        raise Failed("one of --list, --all, or --event <type> is required")
    ids = range(len(_KINDS)) if wanted is None else [wanted]
    name = given.text("domain")
    guest = None if name is None else find_domain(shell, name)
    events.watch(
        shell,
        given,
        {number: _describe(*_KINDS[number]) for number in ids},
        lambda number, callback: shell.conn.domain_event_register_any(guest, number, callback),
    )
