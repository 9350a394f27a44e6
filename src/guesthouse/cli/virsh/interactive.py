"""The interactive shell: a prompt, a history, completion, and lines until quit or the end of input."""

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
    if terminal:
        _start_completion(shell)
    try:
        while shell.interactive:
            line = _read("virsh > " if shell.readonly else "virsh # ", terminal)
            if line is None:
                break
            if not line:
                continue
            try:
                shell.run(parse_line(line))
            except GrammarError as error:
                complain(shell, error)
            shell.flush()
        shell.out("\n")
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


# what ends a word for readline; the rest of the grammar is ours
_BREAKS = " \t\n;="


def _start_completion(shell: Shell) -> None:
    """Let the tabulator complete commands, options, names and files."""
    try:
        import readline
    except ImportError:
        return
    readline.set_completer_delims(_BREAKS)
    readline.parse_and_bind("tab: complete")
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            found[:] = completions(shell, readline.get_line_buffer()[: readline.get_endidx()], text)
        return found[state] if state < len(found) else None

    readline.set_completer(complete)


def completions(shell: Shell, line: str, text: str) -> list[str]:
    """What ``text``, the end of ``line`` behind readline's last break, may become; a blank follows what is whole."""
    from guesthouse.cli.virsh.completion import candidates, takes_file

    if takes_file(line):
        files = _files(text)
        if files or not text.startswith("-"):
            return files
    blank = line.rfind(" ", 0, len(line) - len(text)) + 1
    before = max(blank, line.rfind(";", 0, len(line) - len(text)) + 1)
    cut = len(line) - len(text) - before  # of the word, what stands before readline's break
    return [f"{_escaped(word)[cut:]} " for word in candidates(line, shell.ask_names)]


def _files(text: str) -> list[str]:
    """The files whose names begin with ``text``, folders with a slash behind."""
    folder, name = os.path.split(os.path.expanduser(text))  # noqa: PTH111
    try:
        with os.scandir(folder or ".") as entries:
            found = sorted(
                f"{entry.name}{'/' if entry.is_dir() else ' '}"
                for entry in entries
                if entry.name.startswith(name) and (name or not entry.name.startswith("."))
            )
    except OSError:
        return []
    typed = text[: len(text) - len(name)]
    return [f"{typed}{_escaped(each[:-1])}{each[-1]}" for each in found]


def _escaped(word: str) -> str:
    """``word`` so that virsh's grammar reads it back."""
    return "".join(f"\\{char}" if char in " \t;\"'\\#" else char for char in word)
