"""What tests might leave on the machine: processes, network devices, namespaces, loop devices. Run as a program it prints
them, a line each, but for the processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import cgroups
from support.namespaces import alive

_PATIENCE = 5.0


def processes(base: Path) -> list[str]:
    """Command lines of processes that name ``base`` in them or in their environment; those that are just ending get
    some seconds."""
    deadline = time.monotonic() + _PATIENCE
    while found := _processes(os.fsencode(base) + b"/"):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found


def _processes(mark: bytes) -> list[str]:
    mine = {os.getpid(), os.getppid()}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) in mine or not alive(int(folder.name)):
            continue
        try:
            argv = (folder / "cmdline").read_bytes()
            marked = mark in argv or mark in (folder / "environ").read_bytes()
        except OSError:
            continue
        if marked:
            found.append(f"{folder.name} {argv.replace(bytes(1), b' ').decode(errors='replace')}")
    return found


def links_and_loops() -> set[str]:
    """Network devices of this namespace, named namespaces, and loop devices that have a file."""
    found = {f"link {path.name}" for path in Path("/sys/class/net").iterdir()}
    names = Path("/run/netns")
    found |= {f"namespace {path.name}" for path in names.iterdir()} if names.is_dir() else set()
    return found | {f"loop {path.parent.parent.name}" for path in Path("/sys/block").glob("loop*/loop/backing_file")}


if __name__ == "__main__":
    print("\n".join(sorted(links_and_loops() | {f"group {path}" for path in cgroups.left()})))


def groups(before: set[str]) -> set[str]:
    """Empty control groups of guests, but for those of ``before``; those of guests that are just ending, be they
    another session's, get some seconds."""
    deadline = time.monotonic() + _PATIENCE
    while found := cgroups.left() - before:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found
