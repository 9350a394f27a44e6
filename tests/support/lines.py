"""virsh lines through {C virsh, our virsh} x {C libvirtd, guesthoused}: four results that should be one transcript."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from support.guesthoused import BIN, Guesthoused
from support.libvirtd import Libvirtd

PROGRAMS = {"c": "/usr/bin/virsh", "ours": str(BIN / "virsh")}
# where a wrong value stands and what was expected, which we say beyond libvirt's text
_PLACE = re.compile(r" \(at [^)\n]*\)$", re.M)


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Put the files that lines name as {work}/NAME there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def run(
    daemon: Libvirtd | Guesthoused,
    program: str,
    work: Path,
    lines: Iterable[str],
    change: Callable[[str], str] = lambda text: text,
) -> list[Answer]:
    """What ``program`` says to each line, asked of ``daemon``; ``change`` evens out what cannot be equal."""
    answers = []
    for line in lines:
        done = daemon.run(*shlex.split(line.replace("{work}", str(work))), virsh=PROGRAMS[program])
        out, err = (change(_PLACE.sub("", text)).replace(str(work), "{work}") for text in (done.stdout, done.stderr))
        answers.append(Answer(done.returncode, out, err))
    return answers


def run_all(
    theirs: Libvirtd,
    ours: Guesthoused,
    work: Path,
    lines: list[str],
    change: Callable[[str], str] = lambda text: text,
) -> dict[tuple[str, str], list[Answer]]:
    """(daemon, program) -> what was said, with the keys of PROGRAMS for both; the daemons are asked at the same time."""

    def ask(daemon: Libvirtd | Guesthoused) -> list[list[Answer]]:
        return [run(daemon, program, work, lines, change) for program in PROGRAMS]

    with ThreadPoolExecutor(2) as pool:
        told = zip(PROGRAMS, pool.map(ask, (theirs, ours)), strict=True)
        return {(daemon, program): said for daemon, each in told for program, said in zip(PROGRAMS, each, strict=True)}


def compare(lines: list[str], want: list[Answer], have: list[Answer]) -> None:
    """Fails with all lines that differ, not the first alone."""
    pairs = zip(lines, want, have, strict=True)
    differ = [
        f"$ virsh {line}\nwant {str(first)[:2000]}\nhave {str(second)[:2000]}"
        for line, first, second in pairs
        if first != second
    ]
    assert not differ, "\n".join(differ)
