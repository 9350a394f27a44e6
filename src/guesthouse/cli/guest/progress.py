"""How far something is, on one line of the terminal that is written anew; nothing where the output is no terminal."""

from __future__ import annotations

import sys
import time

from guesthouse.cli.guest.tables import size

_WIDTH = 28
_EVERY_S = 0.1


class Bar:
    """A progress bar. Call it with what is done and the whole (None: unknown) in bytes; :meth:`end` leaves the line."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begin = self._last = 0.0
        self._from = 0
        self._shown = sys.stderr.isatty()

    def __call__(self, done: int, whole: int | None) -> None:
        if not self._shown:
            return
        now = time.monotonic()
        if not self._begin:
            self._begin, self._from = now, done
        if now - self._last < _EVERY_S and done != whole:
            return
        self._last = now
        speed = (done - self._from) / max(now - self._begin, 0.001)
        text = f"{size(done)} at {size(speed)}/s"
        if whole:
            full = _WIDTH * done // whole
            left = f", {(whole - done) / speed:.0f} s left" if speed and done < whole else ""
            text = f"[{'#' * full}{'.' * (_WIDTH - full)}] {100 * done // whole:3}% of {size(whole)} at {size(speed)}/s{left}"
        print(f"\r{self._what}: {text}\033[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown and self._begin:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Steps:
    """What is being done and since when, for work whose length nobody knows. Call it with each step's name; where the
    output is no terminal, each is a line."""

    def __init__(self, what: str) -> None:
        self._what, self._begin, self._last = what, time.monotonic(), ""
        self._shown = sys.stderr.isatty()

    def __call__(self, step: str) -> None:
        if step == self._last:
            return
        self._last = step
        spent = time.monotonic() - self._begin
        if self._shown:
            print(f"\r{self._what} ({spent:.0f} s): {step}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(f"{self._what}: {step}", flush=True)

    def end(self) -> None:
        if self._shown and self._last:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
