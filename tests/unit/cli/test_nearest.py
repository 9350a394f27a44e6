"""Mistyped words: each program says which of its own come near, below the error that scripts know."""

from __future__ import annotations

import pytest

from guesthouse.cli.guest.main import main as guest
from guesthouse.cli.virsh.main import main as virsh
from guesthouse.cli.virt_clone.program import main as virt_clone
from guesthouse.cli.virt_install.program import main as virt_install
from guesthouse.cli.virt_xml.program import main as virt_xml

TEST = ["-c", "test:///default"]


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("list --al", "error: command 'list' doesn't support option --al", "hint: did you mean '--all'?"),
        (
            "dominfo --hlep test",
            "error: command 'dominfo' doesn't support option --hlep",
            "hint: did you mean '--help'?",
        ),
        ("dominfo --domian=test", "doesn't support option --domian", "hint: did you mean '--domain'?"),
        ("net-list --inactve", "doesn't support option --inactve", "hint: did you mean '--inactive'?"),
        ("dominfo --qqqqq test", "error: command 'dominfo' doesn't support option --qqqqq", ""),
        ("--conect x list", "error: unsupported option '--conect'. See --help.", "hint: did you mean '--connect'?"),
        ("--qqqqq", "error: unsupported option '--qqqqq'. See --help.", ""),
    ],
)
def test_virsh(line: str, error: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert virsh([*TEST, *line.split()]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith(error) and told[1:] == ([hint] if hint else [])


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("ls --jsn", "guest: error: unrecognized arguments: --jsn", "hint: did you mean '--json'?"),
        ("doctor --jsn=1 --qqqqq", "unrecognized arguments: --jsn=1 --qqqqq", "hint: did you mean '--json'?"),
        ("lst", "invalid choice: 'lst' (choose from", "hint: did you mean 'ls'?"),
        ("image pul x", "invalid choice: 'pul' (choose from", "hint: did you mean 'pull'?"),
        ("ls --qqqqq", "guest: error: unrecognized arguments: --qqqqq", ""),
    ],
)
def test_guest(line: str, error: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        guest(line.split())
    told = capsys.readouterr().err
    assert caught.value.code == 2 and error in told
    assert told.rstrip().endswith(hint) if hint else "hint" not in told


@pytest.mark.parametrize(
    ("program", "line", "hint"),
    [
        (virt_install, "--dsik x", "Did you mean --disk?"),
        (virt_install, "--name x --memory 64 --import --dry-run --disk sise=3", "Did you mean size, "),
        (virt_xml, "test --edit --dsik x", "Did you mean --disk?"),
        (virt_xml, "test --add-device --disk sise=3", "Did you mean size, "),
        (virt_clone, "--orignal test", "Did you mean --original?"),
    ],
)
def test_virt_tools(program: object, line: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(program) and program(["--connect", "test:///default", *line.split()])
    assert hint in capsys.readouterr().err
