"""What the user is told, and where: progress on standard output, trouble on standard error."""

from __future__ import annotations

import sys
import time


class Report:
    """``quiet`` leaves progress and warnings out."""

    def __init__(self, quiet: bool = False, debug: bool = False) -> None:
        self.quiet = quiet
        self.debug = debug
        self._since = 0.0
        self._label = ""

    def say(self, text: str) -> None:
        """A line of progress."""
        if not self.quiet:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        if not self.quiet:
            print(f"WARNING  {text}", file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        """What ended the program."""
        print(f"ERROR    {text}", file=sys.stderr, flush=True)

    def begin(self, label: str) -> None:
        """A step that takes time begins."""
        self._label, self._since = label, time.monotonic()
        if not self.quiet and sys.stdout.isatty():
            print(f"\r{label:<50.50} | ...", end="", flush=True)

    def end(self, amount: str = "") -> None:
        """The step is over; ``amount`` is how much there was of it."""
        if self.quiet:
            return
        seconds = int(time.monotonic() - self._since)
        start = "\r" if sys.stdout.isatty() else ""
        passed = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        print(f"{start}{self._label:<50.50} | {amount:>9} {passed}", flush=True)
