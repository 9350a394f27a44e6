"""The threads that do what would hold up the event loop: how many there are, and how many there may be."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

_MOST = 20  # as many workers as libvirtd has at most


class Figures(NamedTuple):
    """``started`` threads of ``most``, of which ``idle`` have nothing to do; ``waiting`` pieces of work have no thread."""

    most: int
    started: int
    idle: int
    waiting: int


class Threads:
    """The default executor of ``loop``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pool: ThreadPoolExecutor | None = None
        self.set_most(_MOST)

    def set_most(self, most: int) -> None:
        """Have at most so many from now on; what runs and waits is done by those that are there."""
        old = self._pool
        self.most = most
        self._pool = ThreadPoolExecutor(max_workers=most, thread_name_prefix="guesthoused")
        self._loop.set_default_executor(self._pool)
        if old is not None:
            old.shutdown(wait=False)

    def figures(self) -> Figures:
        pool: Any = self._pool  # what it knows of itself has no public names
        return Figures(self.most, len(pool._threads), pool._idle_semaphore._value, pool._work_queue.qsize())
