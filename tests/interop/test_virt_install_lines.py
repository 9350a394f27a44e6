"""Lines that use every option and every sub-option, beside what Debian's virt-install makes of them.

The lines stand in tests/data/virt_install/lines.txt. Its answers are kept in debian.json beside it, so that it runs only
with --regenerate; what its 4.1 does not know has our own answer in ours.json.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from guesthouse.cli.virt_install.families import FAMILIES
from guesthouse.cli.virt_install.options import OPTIONS, parse
from guesthouse.cli.virt_install.places import NUMBER, numbers_in
from guesthouse.cli.virt_install.program import main
from support.documents import differences

_FOLDER = Path(__file__).parents[1] / "data" / "virt_install"
_DEBIAN = "/usr/bin/virt-install"
# what a line does not say
_REST = {
    "--name": "demo",
    "--memory": "64",
    "--disk": "none",
    "--network": "none",
    "--graphics": "none",
    "--osinfo": "generic",
}
_SAME = {"--memory": ("--ram",), "--disk": ("--file",), "--network": ("--bridge",), "--graphics": ("--vnc",)}
# where ours differs from 4.1, and why
_KNOWN = {
    "input": "without a bus libvirt chooses one, as for virt-install 5.1",
    "rng-ends": "5.1 keeps one of the two ends; 4.1 both",
    "panic": "the model is libvirt's to choose, as for virt-install 5.1",
    "filesystem-virtiofs": "4.1 writes the socket as an element, which libvirt does not read",
    "filesystem-9p": "a mode that libvirt reads as the same one",
    "none": "4.1 takes 'none' for a type or a model of some devices",
}
# options that no document shows: they have tests of their own
_ELSEWHERE = (
    *("connect", "cdrom", "location", "pxe", "livecd", "extra-args", "initrd-inject", "install", "unattended", "init"),
    *(
        "cloud-init",
        "reinstall",
        "os-type",
        "hvm",
        "paravirt",
        "container",
        "virt-type",
        "arch",
        "machine",
        "accelerate",
    ),
    *("autostart", "transient", "destroy-on-exit", "wait", "autoconsole", "noautoconsole", "noreboot", "print-step"),
    *("dry-run", "check", "quiet", "debug", "prompt", "force", "version", "help", "sdl", "nographics", "nodisks"),
    *("nonetworks", "test-media-detection", "check-cpu", "launchSecurity", "title"),
)


def _lines() -> dict[str, list[str]]:
    found = {}
    for line in (_FOLDER / "lines.txt").read_text().splitlines():
        name, bar, text = line.partition(" | ")
        if bar and not line.startswith("#"):
            found[name] = shlex.split(text)
    return found


def _whole(argv: list[str]) -> list[str]:
    """``argv`` as a complete line."""
    rest = [
        word
        for option, value in _REST.items()
        if option not in argv and not any(other in argv for other in _SAME.get(option, ()))
        for word in (option, value)
    ]
    return ["--connect", "test:///default", *argv, *rest, "--import", "--print-xml"]


def _ours(argv: list[str]) -> str:
    """The document that we make, or the error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(_whole(argv))
    return out.getvalue() if code == 0 else f"exit code {code}: {err.getvalue()}"


def _debians(argv: list[str]) -> str | None:
    """The document that Debian's makes; None where it refuses the line."""
    done = subprocess.run([_DEBIAN, *_whole(argv)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else None


def _golden(name: str) -> dict[str, str]:
    file = _FOLDER / name
    return dict(json.loads(file.read_text())) if file.exists() else {}


def test_lines(request: pytest.FixtureRequest) -> None:
    lines = _lines()
    made = {name: _ours(argv) for name, argv in lines.items()}
    if request.config.getoption("--regenerate"):
        if not shutil.which(_DEBIAN):
            pytest.skip("no virt-install here")
        theirs = {name: text for name, argv in lines.items() if (text := _debians(argv)) is not None}
        own = {name: made[name] for name in lines if name not in theirs}
        for file, texts in (("debian.json", theirs), ("ours.json", own)):
            (_FOLDER / file).write_text(json.dumps(texts, indent=1, sort_keys=True) + "\n")
    debian, own = _golden("debian.json"), _golden("ours.json")
    wrong = []
    for name, text in made.items():
        expected = debian.get(name) or own.get(name)
        assert expected is not None, f"{name} has no answer yet: run with --regenerate"
        found = differences(expected, text, boot=False) or ([] if text.startswith("<domain") else [text])
        if (name in _KNOWN) != bool(found):
            wrong.append("\n".join([name, *(found or ["is no longer different: take it off the list"])]))
    assert not wrong, "\n\n".join(wrong)


def test_every_option_is_in_a_line() -> None:
    given = {name for argv in _lines().values() for name in parse(_whole(argv)).given}
    missing = [option.name for option in OPTIONS if option.name not in given and option.name not in _ELSEWHERE]
    assert missing == []


def test_every_key_of_virt_install_is_ours() -> None:
    """keys.txt has the keys of virt-install 5.1, old spellings included; that each of ours does something, and leads where
    its declaration says, is told by the unit tests."""
    missing = {}
    for line in (_FOLDER / "keys.txt").read_text().splitlines():
        name, _, keys = line.partition(": ")
        known = FAMILIES[name].keys()
        plain = [key.replace(NUMBER, "0") for key in keys.split()]
        lost = [key for key in plain if not any(numbers_in(ours, key) is not None for ours in known)]
        if lost:
            missing[name] = lost
    assert missing == {}
