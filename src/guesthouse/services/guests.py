"""The guests of this host as the daemon knows them: definitions, live documents, states, and finding one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from guesthouse.errors import NoDomain, OperationFailed
from guesthouse.host.cgroups import Group
from guesthouse.model.domain import Cpu, Domain
from guesthouse.qemu.machine import Machine
from guesthouse.services.context import Context
from guesthouse.services.events import Event
from guesthouse.services.refs import DomainRef

KIND = "domain"


class State(IntEnum):
    """virDomainState."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    SHUTOFF = 5
    CRASHED = 6
    PMSUSPENDED = 7


class Reason:
    """Reasons of states, as libvirt numbers them: each name begins with the state that it belongs to."""

    RUNNING_BOOTED = 1
    RUNNING_RESTORED = 3
    RUNNING_UNPAUSED = 5
    RUNNING_WAKEUP = 6
    RUNNING_SAVE_CANCELED = 7
    PAUSED_UNKNOWN = 0
    PAUSED_USER = 1
    PAUSED_MIGRATION = 2
    PAUSED_SAVE = 3
    PAUSED_IOERROR = 5
    PAUSED_WATCHDOG = 6
    PAUSED_SHUTTING_DOWN = 8
    PAUSED_CRASHED = 10
    PAUSED_STARTING_UP = 11
    SHUTOFF_UNKNOWN = 0
    SHUTOFF_SHUTDOWN = 1
    SHUTOFF_DESTROYED = 2
    SHUTOFF_CRASHED = 3
    SHUTOFF_SAVED = 5
    SHUTOFF_FAILED = 6


class Lifecycle:
    """virDomainEventType with the details that are used, as (event, detail)."""

    DEFINED_ADDED = (0, 0)
    DEFINED_UPDATED = (0, 1)
    DEFINED_RENAMED = (0, 2)
    UNDEFINED_REMOVED = (1, 0)
    UNDEFINED_RENAMED = (1, 1)
    STARTED_BOOTED = (2, 0)
    STARTED_WAKEUP = (2, 4)
    STARTED_RESTORED = (2, 2)
    SUSPENDED_PAUSED = (3, 0)
    SUSPENDED_IOERROR = (3, 2)
    SUSPENDED_WATCHDOG = (3, 3)
    SUSPENDED_RESTORED = (3, 4)
    RESUMED_UNPAUSED = (4, 0)
    RESUMED_FROM_SNAPSHOT = (4, 2)
    STOPPED_SHUTDOWN = (5, 0)
    STOPPED_DESTROYED = (5, 1)
    STOPPED_CRASHED = (5, 2)
    STOPPED_SAVED = (5, 4)
    STOPPED_FAILED = (5, 5)
    SHUTDOWN_FINISHED = (6, 0)
    SHUTDOWN_GUEST = (6, 1)
    SHUTDOWN_HOST = (6, 2)
    PMSUSPENDED_MEMORY = (7, 0)
    CRASHED_PANICKED = (8, 0)


@dataclass
class Guest:
    """A domain. ``definition`` is the persistent document, ``live`` the one of the running guest."""

    name: str
    uuid: str
    definition: Domain | None = None
    live: Domain | None = None
    id: int = -1
    state: State = State.SHUTOFF
    reason: int = Reason.SHUTOFF_UNKNOWN
    autostart: bool = False
    machine: Machine | None = None
    labels: list[dict[str, Any]] = field(default_factory=list)
    #: there is a managed save image, which the next start uses up
    saved: bool = False
    #: a reboot was asked for: when the guest powers off, it is reset instead
    reboot_wanted: bool = False
    #: its end is under way: what QEMU says meanwhile is no news
    stopping: bool = False
    console: Any = None
    #: the processor that was asked for, where what QEMU made of it is another
    asked_cpu: Cpu | None = None
    #: the control group that it is in while it runs, where there are any
    cgroup: Group | None = None

    @property
    def ref(self) -> DomainRef:
        return DomainRef(self.name, self.uuid, self.id)

    @property
    def active(self) -> bool:
        return self.live is not None

    @property
    def persistent(self) -> bool:
        return self.definition is not None

    @property
    def current(self) -> Domain:
        """The live document, or the definition of a guest that does not run."""
        document = self.live or self.definition
        assert document is not None
        return document

    def set_state(self, state: State, reason: int) -> None:
        self.state, self.reason = state, reason


class Guests:
    """All guests, by UUID and by name."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._by_uuid: dict[str, Guest] = {}
        self._by_name: dict[str, Guest] = {}

    def __iter__(self) -> Any:
        return iter(tuple(self._by_uuid.values()))

    def add(self, guest: Guest) -> Guest:
        self._by_uuid[guest.uuid] = guest
        self._by_name[guest.name] = guest
        return guest

    def remove(self, guest: Guest) -> None:
        self._by_uuid.pop(guest.uuid, None)
        self._by_name.pop(guest.name, None)

    def find(self, ref: DomainRef) -> Guest:
        """By UUID alone: the rest of a handle may be stale. Raises NoDomain."""
        guest = self._by_uuid.get(ref.uuid)
        if guest is None:
            raise NoDomain(f"no domain with matching uuid '{ref.uuid}' ({ref.name})")
        return guest

    def same(self, domain: Domain) -> Guest | None:
        """The guest that ``domain`` is another document of. Raises OperationFailed where name or UUID is another's."""
        name, uuid = domain.name or "", domain.uuid or ""
        guest = self._by_uuid.get(uuid)
        if guest is not None and guest.name != name:
            raise OperationFailed(f"domain '{guest.name}' is already defined with uuid {uuid}")
        other = self._by_name.get(name)
        if guest is None and other is not None:
            raise OperationFailed(f"domain '{name}' already exists with uuid {other.uuid}")
        return guest

    def by_uuid(self, uuid: str) -> Guest | None:
        return self._by_uuid.get(uuid)

    def by_name(self, name: str) -> Guest | None:
        return self._by_name.get(name)

    def by_id(self, number: int) -> Guest | None:
        return next((g for g in self._by_uuid.values() if g.id == number and g.active), None)

    def emit(self, guest: Guest, what: tuple[int, int]) -> None:
        """Tell of a lifecycle event."""
        self.tell(guest, 0, {"event": what[0], "detail": what[1]})

    def tell(self, guest: Guest, event_id: int, args: dict[str, Any]) -> None:
        self._ctx.events.emit(Event(KIND, event_id, guest.ref, args))

    def tell_monitor(self, guest: Guest, name: str, data: dict[str, Any], seconds: float) -> None:
        """Tell of an event of QEMU's own, for those who ask for it as it is."""
        whole = int(seconds)
        details = json.dumps(data, separators=(",", ":")) if data else None
        args = {"event": name, "seconds": whole, "micros": round((seconds - whole) * 1e6) % 10**6, "details": details}
        self._ctx.events.emit(Event("qemu", 0, guest.ref, args))
