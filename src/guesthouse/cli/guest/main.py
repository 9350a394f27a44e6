"""The program: its commands, each a module that declares its options and runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from guesthouse import __version__
from guesthouse.errors import GuesthouseError

#: Command -> (module of this package, what help says of it). A module has ``declare(parser)`` and ``run(options)``.
COMMANDS = {
    "image": ("images", "images of installed systems: fetch, keep, remove"),
    "doctor": ("doctor", "say what works on this host, what does not, and what mends it"),
    "host": ("host", "change this host's network safely: bridges for guests"),
    "demo": ("demo", "run a small real guest: daemon, network, console; all taken down after"),
}


def main(argv: list[str] | None = None) -> int:
    """Run guest with ``argv`` (default: the arguments of this process); returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
    try:
        code = int(_module(options.command).run(options))
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


def _module(command: str) -> Any:
    return importlib.import_module(f"guesthouse.cli.guest.{COMMANDS[command][0]}")


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser; only ``command``'s module is imported for its options, or all where it is None."""
    whole = argparse.ArgumentParser(prog="guest", description="Guests on this host, from images to running machines.")
    whole.add_argument("--version", action="version", version=f"guest {__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, text) in COMMANDS.items():
        each = commands.add_parser(name, help=text)
        if command in (None, name):
            _module(name).declare(each)
    return whole
