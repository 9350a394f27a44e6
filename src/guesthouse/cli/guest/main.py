"""The program: its commands and their options."""

from __future__ import annotations

import argparse
import os
import sys

from guesthouse import __version__
from guesthouse.errors import GuesthouseError


def main(argv: list[str] | None = None) -> int:
    """Run guest with ``argv`` (default: the arguments of this process); returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = _parser(whole=words[:1] != ["doctor"]).parse_args(words)
    try:
        if options.command == "doctor":
            from guesthouse.cli.guest import doctor

            code = doctor.run(as_json=options.json)
        elif options.command == "host":
            from guesthouse.cli.guest import host_bridge

            code = host_bridge.run(options)
        else:
            from guesthouse.cli.guest import demo

            code = demo.run(keep=options.keep)
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


def _parser(*, whole: bool = True) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="guest", description="Guests on this host: see whether they can run.")
    parser.add_argument("--version", action="version", version=f"guest {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="say what works on this host, what does not, and what mends it",
        description="Look at all that guests need on this host, and change nothing.",
        epilog="The exit code is 1 where something fails that guests need, else 0.",
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as one JSON document")
    demo = commands.add_parser(
        "demo",
        help="run a small real guest: daemon, network, console; all taken down after",
        description="Start a daemon of its own on a temporary folder and in a network namespace of its own, run a small"
        " Linux guest on it, and take everything down again. The host's guests and networks are not touched.",
    )
    demo.add_argument("--keep", action="store_true", help="keep the temporary folder, with its logs, for a look")
    host = commands.add_parser("host", help="change this host's network safely: bridges for guests")
    if whole:
        from guesthouse.cli.guest import host_bridge

        parts = host.add_subparsers(dest="part", metavar="PART", required=True)
        host_bridge.declare(parts.add_parser("bridge", help="bridges over network cards"))
    return parser
