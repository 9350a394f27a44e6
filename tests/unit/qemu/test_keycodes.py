"""Key codes: each set names the same keys."""

from __future__ import annotations

import pytest

from guesthouse.cli.virsh import keynames
from guesthouse.qemu.keycodes import CODESETS, to_qnum
from guesthouse.units import format_cpus, parse_cpus


@pytest.mark.parametrize(
    ("codeset", "code"),
    [
        *(("linux", 103), ("xt", 0xE048), ("atset1", 0xE048), ("atset2", 0xE075), ("atset3", 0x63), ("os_x", 0x7E)),
        *(("xt_kbd", 0x148), ("usb", 82), ("win32", 0x26), ("qnum", 0xC8)),
    ],
)
def test_the_up_arrow_in_every_set(codeset: str, code: int) -> None:
    assert to_qnum(codeset, code) == 0xC8


def test_no_such_key() -> None:
    assert [to_qnum(codeset, 9999) for codeset in CODESETS if codeset != "qnum"] == [None] * 9
    assert to_qnum("qnum", 9999) == 9999, "QEMU's own are passed on"


def test_names() -> None:
    assert keynames.find("linux", "KEY_UP") == 103
    assert keynames.find("os_x", "ANSI_A") == 0 and keynames.find("win32", "VK_UP") == 0x26
    assert keynames.find("linux", "KEY_NOPE") is None and keynames.find("usb", "KEY_UP") is None


@pytest.mark.parametrize(("text", "short"), [("0-3,^2", "0-1,3"), ("7", "7"), ("3,1,2", "1-3"), ("1,^1", "")])
def test_lists_of_cpus(text: str, short: str) -> None:
    assert format_cpus(parse_cpus(text)) == short
