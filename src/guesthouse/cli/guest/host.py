"""guest host: this host itself."""

from __future__ import annotations

import argparse

from guesthouse.cli.guest import host_bridge, host_setup


def declare(parser: argparse.ArgumentParser) -> None:
    """The commands below "guest host"."""
    parts = parser.add_subparsers(dest="part", metavar="PART", required=True)
    host_setup.declare(parts.add_parser("setup", help="packages, groups, commands, the daemon: all that guests need"))
    host_bridge.declare(parts.add_parser("bridge", help="bridges over network cards"))


def run(options: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    return host_setup.run(options) if options.part == "setup" else host_bridge.run(options)
