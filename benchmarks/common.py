"""What the benchmarks share: who may run them, what they ran on, and where their tables go."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from pathlib import Path


def parser(text: str, rounds: int, what: str) -> argparse.ArgumentParser:
    """The options that each has: ``--rounds`` (of ``what``) and ``--write``. ``text`` begins with what it measures."""
    made = argparse.ArgumentParser(description=text.splitlines()[0])
    made.add_argument("--rounds", type=int, default=rounds, help=f"{what} (default {rounds})")
    made.add_argument("--write", type=Path, help="put the table between the marks of this file")
    return made


def parsed(options: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line's options; ends with a message where it is not root's."""
    args = options.parse_args()
    if os.geteuid():
        options.error("needs root: both daemons run as system daemons in namespaces")
    return args


def host() -> str:
    """The machine and its programs, for the line above a table."""
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    qemu = version.splitlines()[0].split("(")[0].strip()
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {qemu}, TCG"


def show(text: str, mark: str, file: Path | None) -> None:
    """Print a table, and put it between the marks named ``mark`` of ``file``, where one is given."""
    print(text)
    if file is not None:
        before, _, after = file.read_text().split(f"<!-- {mark} -->")
        file.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- {mark} -->{after}")
