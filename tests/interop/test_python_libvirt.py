"""A program written for libvirt-python, run by Debian's own against both daemons: one transcript."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import tour
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd
from support.namespaces import reachable

SCRIPT = Path(__file__).with_name("python_libvirt.py")
FILES = Path(__file__).with_name("python_libvirt_files.py")


def test_one_transcript(
    c_libvirtd: Libvirtd, guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = tmp_path_factory.mktemp("pylibvirt")
    xml = tour.PLAIN.replace("</domain>", "<devices><graphics type='vnc'/></devices></domain>")
    (work / "guest.xml").write_text(xml)
    transcripts = []
    for daemon in (c_libvirtd, guesthoused):
        argv = daemon.ns.command(["/usr/bin/python3", str(SCRIPT), daemon.uri, str(work / "guest.xml")])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        transcripts.append(done.stdout.splitlines())
    assert transcripts[1] == transcripts[0]


def test_open_files_travel(
    c_libvirtd: Libvirtd, guesthoused: Guesthoused, tmp_path_factory: pytest.TempPathFactory
) -> None:
    transcripts = []
    for daemon in (c_libvirtd, guesthoused):
        for python, module in (("/usr/bin/python3", "libvirt"), (sys.executable, "guesthouse.libvirt")):
            work = reachable(tmp_path_factory.mktemp("files"))
            argv = daemon.ns.command([python, str(FILES), module, daemon.uri, str(work)])
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
            transcripts.append(done.stdout.splitlines())
    assert len(transcripts[0]) > 20
    for transcript in transcripts[1:]:
        assert transcript == transcripts[0]
