"""The interactive shell: a prompt, a history, and lines until quit or the end of input."""

from __future__ import annotations

import os
import sys

from guesthouse.cli.virsh.grammar import GrammarError, parse_line
from guesthouse.cli.virsh.main import complain
from guesthouse.cli.virsh.shell import Shell


def loop(shell: Shell) -> int:
    """Read and run lines; returns the exit code of virsh, which is 0 however the last command went."""
    shell.interactive = True
    shell.extra("Welcome to virsh, the virtualization interactive terminal.\n\n")
    shell.extra("Type:  'help' for help with commands\n       'quit' to quit\n\n")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    history = _start_history() if terminal else None
    try:
        while shell.interactive:
            line = _read("virsh > " if shell.readonly else "virsh # ", terminal)
            if line is None:
                shell.out("\n")
                break
            if not line:
                continue
            try:
                shell.run(parse_line(line))
            except GrammarError as error:
                complain(shell, error)
            shell.flush()
    finally:
        if history is not None:
            _save_history(history)
    return 0


def _read(prompt: str, terminal: bool) -> str | None:
    sys.stdout.flush()
    if terminal:
        try:
            return input(prompt)
        except EOFError:
            return None
        except KeyboardInterrupt:
            print()
            return ""
    line = sys.stdin.readline()
    shown = line.rstrip("\n")
    sys.stdout.write(f"{prompt}{shown}\n" if line else prompt)
    return shown if line else None


def _start_history() -> str | None:
    """Load the history; returns its file, None where there can be none."""
    try:
        import readline
    except ImportError:
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    folder = f"{cache}/libvirt/virsh"
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)  # noqa: PTH103
        readline.set_history_length(int(os.environ.get("VIRSH_HISTSIZE", "500")))
        path = f"{folder}/history"
        if os.access(path, os.R_OK):
            readline.read_history_file(path)
    except (OSError, ValueError):
        return None
    return path


def _save_history(path: str) -> None:
    import readline

    try:
        readline.write_history_file(path)
    except OSError:
        pass
