"""The program: its commands, each a module that declares its options and runs."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from guesthouse import __version__
from guesthouse.cli import nearest
from guesthouse.errors import GuesthouseError


class Command(NamedTuple):
    """``module`` of this package, its functions that declare the options and run, and what help says of it."""

    module: str
    help: str
    declare: str = "declare"
    run: str = "run"


COMMANDS = {
    "run": Command("run", "make a guest from an image, and start it", "declare_run"),
    "ls": Command("run", "guests, with their addresses", "declare_ls", "ls"),
    "ssh": Command("run", "log in to a guest", "declare_ssh", "ssh"),
    "exec": Command("run", "run a program in a guest, by its agent", "declare_exec", "execute"),
    "cp": Command("run", "copy files to a guest, and back", "declare_cp", "cp"),
    "logs": Command("run", "what a guest's serial console said", "declare_logs", "logs"),
    "rm": Command("run", "remove guests that 'guest run' made", "declare_rm", "rm"),
    "compose": Command("compose", "guests and networks of one declarative file: up, down, plan, ps"),
    "image": Command("images", "images of installed systems: fetch, keep, remove"),
    "doctor": Command("doctor", "say what works on this host, what does not, and what mends it"),
    "host": Command("host", "change this host's network safely: bridges for guests"),
    "demo": Command("demo", "run a small real guest: daemon, network, console; all taken down after"),
}


def main(argv: list[str] | None = None) -> int:
    """Run guest with ``argv`` (default: the arguments of this process); returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
    try:
        command = COMMANDS[options.command]
        code = int(getattr(_module(command), command.run)(options))
        sys.stdout.flush()
        return code
    except GuesthouseError as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _module(command: Command) -> Any:
    return importlib.import_module(f"guesthouse.cli.guest.{command.module}")


class _Parser(argparse.ArgumentParser):
    """One that says what a mistyped word may have meant."""

    _words: Sequence[str] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = sys.argv[1:] if args is None else args
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return options

    def error(self, message: str) -> NoReturn:
        hint = ""
        if found := re.match(r"unrecognized arguments: (--[^ =]+)", message):
            hint = nearest.hint(found[1], self._known(self._words))
        elif found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message):
            hint = nearest.hint(found[1], re.findall(r"'([^']*)'", found[2]))
        super().error(f"{message}\n{hint}".rstrip())

    def _known(self, words: Sequence[str]) -> list[str]:
        """The options of this command, and of those below it that ``words`` name."""
        known: list[str] = []
        for action in self._actions:
            known += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for name in set(words) & set(action.choices):
                    known += action.choices[name]._known(words)
        return known


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser; only ``command``'s module is imported for its options, or all where it is None."""
    whole = _Parser(prog="guest", description="Guests on this host, from images to running machines.")
    whole.add_argument("--version", action="version", version=f"guest {__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, row in COMMANDS.items():
        each = commands.add_parser(name, help=row.help)
        if command in (None, name):
            getattr(_module(row), row.declare)(each)
    return whole
