"""A program on a terminal of its own: type, and wait for what it shows."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Sequence


class Terminal:
    """Runs ``argv`` on a new pseudo-terminal; ``text`` is all that it has shown, escape sequences and all."""

    def __init__(self, argv: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.text = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], list(argv), env if env is not None else dict(os.environ))

    def send(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, pattern: str, timeout: float = 60, *, start: int = 0) -> re.Match[str]:
        """Wait until the text from ``start`` on matches; raises TimeoutError with the last of what was shown."""
        deadline = time.monotonic() + timeout
        while True:
            if match := re.compile(pattern).search(self.text, start):
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise TimeoutError(f"{pattern!r} did not appear; the last words: {self.text[-1500:]!r}")

    def _read(self, timeout: float) -> bool:
        if not select.select([self._fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the far side is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def wait(self, timeout: float = 20) -> int:
        """Read on to the end; returns the exit status."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and self._read(left):
            pass
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise TimeoutError(f"still running; the last words: {self.text[-1500:]!r}")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        os.close(self._fd)
