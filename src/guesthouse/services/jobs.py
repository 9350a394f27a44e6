"""One changing job a domain at a time; queries do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from guesthouse.errors import OperationTimeout
from guesthouse.services.admission import again

# libvirt's own limit (QEMU_JOB_WAIT_TIME)
_WAIT = 30.0


class Jobs:
    """The locks of all domains, by UUID."""

    def __init__(self, wait: float = _WAIT) -> None:
        self._wait = wait
        self._locks: dict[str, asyncio.Lock] = {}
        self._owners: dict[str, str] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def settle(self, seconds: float) -> None:
        """Wait for the jobs that are under way, at most so long."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            pass

    @asynccontextmanager
    async def changing(self, uuid: str, what: str) -> AsyncIterator[None]:
        """Hold the domain's lock while the body runs. Raises OperationTimeout where another job does not end in 30 s,
        AccessDenied where the guest has become another's meanwhile; then nothing has happened."""
        lock = self._locks.setdefault(uuid, asyncio.Lock())
        if lock.locked():
            try:
                await asyncio.wait_for(lock.acquire(), self._wait)
            except TimeoutError:
                owner = self._owners.get(uuid, "another job")
                raise OperationTimeout(f"cannot acquire state change lock (held by {owner})") from None
        else:
            await lock.acquire()  # free: does not wait
        self._owners[uuid] = what
        self._idle.clear()
        try:
            again()
            yield
        finally:
            self._owners.pop(uuid, None)
            if not self._owners:
                self._idle.set()
            lock.release()

    def forget(self, uuid: str) -> None:
        """The domain is gone for good."""
        if (lock := self._locks.get(uuid)) is not None and not lock.locked():
            del self._locks[uuid]
