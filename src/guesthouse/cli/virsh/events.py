"""What the commands that wait for events share: their options, the list of event types, and the waiting."""

from __future__ import annotations

import time

from guesthouse.cli.virsh.command import Option, flag, number, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Describe = Callable[[Any], str]
    # registers a callback for the event id; returns the registration's id
    Register = Callable[[int, Callable[[Any], None]], int]


def options(kinds: Iterable[str], *, every: bool = False) -> tuple[Option, ...]:
    """The options behind the filter; ``every``: with --all."""
    return (
        string("event", "the type of event to wait for", " ".join(kinds)),
        *([flag("all", "wait for events of every type")] if every else []),
        flag("loop", "go on after the first event, until the time is over or ^C"),
        number("timeout", "give up after this many seconds"),
        flag("list", "list the types of events"),
        flag("timestamp", "begin each event with the time"),
    )


def word(words: tuple[str, ...], index: int, otherwise: str = "unknown") -> str:
    """The word for a number of an event."""
    return words[index] if 0 <= index < len(words) else otherwise


def kind_id(given: Given, kinds: list[str]) -> int | None:
    """The id of the event type that --event names, None where it does not. Raises Failed for an unknown type."""
    name = given.text("event")
    if name is None:
        return None
    if name not in kinds:
        raise Failed(f"unknown event type {name}")
    return kinds.index(name)


def show_kinds(shell: Shell, kinds: Iterable[str]) -> None:
    for kind in kinds:
        shell.out(f"{kind}\n")


def watch_objects(
    shell: Shell,
    given: Given,
    kinds: Mapping[str, Describe],
    option: str,
    find: Callable[[Shell, str], Any],
    register: Callable[[Any, int, Callable[[Any], None]], int],
) -> None:
    """What the commands for all but guests do: list the types, or wait for events of one, of all objects or of the one
    that ``option`` names. ``kinds`` has how each type is put, in the order of libvirt's ids. Raises Failed."""
    names = list(kinds)
    if given.has("list"):
        show_kinds(shell, names)
        return
    wanted = kind_id(given, names)
    if wanted is None:
        raise Failed("either --list or --event <type> is required")
    name = given.text(option)
    found = None if name is None else find(shell, name)
    watch(shell, given, {wanted: kinds[names[wanted]]}, lambda number, callback: register(found, number, callback))


def watch(shell: Shell, given: Given, describe: dict[int, Describe], register: Register) -> None:
    """Print the events whose ids ``describe`` has, as its functions put them, until there is no more to wait for.

    That is the first event, or with --loop the end of --timeout or ^C. Where several types are waited for, one that
    the daemon does not know is left out. Raises Failed where no event came.
    """
    timeout = given.timeout()
    loop = given.has("loop")
    count = 0

    def printer(text: Describe) -> Callable[[Any], None]:
        def show(message: Any) -> None:
            nonlocal count
            if count and not loop:
                return
            count += 1
            stamp = f"{timestamp()}: " if given.has("timestamp") else ""
            shell.out(f"{stamp}{text(message)}")
            shell.flush()

        return show

    registered = _register(describe, register, printer)
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while loop or not count:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                shell.out("event loop timed out\n")
                break
            shell.conn.dispatch_events(left)
    except KeyboardInterrupt:
        shell.out("event loop interrupted\n")
    shell.out(f"events received: {count}\n")
    for one in registered:
        shell.conn.event_deregister_any(one)
    if not count:
        raise Failed("")


def _register(
    describe: dict[int, Describe], register: Register, printer: Callable[[Describe], Callable[[Any], None]]
) -> list[int]:
    from guesthouse.errors import GuesthouseError

    registered = []
    for event_id, text in describe.items():
        try:
            registered.append(register(event_id, printer(text)))
        except GuesthouseError:
            if not registered:
                raise
    return registered


def timestamp() -> str:
    """Now, in UTC, to the millisecond."""
    seconds, fraction = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{fraction:03}+0000"
