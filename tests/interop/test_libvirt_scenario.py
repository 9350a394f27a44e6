"""One program, run by Debian's libvirt-python and by guesthouse.libvirt against both daemons: one transcript."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd
from support.namespaces import reachable, remove_tree

SCRIPT = Path(__file__).with_name("libvirt_scenario.py")
MODULES = {"libvirt": "/usr/bin/python3", "guesthouse.libvirt": sys.executable}


@pytest.fixture(scope="module")
def transcripts(
    c_libvirtd: Libvirtd, guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], list[str]]:
    work = reachable(tmp_path_factory.mktemp("scenario")) / "work"
    found = {}
    for name, daemon in (("libvirtd", c_libvirtd), ("guesthoused", guesthoused)):
        for module, python in MODULES.items():
            lines = _transcript(daemon, module, python, work)
            if name == "libvirtd" and "network events []" in lines:  # on a busy machine it sometimes sends none
                lines = _transcript(daemon, module, python, work)
            found[name, module] = lines
    return found


def _transcript(daemon: Libvirtd | Guesthoused, module: str, python: str, work: Path) -> list[str]:
    work.mkdir()
    work.chmod(0o777)
    argv = daemon.ns.command([python, str(SCRIPT), module, daemon.uri, str(work)])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (module, done.stdout[-500:], done.stderr)
    remove_tree(work)
    return done.stdout.splitlines()


@pytest.mark.parametrize("daemon", ["libvirtd", "guesthoused"])
def test_the_modules_cannot_be_told_apart(transcripts: dict[tuple[str, str], list[str]], daemon: str) -> None:
    theirs, ours = (transcripts[daemon, module] for module in MODULES)
    assert len(theirs) > 200
    assert ours == theirs


def test_the_daemons_cannot_be_told_apart(transcripts: dict[tuple[str, str], list[str]]) -> None:
    libvirtd, guesthoused = (_served(transcripts[name, "libvirt"]) for name in ("libvirtd", "guesthoused"))
    assert guesthoused == libvirtd


def _served(lines: list[str]) -> list[str]:
    """What every daemon has to serve alike."""
    return lines[: lines.index("== each")]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (signal.SIGKILL, "[1] 0 1 7 internal error: client socket is closed"),
        (signal.SIGSTOP, "[2] 0 1 7 internal error: connection closed due to keepalive timeout"),
    ],
    ids=["dead", "silent"],
)
def test_a_program_hears_that_its_daemon_is_gone(
    how: signal.Signals, words: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    daemon = Guesthoused(reachable(tmp_path_factory.mktemp("lost")))
    try:
        argv = daemon.ns.command([sys.executable, str(SCRIPT.with_name("libvirt_lost.py")), daemon.uri])
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready 1 []\n"
            os.kill(daemon.pid, how)
            assert program.communicate("go\n", timeout=60)[0] == f"{words}\n"
    finally:
        if how == signal.SIGSTOP:
            os.kill(daemon.pid, signal.SIGCONT)
        daemon.close()
