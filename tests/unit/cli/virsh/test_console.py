"""The console's loop, with a stream that a test holds and a terminal of its own."""

from __future__ import annotations

import os
import pty
import socket
import threading
import tty
from collections.abc import Iterator

import pytest

from guesthouse.cli.virsh import console


@pytest.mark.parametrize(
    ("written", "typed"), [("^]", b"\x1d"), ("^x", b"\x18"), ("^X", b"\x18"), ("^@", b"\0"), ("q", b"q")]
)
def test_escape_characters(written: str, typed: bytes) -> None:
    assert console.escape_code(written) == typed


class Guest:
    """Stands for the stream: what was sent to it, and what it says; ``None`` in ``says`` is for not yet."""

    def __init__(self, says: list[bytes | None]) -> None:
        self.near, self.far = socket.socketpair()
        self.says = says
        self.got = b""

    def fileno(self) -> int:
        return self.near.fileno()

    def recv(self, limit: int, *, wait: bool = True) -> bytes | None:
        return self.says.pop(0) if self.says else None

    def send(self, data: bytes) -> None:
        self.got += data


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written to it is read at descriptor 0, as from a terminal in raw mode."""
    far, near = pty.openpty()
    tty.setraw(near)
    saved = os.dup(0)
    os.dup2(near, 0)
    yield far
    os.dup2(saved, 0)
    for descriptor in (far, near, saved):
        os.close(descriptor)


def test_what_is_typed_reaches_the_guest_up_to_the_escape_character(keyboard: int) -> None:
    guest = Guest([])
    os.write(keyboard, b"ls -l\r\x1dnot this")
    console._relay(guest, b"\x1d")  # type: ignore[arg-type]
    assert guest.got == b"ls -l\r"


def test_what_the_guest_says_is_shown_until_its_end(keyboard: int, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console._relay(Guest([b"login: \xff", b"", b"never"]), b"\x1d")  # type: ignore[arg-type]
    assert capfdbinary.readouterr().out == b"login: \xff"


def test_a_guest_that_takes_nothing_in_can_be_left(keyboard: int) -> None:
    guest = Guest([])
    guest.near.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            guest.near.send(b"x" * 65536)  # now there is no room
    thread = threading.Thread(target=console._relay, args=(guest, b"\x1d"), daemon=True)
    thread.start()
    os.write(keyboard, b"typed in vain")
    os.write(keyboard, b"\x1d")
    thread.join(10)
    assert not thread.is_alive()
    assert guest.got == b""
