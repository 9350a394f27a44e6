"""Ctrl-C while a daemon is at work: the step ends first, so that what it made is known and can be taken back."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Gate:
    """Inside of it the signals that end a program wait for :meth:`check`, which raises KeyboardInterrupt. What waits
    still at its end is raised there."""

    def __init__(self) -> None:
        self.pending = False
        self._old: list[Any] = []

    def __enter__(self) -> Self:
        self._old = [signal.signal(number, self._note) for number in _SIGNALS]
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, old in zip(_SIGNALS, self._old, strict=True):
            signal.signal(number, old)
        if kind is None:
            self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.pending:
            print("\nInterrupted; the step at hand ends first.", file=sys.stderr, flush=True)
        self.pending = True

    def check(self) -> None:
        """Raises KeyboardInterrupt where a signal came."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt
