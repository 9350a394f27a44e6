"""A guest's serial console as a dialogue: what it says, line by line, and what its shell answers."""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Iterator

from guesthouse.client import Domain
from guesthouse.errors import OperationFailed

_ANSWER_TIMEOUT = 15.0
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[c7-9]|[\x00-\x08\x0b-\x1f\x7f]")


def _plain(data: bytes) -> str:
    """Text without what steers a terminal."""
    return _CONTROL.sub(b"", data).decode(errors="replace")


class Console:
    """The guest's serial console: shown line by line, and typed into. Methods raise OperationFailed where what they
    wait for does not come in time."""

    _PROMPT = "/ # "

    def __init__(self, guest: Domain, show: Callable[[str], None]) -> None:
        self._stream = guest.open_console()
        self._show = show
        self._unread = b""

    def show_until(self, end: str, timeout: float) -> None:
        """Show what comes up to the line ``end``."""
        for line in self._lines(timeout):
            if line:
                self._show(line)
            if line == end:
                return
        raise OperationFailed(f"the guest did not print '{end}' in {timeout:.0f} s")

    def wait_for_prompt(self) -> None:
        """Pass over what the shell says of itself."""
        self._until_prompt()

    def ask(self, command: str) -> None:
        """Type ``command`` to the guest's shell, and show it and the answer."""
        self._stream.send(f"{command}\n".encode())
        answer = self._until_prompt()[1:]  # without its echo
        for line in [f"# {command}", *answer]:
            self._show(line)

    def _until_prompt(self) -> list[str]:
        lines: list[str] = []
        for line in self._lines(_ANSWER_TIMEOUT):
            if line == self._PROMPT:
                return lines
            if line:
                lines.append(line)
        raise OperationFailed(f"the guest's shell did not answer in {_ANSWER_TIMEOUT:.0f} s")

    def _lines(self, timeout: float) -> Iterator[str]:
        """Lines without control characters, and prompts, until ``timeout`` seconds have passed or the guest is gone."""
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                yield _plain(line).rstrip()
            if _plain(self._unread) == self._PROMPT:
                self._unread = b""
                yield self._PROMPT
            data = self._stream.recv(4096, wait=False)
            if data:
                self._unread += data
            elif data == b"" or (left := deadline - time.monotonic()) <= 0:
                return
            else:
                select.select([self._stream], [], [], left)

    def close(self) -> None:
        self._stream.abort()
