"""Jobs that take long enough to be watched and given up: a save today. A domain has one at a time, under its lock;
asking about it and giving it up may run beside."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from guesthouse.errors import OperationAborted, OperationInvalid, check_flags
from guesthouse.services.documents import running
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.refs import DomainRef

# virDomainJobType
_NONE, _UNBOUNDED, _COMPLETED = 0, 2, 3
_STATS_COMPLETED, _STATS_KEEP = 1, 2
_ABORT_POSTCOPY = 1
_CONTROL_OK, _CONTROL_JOB = 0, 1
_JOB_COMPLETED_EVENT = 21

Params = dict[str, tuple[str, Any]]
# a field of virDomainGetJobStats, and where query-migrate has it
_FROM_QEMU = (
    *(("downtime", ("downtime",)), ("setup_time", ("setup-time",))),
    *(("data_total", ("ram", "total")), ("data_processed", ("ram", "transferred"))),
    *(("data_remaining", ("ram", "remaining")), ("memory_total", ("ram", "total"))),
    *(("memory_processed", ("ram", "transferred")), ("memory_remaining", ("ram", "remaining"))),
    *(("memory_constant", ("ram", "duplicate")), ("memory_normal", ("ram", "normal"))),
    *(("memory_normal_bytes", ("ram", "normal-bytes")), ("memory_dirty_rate", ("ram", "dirty-pages-rate"))),
    *(("memory_iteration", ("ram", "dirty-sync-count")), ("memory_postcopy_requests", ("ram", "postcopy-requests"))),
    ("memory_page_size", ("ram", "page-size")),
)


class LongJob:
    """One that is under way. ``operation`` is a virDomainJobOperation, ``title`` is how errors call it.

    ``cancel`` asks whoever does the work to give up, who then calls :meth:`check`.
    """

    def __init__(self, operation: int, title: str, cancel: Callable[[], Awaitable[None]]) -> None:
        self.operation = operation
        self.title = title
        self.cancel = cancel
        self.cancelled = False
        self._began = time.monotonic()
        self._progress: dict[str, Any] = {}

    @property
    def elapsed(self) -> int:
        """Milliseconds."""
        return int((time.monotonic() - self._began) * 1000)

    def tell(self, progress: dict[str, Any]) -> None:
        """Note what QEMU's query-migrate says."""
        self._progress = progress

    def check(self) -> None:
        """Raises OperationAborted where the job was given up."""
        if self.cancelled:
            raise OperationAborted(f"job '{self.title}' canceled by client")

    def stats(self) -> Params:
        out: Params = {"operation": ("int", self.operation), "time_elapsed": ("ullong", self.elapsed)}
        for name, path in _FROM_QEMU:
            value: Any = self._progress
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                out[name] = ("ullong", int(value))
            if name == "memory_remaining" and (speed := self._progress.get("ram", {}).get("mbps")):
                out["memory_bps"] = ("ullong", int(speed * 1_000_000 / 8))
        return out


class LongJobs:
    """The jobs of all domains, and libvirt's procedures about them."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._jobs: dict[str, LongJob] = {}
        self._completed: dict[str, Params] = {}

    def begin(self, guest: Guest, job: LongJob) -> None:
        """Make it known. The caller holds the domain's lock."""
        self._jobs[guest.uuid] = job
        self._completed.pop(guest.uuid, None)

    def end(self, guest: Guest, *, completed: bool) -> None:
        """It is over; where it was ``completed`` that is told, and its statistics are kept to be asked for."""
        job = self._jobs.pop(guest.uuid)
        if completed:
            stats = job.stats()
            self._guests.tell(guest, _JOB_COMPLETED_EVENT, {"params": stats})
            if guest.persistent:
                self._completed[guest.uuid] = stats

    def get_job_info(self, dom: DomainRef) -> tuple[int, ...]:
        guest = self._guests.find(dom)
        running(guest)
        job = self._jobs.get(guest.uuid)
        if job is None:
            return (0,) * 12
        stats = job.stats()

        def amounts(kind: str) -> tuple[int, int, int]:
            total, done, left = (stats.get(f"{kind}_{n}", ("", 0))[1] for n in ("total", "processed", "remaining"))
            return total, done, left

        return _UNBOUNDED, job.elapsed, 0, *amounts("data"), *amounts("memory"), 0, 0, 0

    def get_job_stats(self, dom: DomainRef, flags: int) -> tuple[int, Params]:
        check_flags(flags, _STATS_COMPLETED | _STATS_KEEP, "qemuDomainGetJobStats")
        guest = self._guests.find(dom)
        if flags & _STATS_COMPLETED:
            stats = self._completed.get(guest.uuid)
            if stats is None:
                return _NONE, {}
            if not flags & _STATS_KEEP:
                del self._completed[guest.uuid]
            return _COMPLETED, stats
        running(guest)
        job = self._jobs.get(guest.uuid)
        return (_NONE, {}) if job is None else (_UNBOUNDED, job.stats())

    async def abort_job(self, dom: DomainRef) -> None:
        await self.abort_job_flags(dom, 0)

    async def abort_job_flags(self, dom: DomainRef, flags: int) -> None:
        check_flags(flags, _ABORT_POSTCOPY, "qemuDomainAbortJobFlags")
        guest = self._guests.find(dom)
        running(guest)
        job = self._jobs.get(guest.uuid)
        if job is None:
            raise OperationInvalid("no job is active on the domain")
        if flags & _ABORT_POSTCOPY:
            raise OperationInvalid("current job is not outgoing migration in post-copy mode")
        job.cancelled = True
        await job.cancel()

    def get_control_info(self, dom: DomainRef, flags: int) -> tuple[int, int, int]:
        check_flags(flags, 0, "qemuDomainGetControlInfo")
        guest = self._guests.find(dom)
        running(guest)
        job = self._jobs.get(guest.uuid)
        return (_CONTROL_OK, 0, 0) if job is None else (_CONTROL_JOB, 0, job.elapsed)

    def forget(self, uuid: str) -> None:
        self._completed.pop(uuid, None)
