"""The guest's serial console on this terminal."""

from __future__ import annotations

import os
import select
import signal
import sys

from guesthouse.cli.virsh.command import command, flag, string
from guesthouse.cli.virsh.devices import guest_xml
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Domain, Stream

_FLAGS = {"force": 1, "safe": 2}
_SHUT_OFF = 5
_CHUNK = 1 << 16
_PIECE = 1024
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)


@command(
    "domain",
    "console",
    "connect to a guest's serial console",
    DOMAIN,
    string("devname", "which console: the alias of a serial or console device"),
    flag("force", "take it over from whoever has it"),
    flag("safe", "only where the daemon keeps others off it"),
    description="Connect this terminal to a guest's serial console, until the escape character is typed.",
)
def open_console(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    run_console(shell, guest, given.text("devname"), given.flags(_FLAGS))


def run_console(shell: Shell, guest: Domain, device: str | None = None, flags: int = 0) -> None:
    """Connect this terminal to the guest's console until the escape character is typed or the guest ends.

    The terminal is as before afterwards, however it ends. Raises Failed where there is no terminal or the guest does
    not run, and the daemon's error where it refuses or breaks the connection.
    """
    with shell.explain("Unable to get domain status"):
        state, _ = guest.get_state()
    if state == _SHUT_OFF:
        raise Failed("The domain is not running")
    if not sys.stdin.isatty():
        raise Failed("Cannot run interactive console without a controlling TTY")

    import termios
    import tty

    shell.extra(f"Connected to domain '{guest.name}'\n")
    shell.extra(f"Escape character is {shell.escape}")
    shell.extra(f" (Ctrl + {shell.escape[1]})\n" if shell.escape[0] == "^" else "\n")
    shell.flush()
    saved = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, _end) for number in _ENDING}
    stream: Stream | None = None
    try:
        tty.setraw(0, termios.TCSADRAIN)  # what was typed already is for the guest too
        stream = guest.open_console(device, flags)
        _relay(stream, escape_code(shell.escape))
        stream.finish()
        stream = None
    except _Ended:
        pass
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, saved)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if stream is not None:
            _abort(stream)


class _Ended(Exception):
    """A signal asks the console to end."""


def _end(number: int, frame: object) -> None:
    raise _Ended


def _abort(stream: Stream) -> None:
    try:
        stream.abort()
    except GuesthouseError:
        pass  # the connection is gone; whoever ended it has been told


def escape_code(escape: str) -> bytes:
    """The byte that the terminal sends for an escape character written as "^]" or "x"."""
    if escape[0] == "^":
        return bytes([ord(escape[1].upper()) ^ 0x40])
    return escape.encode()


def _relay(stream: Stream, escape: bytes) -> None:
    """Pass bytes both ways until the escape character or the end of either side.

    What is typed never waits for the daemon to take in what was typed before, so the escape character always works.
    """
    wire = stream.fileno()
    typed = b""
    while True:
        while (shown := stream.recv(_CHUNK, wait=False)) is not None:
            if not shown:
                return
            _write(shown)
        reading, writing, _ = select.select([0, wire], [wire] if typed else [], [])
        if 0 in reading:
            before, found, _ = (block := _read()).partition(escape)
            typed += before
            if found or not block:
                while typed and select.select([], [wire], [], 0)[1]:
                    typed = _pass_on(stream, typed)
                return
        if writing:
            typed = _pass_on(stream, typed)


def _read() -> bytes:
    """What was typed; empty at the end of it."""
    try:
        return os.read(0, _CHUNK)
    except OSError:  # the terminal is gone
        return b""


def _pass_on(stream: Stream, typed: bytes) -> bytes:
    """Send a little, which the socket has room for; returns the rest."""
    stream.send(typed[:_PIECE])
    return typed[_PIECE:]


def _write(content: bytes) -> None:
    while content:
        content = content[os.write(1, content) :]


@command(
    "domain",
    "ttyconsole",
    "show the terminal device of a guest's console",
    DOMAIN,
    description="Show which of the host's terminal devices a guest's console is.",
)
def show_device(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    console = guest_xml(shell, guest).find("devices/console")
    device = console.get("tty") if console is not None else None
    if not device:
        raise Failed("")
    shell.out(f"{device}\n")
