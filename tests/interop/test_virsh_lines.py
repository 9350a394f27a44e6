"""Lines and tables as C virsh has them, without a daemon: its own commands, and libvirt's test driver for tables."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from guesthouse.cli.tables import format_table
from support.guesthoused import BIN

C_VIRSH = "/usr/bin/virsh"
OUR_VIRSH = str(BIN / "virsh")

LINES = [
    "echo a b",
    "echo  a   b ",
    "echo 'a  b' \"c  d\"",
    r"echo a\ b \'c\"",
    r'echo "a\"b\\c"',
    r"echo 'a\b'",
    "echo a; echo b",
    "echo a;;echo b;",
    "echo a #b",
    "echo a#b",
    "echo a\necho b",
    "echo a\\\nb",
    "# nothing",
    "#",
    "echo 'open",
    'echo "open',
    "echo dangling\\",
    "echo --shell 'a b' c \"it's\" ''",
    "echo --shell -- '$x' a~b 'a*' a=b",
    'echo --xml \'<a b="c">&\' "it\'s"',
    "echo --split a,b a,,b ,a",
    "echo --shell --xml a",
    "echo --err hello",
    "echo --hi",
    "echo --str a",
    "echo --string a --string b",
    "echo --string=a b",
    "echo --string",
    "echo -- --xml",
    "echo --xml=1 a",
    "echo --xml --xml a",
    "echo --nope",
    "echo",
    "echo ''",
    "pwd extra",
    "nonsense --help",
    "dumpxml",
    "dumpxml --nope a",
    "dumpxml a b",
    "domrename a",
    "list --all=1",
    "freecell --cellno",
    "freecell --help=1",
    "echo a; nonsense; echo b",
    "echo a; cd; echo b",
    "cd /; pwd",
    "quit; echo a",
    "help nonsense",
    "-- echo a",
]


def _run(program: str, *words: str, given: str | None = None, where: Path | None = None) -> tuple[int, str, str]:
    run = subprocess.run([program, *words], capture_output=True, text=True, input=given, timeout=30, cwd=where)
    hints = [line for line in run.stderr.splitlines(keepends=True) if not line.startswith("hint: ")]
    return run.returncode, run.stdout, "".join(hints)


@pytest.mark.parametrize("line", LINES)
def test_a_line_as_one_argument(line: str, tmp_path: Path) -> None:
    assert _run(OUR_VIRSH, line, where=tmp_path) == _run(C_VIRSH, line, where=tmp_path)


@pytest.mark.parametrize("line", [line for line in LINES if " " in line])
def test_the_same_as_several_arguments(line: str, tmp_path: Path) -> None:
    words = line.split(" ")
    assert _run(OUR_VIRSH, *words, where=tmp_path) == _run(C_VIRSH, *words, where=tmp_path)


def test_all_lines_in_the_shell(tmp_path: Path) -> None:
    lines = "".join(f"{line}\n" for line in LINES if not line.startswith(("quit", "cd")) and "cd;" not in line)
    assert _run(OUR_VIRSH, "-q", given=lines, where=tmp_path) == _run(C_VIRSH, "-q", given=lines, where=tmp_path)


NAMES = [
    "a",
    "long-name-that-makes-its-column-wide",
    "umlaut-äöü",
    "東京",
    "e\u0301",
    "emoji-🙂",
    "back\\x41slash",
    "nbsp-\u00a0x",
    "wide-\u3000blank",
]

GUEST = "<domain type='test'><name>{}</name><memory>8192</memory><os><type>hvm</type></os></domain>"


def test_tables(tmp_path: Path) -> None:
    lines = []
    for number, name in enumerate(NAMES):
        (tmp_path / f"{number}.xml").write_text(GUEST.format(name))
        lines.append(f"define {tmp_path}/{number}.xml\n")
    run = subprocess.run(
        [C_VIRSH, "-q", "-c", "test:///default", "".join(lines) + "echo MARK; list --all; echo MARK"],
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    shown = run.stdout.split("MARK")[1].lstrip("\n")
    rows = [["1", "test", "running"], *(["-", name, "shut off"] for name in NAMES)]
    want = sorted(format_table(["Id", "Name", "State"], rows, header=False).splitlines())
    assert sorted(shown.rstrip("\n").splitlines()) == want


def test_a_table_with_its_head() -> None:
    run = subprocess.run([C_VIRSH, "-c", "test:///default", "list"], capture_output=True, text=True, check=True)
    assert run.stdout == format_table(["Id", "Name", "State"], [["1", "test", "running"]]) + "\n"
    run = subprocess.run(
        [C_VIRSH, "-c", "test:///default", "list --inactive"], capture_output=True, text=True, check=True
    )
    assert run.stdout == format_table(["Id", "Name", "State"], []) + "\n"
