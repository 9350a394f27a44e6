"""``guest doctor`` on the machine at hand, as root and as somebody else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from support.guesthoused import BIN

LINE = re.compile(r"(ok  |warn|FAIL)  (\S[^:]*): +(\S.*)")
REMEDY = re.compile(r" {22}-> \S")
NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
USERS = [pytest.param([], id="self"), pytest.param(NOBODY, id="nobody")]


def doctor(*args: str, as_user: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    if as_user and os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    argv = [*as_user, str(BIN / "guest"), "doctor", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, cwd="/")


@pytest.mark.parametrize("as_user", USERS)
def test_text(as_user: list[str]) -> None:
    run = doctor(as_user=as_user)
    assert run.stderr == ""
    body, _, summary = run.stdout.rstrip("\n").rpartition("\n\n")
    marks = []
    for line in body.split("\n"):
        if match := LINE.fullmatch(line):
            marks.append(match[1].strip())
        else:
            assert REMEDY.match(line), line
            assert marks
    assert len(marks) >= 14
    assert run.returncode == (1 if "FAIL" in marks else 0)
    assert ("fail" in summary) == ("FAIL" in marks)


@pytest.mark.parametrize("as_user", USERS)
def test_json_says_the_same(as_user: list[str]) -> None:
    text, found = doctor(as_user=as_user), doctor("--json", as_user=as_user)
    assert found.stderr == "" and found.returncode == text.returncode
    told = json.loads(found.stdout)
    assert told["usable"] == (found.returncode == 0)
    lines = [match for line in text.stdout.split("\n") if (match := LINE.fullmatch(line))]
    assert [(m[1].strip().lower(), m[2]) for m in lines] == [(f["mark"], f["topic"]) for f in told["findings"]]
    assert all(f["remedy"] for f in told["findings"] if f["mark"] != "ok")


def test_qemu_is_found_as_it_is() -> None:
    program = shutil.which("qemu-system-x86_64")
    assert program
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    version = words.split("version ")[1].split()[0]
    told = json.loads(doctor("--json", as_user=[]).stdout)
    [qemu] = [f for f in told["findings"] if f["topic"] == "QEMU"]
    assert version in qemu["text"]


def test_nobody_is_told_of_groups() -> None:
    told = json.loads(doctor("--json", as_user=NOBODY).stdout)
    found = {f["topic"]: f for f in told["findings"]}
    assert found["group libvirt"]["mark"] == "warn" and "nobody" in found["group libvirt"]["remedy"]


def test_help() -> None:
    run = subprocess.run([BIN / "guest", "--help"], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0 and "doctor" in run.stdout and "demo" in run.stdout
    run = subprocess.run([BIN / "guest"], capture_output=True, text=True, timeout=30)
    assert run.returncode == 2 and run.stderr.startswith("usage: guest")


def test_reader_that_leaves_early() -> None:
    """A pipe that closes is no error to talk about."""
    run = subprocess.run(f"{BIN}/guest doctor --json | true", shell=True, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
