"""The words for a guest's state and its reason (virDomainState and the reasons of each)."""

from __future__ import annotations

STATES = dict(enumerate(("no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended")))
_REASONS: dict[int, tuple[str, ...]] = {
    1: (
        *("unknown", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration canceled"),
        *("save canceled", "event wakeup", "crashed", "post-copy", "post-copy failed"),
    ),
    3: (
        *("unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot"),
        *("shutting down", "creating snapshot", "crashed", "starting up", "post-copy", "post-copy failed"),
    ),
    4: ("unknown", "user"),
    5: (
        *("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot"),
        "daemon",
    ),
    6: ("unknown", "panicked"),
}


def reason_text(state: int, reason: int) -> str:
    """The word for why a guest is in ``state``."""
    words = _REASONS.get(state, ())
    return words[reason] if 0 <= reason < len(words) else "unknown"
