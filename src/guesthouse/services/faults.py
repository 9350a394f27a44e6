"""Places where a test may have the daemon die: between any two steps of a start, a stop, a save or a change."""

from __future__ import annotations

import os
import signal

#: Every step, in the order in which a start and then a stop pass them; then those of a save, and of a start from it;
#: then those of a device that comes, and leaves, and of a change of media.
STEPS = (
    *("start-checked", "start-row", "start-labelled", "start-grouped", "start-plugged", "start-spawned", "start-pid"),
    *("start-shaken", "start-facts", "start-running", "stop-row", "stop-dead", "stop-released"),
    *("save-row", "save-paused", "save-written", "save-flushed", "save-decided", "save-named"),
    *("companion-state", "companion-spawned", "companion-row"),
    *("restore-loaded", "restore-written", "restore-used"),
    *("attach-row", "attach-labelled", "attach-wired", "attach-plugged", "attach-done"),
    *("detach-checked", "detach-asked", "detach-backends", "detach-gone", "media-row", "media-changed"),
)


def step(name: str) -> None:
    """Die here, as by kill -9, where the environment's GUESTHOUSE_CRASH_AT says so (for tests)."""
    if os.environ.get("GUESTHOUSE_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
