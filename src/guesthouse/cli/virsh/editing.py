"""Changing an object's XML in the user's editor, which every edit command does."""

from __future__ import annotations

import os
import sys

from guesthouse.cli.virsh.given import Failed
from guesthouse.cli.virsh.objects import read_file
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError, InternalError, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    Made = TypeVar("Made")

_DEFAULT_EDITOR = "sensible-editor"  # Debian's choice, as its virsh has it
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_.:@")
_CHANGED = "The XML configuration was changed by another user."
_GIVE_UP = "n\x03\x04"  # a terminal in raw mode gives ^C and ^D as characters
_HELP = {
    "y": "y - yes, start editor again",
    "n": "n - no, throw away my changes",
    "i": "i - turn off validation and try to redefine again",
    "f": "f - force, try to redefine again",
    "?": "? - print this help",
}


def edit(
    shell: Shell, read: Callable[[], str], define: Callable[[str], Made], relaxed: Callable[[str], Made] | None = None
) -> Made | None:
    """Have the user edit what ``read`` returns and ``define`` it; returns what that returned, None where nothing changed.

    Where ``define`` fails, or ``read`` says something else by then, a user on a terminal is asked what to do: edit
    again, try again, or give up; with ``relaxed`` also to call that in place of ``define`` from then on. Raises Failed
    where the user gives up or is not there to ask, or where the editor fails; nothing was defined then.
    """
    before = read()
    path = _temporary(before)
    try:
        again = True
        while True:
            if again:
                run_editor(shell, str(path))
                after = _read_back(str(path))
                if after == before:
                    return None
            complaint, cause = _CHANGED, None
            now = read()
            if now == before:
                try:
                    return define(after)
                except GuesthouseError as error:
                    complaint, cause = "Failed.", error
            before = now
            if not sys.stdin.isatty():
                raise Failed(complaint) from cause
            if cause is not None:
                shell.error(cause.message)
            answer = _ask(shell, complaint, "ynif?" if relaxed is not None and cause is not None else "ynf?")
            if answer == "n":
                raise Failed("")
            if answer == "i" and relaxed is not None:
                define, relaxed = relaxed, None
            again = answer == "y"
    finally:
        path.unlink(missing_ok=True)  # an editor may have taken it away


def edit_text(shell: Shell, text: str) -> str:
    """Have the user edit ``text`` once; returns what it has become. Raises Failed."""
    path = _temporary(text)
    try:
        run_editor(shell, str(path))
        return _read_back(str(path))
    finally:
        path.unlink(missing_ok=True)


def _temporary(text: str) -> Path:
    """A new file with ``text``. Raises Failed."""
    import tempfile
    from pathlib import Path

    folder = os.environ.get("TMPDIR") or "/tmp"
    try:
        descriptor, name = tempfile.mkstemp(".xml", "virsh", folder)
    except OSError as error:
        raise Failed(f"g_mkstemp_full: failed to create temporary file: {error.strerror}") from None
    path = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        path.unlink()
        raise Failed(f"write: {path}: failed to write to temporary file: {error.strerror}") from None
    return path


def _read_back(path: str) -> str:
    try:
        return read_file(path)
    except Failed as failed:
        text = str(failed)
        reason = text.rpartition(": ")[2]
        raise Failed(f"{path}: failed to read temporary file: {reason}") from SystemFailure(text)


def run_editor(shell: Shell, path: str) -> None:
    """Run $VISUAL or $EDITOR on the file and wait for it. Raises Failed where it cannot be, or fails.

    The variable may hold a whole shell command; a plain name is run without a shell.
    """
    import shlex
    import shutil
    import subprocess

    editor = os.environ.get("VISUAL")
    if editor is None:
        editor = os.environ.get("EDITOR", _DEFAULT_EDITOR)
    if _PLAIN.issuperset(editor):
        argv = [editor, path]
        if "/" not in editor and shutil.which(editor) is None:
            raise Failed("") from SystemFailure(f"Cannot find '{editor}' in path: {os.strerror(2)}")
    elif _PLAIN.issuperset(path):
        argv = ["sh", "-c", f"{editor} {path}"]
    else:
        raise Failed(
            f"{path}: temporary filename contains shell meta or other unacceptable characters (is $TMPDIR wrong?)"
        )
    shell.flush()
    try:
        status = subprocess.run(argv).returncode
    except OSError as error:
        shell.hint(f"libvirt:  error : cannot execute binary {editor}: {error.strerror}")
        status = 127 if isinstance(error, FileNotFoundError) else 126
    if status:
        how = f"exit status {status}" if status > 0 else f"fatal signal {-status}"
        raise Failed("") from InternalError(f"Child process ({shlex.join(argv)}) unexpected {how}")


def _ask(shell: Shell, complaint: str, answers: str) -> str:
    """Ask on the terminal until one of the letters ``answers`` but "?" is typed; returns it."""
    import termios
    import tty

    saved = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        while True:
            shell.out(f"\r{complaint} Try again? [{','.join(answers)}]: ")
            shell.flush()
            letter = os.read(0, 1).decode("ascii", "replace").lower()
            if letter in _GIVE_UP:
                letter = "n"
            if letter == "?":
                shell.out("".join(f"\r\n{_HELP[answer]}" for answer in answers) + "\r\n")
            elif letter in answers:
                break
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, saved)
    shell.out("\r\n")
    return letter
