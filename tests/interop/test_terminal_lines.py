"""What virsh shows on a terminal and writes into its log, key for key beside C virsh: the prompt, history, completion,
^C and ^D, waiting for events, the console's escape character."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from support.guesthoused import BIN
from support.terminal import Terminal

PROGRAMS = ("/usr/bin/virsh", str(BIN / "virsh"))
PROMPT = r"virsh [#>] "
POLKIT = re.compile(r"Authorization not available[^\n]*\n")
URI = "test:///default"

# keys, and what must have come before the next are typed (nothing: the prompt)
SESSION: list[tuple[str, str]] = [
    ("\n", ""),
    ("   \n", ""),
    ("# nothing\n", ""),
    ("uri; uri\n", ""),
    ("nope\n", ""),
    ("quit now\n", ""),
    ('echo "a\n', ""),
    ("echo a\\\n", ""),
    ("echo 'a b' \"c d\" e\\ f\n", ""),
    ("cd /nonexistent\n", ""),
    ("dominfo nope\n", ""),
    ("domstate 1\n", ""),
    ("domid 6695eb01-f6a4-8304-79aa-97f2502e193f\n", ""),
    ("\x1b[A\n", ""),
    ("list\x04", "list\x07"),
    ("\n", ""),
    ("list --al\t", "--all "),
    ("\n", ""),
    ("domstate t\t", "test "),
    ("\n", ""),
    ("domstate --domain=t\t", "=test "),
    ("\n", ""),
    ("net-info d\t", "default "),
    ("\n", ""),
    ("uri; domuui\t", "domuuid "),
    ("t\t", "test "),
    ("\n", ""),
    ("event --all --loop\n", "--loop\r\n"),
    ("\x03", ""),
    ("net-event --event lifecycle --timeout 1\n", ""),
    ("console test\n", ""),
    ("connect qemu+unix:///system?socket=/nonexistent\n", ""),
    ("uri\n", ""),
    ("connect --readonly\n", ""),
    ("uri\n", ""),
]


class Pair:
    """The same keys to both programs."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.terminals = []
        for number, program in enumerate(PROGRAMS):
            home = folder / str(number)
            home.mkdir(exist_ok=True)
            env = {**os.environ, "HOME": str(home), "TERM": "dumb"}
            env.pop("XDG_CACHE_HOME", None)
            self.terminals.append(Terminal([program, "-c", URI, *args], env))
        self._marks = [0, 0]

    def expect(self, pattern: str) -> None:
        for number, terminal in enumerate(self.terminals):
            self._marks[number] = terminal.expect(pattern, 20, start=self._marks[number]).end()

    def send(self, keys: str) -> None:
        for terminal in self.terminals:
            terminal.send(keys)

    def ended(self) -> list[tuple[int, str]]:
        """How each ended, and what it showed."""
        return [(terminal.wait(), shown(terminal.text)) for terminal in self.terminals]

    def close(self) -> None:
        for terminal in self.terminals:
            terminal.close()


def shown(text: str) -> str:
    text = POLKIT.sub("", text).replace("(unknown)", "(booted)")
    return re.sub(r"\(Time: [\d.]+ ms\)", "(Time)", text)


def test_the_prompt(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    try:
        pair.expect(PROMPT)
        for keys, then in SESSION:
            if keys == "\x03":
                time.sleep(0.6)  # nothing is shown before the first event
            pair.send(keys)
            pair.expect(re.escape(then) if then else PROMPT)
        pair.send("quit\n")
        c, ours = pair.ended()
        assert c == ours
        assert c[0] == 0 and c[1].count("event loop interrupted") == 1 and c[1].endswith("virsh > quit\r\n\r\n")
    finally:
        pair.close()
    for home in ("0", "1"):  # what was typed is kept for the next time
        kept = (tmp_path / home / ".cache/libvirt/virsh/history").read_text().splitlines()
        assert kept[-1] == "quit" and "domstate --domain=test " in kept


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        ("", "\x04"),
        ("-q", "list\nquit\n"),
        ("-r", "quit\n"),
        ("-t", "list\nexit\n"),
        ("event --event lifecycle", "\x03"),
        ("-q event --all --loop", "\x03"),
        ("-t net-event --event lifecycle --loop --timestamp", "\x03"),
        ("event --all --timestamp --timeout 1", ""),
        ("event --event nope", ""),
        ("-e ^X console test", ""),
        ("-e ^x console test", ""),
        ("-e q console test", ""),
        ("--escape ^[ console test", ""),
        ("--escape=^] console test --force", ""),
        ("-e^a console test --safe", ""),
        ("-q console test", ""),
        ("-e ^1 console test", ""),
        ("-e ^ console test", ""),
        ("-e xx console test", ""),
        ("-e é console test", ""),
        ("-e", ""),
        ("-k 3 -K 2 uri", ""),
        ("-k 0 uri", ""),
        ("-K -1 uri", ""),
    ],
)
def test_on_a_terminal(tmp_path: Path, args: str, keys: str) -> None:
    pair = Pair(tmp_path, *args.split())
    try:
        if keys == "\x03":
            time.sleep(0.6)  # nothing is shown before the first event
        elif keys:
            pair.expect(PROMPT)
        for line in keys.splitlines(keepends=True):
            pair.send(line)
            if line == "list\n":
                pair.expect(PROMPT)
        c, ours = pair.ended()
        assert c == ours
    finally:
        pair.close()


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ("--log LOG dominfo nope", {}),
        ("-l LOG -d 0 domstate test", {}),
        ("-l LOG -d 0 domid 6695eb01-f6a4-8304-79aa-97f2502e193f", {}),
        ("-l LOG -d 0 domstate 1", {}),
        ("-l LOG -d 0 domstate 99 --reason", {}),
        ("-l LOG -d 0 net-info dd8fe884-6c02-601e-7551-cca97df1c5df", {}),
        ("-l LOG -d 0 pool-name dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566", {}),
        ("-l LOG -d 1 nwfilter-dumpxml x", {}),
        ("-l LOG -d 0 vol-info x default-pool", {}),
        ("-l LOG -d 1 secret-dumpxml x", {}),
        ("-l LOG -d 4 nope", {}),
        ("-l /nonexistent/x uri", {}),
        ("-d 9 uri", {}),
        ("-d x uri", {}),
        ("uri", {"VIRSH_LOG_FILE": "LOG", "VIRSH_DEBUG": "0"}),
        ("dominfo nope", {"VIRSH_LOG_FILE": "LOG", "VIRSH_DEBUG": "1"}),
        ("uri", {"VIRSH_LOG_FILE": "/nonexistent/x"}),
    ],
)
def test_the_log(tmp_path: Path, args: str, env: dict[str, str]) -> None:
    told = []
    for program in PROGRAMS:
        file = tmp_path / "log"
        file.unlink(missing_ok=True)
        words = [word.replace("LOG", str(file)) for word in args.split()]
        extra = {name: value.replace("LOG", str(file)) for name, value in env.items()}
        done = subprocess.run(
            [program, "-c", URI, *words],
            capture_output=True,
            text=True,
            env={**os.environ, **extra},
            stdin=subprocess.DEVNULL,
        )
        log = file.read_text() if file.exists() else ""
        log = re.sub(r"^\[\d{4}(\.\d\d){2} (\d\d:){2}\d\d virsh \d+\]", "[]", log, flags=re.MULTILINE)
        told.append((done.returncode, *(POLKIT.sub("", text) for text in (done.stdout, done.stderr, log))))
    assert told[0] == told[1]
