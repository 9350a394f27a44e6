"""The event bus: services tell what happened, the daemon's sessions listen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``scope`` is "domain", "network" or "storage_pool", ``id`` libvirt's number of the kind
    of event in it, ``ref`` the handle of what it happened to, ``args`` the other fields of libvirt's message."""

    scope: str
    id: int
    ref: Any
    args: dict[str, Any]


Listener = Callable[[Event], None]


class EventBus:
    """Calls each listener with each event, in order, at once. Listeners must be quick; one that raises is logged."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def emit(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                _log.exception("an event listener failed on %s", event)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have ``listener`` called with each event until the returned function is called."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe
