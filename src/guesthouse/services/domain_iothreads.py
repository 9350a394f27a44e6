"""A guest's threads for disks: which there are, where they run, and others while it runs."""

from __future__ import annotations

import os
from typing import Any

from guesthouse.errors import ConfigUnsupported, InvalidArg, OperationInvalid, OperationUnsupported, check_flags
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.board import iothread_ids
from guesthouse.model.domain import Domain
from guesthouse.model.threads import IoThread, IoThreadIds
from guesthouse.qemu import iothreads, pins, tuning
from guesthouse.services.context import Context
from guesthouse.services.control_groups import ControlGroups
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, looked_at, running
from guesthouse.services.domain_stats import vcpu_map
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.refs import DomainRef
from guesthouse.services.typed import checked
from guesthouse.units import format_cpus

_TUNABLE = 17
_INT_MAX = 2**31 - 1
_POLLS = {"poll_max_ns": "ullong", "poll_grow": "uint", "poll_shrink": "uint"}
_POOL = {"thread_pool_min": "int", "thread_pool_max": "int"}


class DomainIoThreads:
    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, groups: ControlGroups) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._groups = groups

    async def get_iothread_info(self, dom: DomainRef, flags: int) -> tuple[list[tuple[int, bytes]], int]:
        """Number and host CPUs of each."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainGetIOThreadInfo")
        guest = self._guests.find(dom)
        document = looked_at(guest, flags)
        host = set(range(os.cpu_count() or 1))
        length = -(-len(host) // 8)
        if impact(guest, flags)[0]:
            found = [
                (each.number, vcpu_map(os.sched_getaffinity(each.thread), length))
                for each in await iothreads.threads(running(guest))
            ]
        else:
            numbers = sorted(each.id or 0 for each in iothread_ids(document))
            found = [(number, vcpu_map(pins.iothread_pinned(document, number) or host, length)) for number in numbers]
        return found, len(found)

    async def pin_iothread(self, dom: DomainRef, iothreads_id: int, cpumap: bytes, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainPinIOThread")
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "pin-iothread"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            cpus = {8 * index + bit for index, byte in enumerate(cpumap) for bit in range(8) if byte >> bit & 1}
            if not cpus:
                raise InvalidArg("Empty iothread cpumap list for pinning")
            text = format_cpus(cpus)
            if changed is not None and _find(changed, iothreads_id) is None and not live:
                raise InvalidArg(f"iothreadid {iothreads_id} not found")
            if live:
                assert guest.live is not None
                threads = {each.number: each.thread for each in await iothreads.threads(running(guest))}
                if iothreads_id not in threads:
                    raise InvalidArg(f"iothread {iothreads_id} not found")
                tuning.bind([threads[iothreads_id]], cpus)
                _pin(guest.live, iothreads_id, text)
                keep_live(self._ctx, guest)
                told = {f"cputune.iothreadpin{iothreads_id}": ("string", text)}
                self._guests.tell(guest, _TUNABLE, {"params": told})
            if changed is not None:
                if _find(changed, iothreads_id) is None:
                    raise InvalidArg(f"iothreadid {iothreads_id} not found")
                _pin(changed, iothreads_id, text)
                keep(self._ctx, guest, changed)

    async def add_iothread(self, dom: DomainRef, iothread_id: int, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainAddIOThread")
        guest = self._guests.find(dom)
        _not_zero(iothread_id)
        async with self._jobs.changing(guest.uuid, "add-iothread"):
            live, changed = self._documents(guest, flags)
            for document in (changed, live):
                if document is not None and _find(document, iothread_id) is not None:
                    raise InvalidArg(f"an IOThread is already using iothread_id '{iothread_id}'")
            if live is not None:
                machine = running(guest)
                await iothreads.add(machine, iothread_id)
                _set(live, [*iothread_ids(live), IoThread(id=iothread_id)])
                await tuning.settle_pins(machine, live)
                await self._groups.place(guest, live)
                keep_live(self._ctx, guest)
            if changed is not None:
                _set(changed, [*iothread_ids(changed), IoThread(id=iothread_id)])
                keep(self._ctx, guest, changed)

    async def del_iothread(self, dom: DomainRef, iothread_id: int, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainDelIOThread")
        guest = self._guests.find(dom)
        _not_zero(iothread_id)
        async with self._jobs.changing(guest.uuid, "del-iothread"):
            live, changed = self._documents(guest, flags)
            for document in (changed, live):
                if document is not None:
                    _unused(document, iothread_id)
            if live is not None:
                await iothreads.remove(running(guest), iothread_id)
                _remove(live, iothread_id)
                keep_live(self._ctx, guest)
            if changed is not None:
                _remove(changed, iothread_id)
                keep(self._ctx, guest, changed)

    async def set_iothread_params(self, dom: DomainRef, iothread_id: int, params: Any, flags: int) -> None:
        """How a thread waits for work (while the guest runs alone), and how many workers it has."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetIOThreadParams")
        _not_zero(iothread_id)
        guest = self._guests.find(dom)
        wishes = checked(params, _POLLS | _POOL)
        _sane(wishes)
        async with self._jobs.changing(guest.uuid, "set-iothread-params"):
            live, changed = self._documents(guest, flags)
            for document in (changed, live):
                if document is None:
                    continue
                thread = _find(document, iothread_id)
                if thread is None:
                    raise InvalidArg(f"cannot find IOThread '{iothread_id}' in iothreadids")
                _in_order(thread, wishes, live=document is live)
                if document is changed and _POLLS.keys() & wishes.keys():
                    raise OperationUnsupported("configuring persistent polling values is not supported")
            if live is not None:
                named = {name.replace("_", "-"): value for name, value in wishes.items()}
                await iothreads.change(running(guest), iothread_id, named)
                _set_pool(live, iothread_id, wishes)
                keep_live(self._ctx, guest)
            if changed is not None:
                _set_pool(changed, iothread_id, wishes)
                keep(self._ctx, guest, changed)

    def _documents(self, guest: Guest, flags: int) -> tuple[Domain | None, Domain | None]:
        """The live document, and a copy of the definition: those that are to be changed."""
        live, config = impact(guest, flags)
        return guest.live if live else None, guest.definition.copy() if config and guest.definition else None


def _not_zero(number: int) -> None:
    if not number:
        raise InvalidArg("invalid value of 0 for iothread_id")


def _find(document: Domain, number: int) -> IoThread | None:
    return next((each for each in iothread_ids(document) if each.id == number), None)


def _set(document: Domain, threads: list[IoThread]) -> None:
    document.iothreads = len(threads) or None
    document.iothreadids = IoThreadIds(threads=threads) if threads else None


def _remove(document: Domain, number: int) -> None:
    threads = [each for each in iothread_ids(document) if each.id != number]
    if document.iothreadids is None and number == document.iothreads:  # the others are still counted from one
        document.iothreads = len(threads) or None
    else:
        _set(document, threads)
    pins.pin_iothread(document, number, None)


def _pin(document: Domain, number: int, cpuset: str) -> None:
    _set(document, iothread_ids(document))
    pins.pin_iothread(document, number, cpuset)


def _set_pool(document: Domain, number: int, wishes: dict[str, Any]) -> None:
    if not _POOL.keys() & wishes.keys():
        return
    _set(document, iothread_ids(document))
    thread = _find(document, number)
    assert thread is not None
    for name, field in (("thread_pool_min", "pool_min"), ("thread_pool_max", "pool_max")):
        if name in wishes:
            setattr(thread, field, None if wishes[name] == -1 else wishes[name])


def _unused(document: Domain, number: int) -> None:
    if _find(document, number) is None:
        raise InvalidArg(f"cannot find IOThread '{number}' in iothreadids list")
    for disk in document.dev.disks:
        if disk.driver is not None and disk.driver.iothread == number:
            raise InvalidArg(f"cannot remove IOThread {number} since it is being used by disk '{disk.dev}'")
    for controller in document.dev.controllers:
        if controller.driver is not None and controller.driver.iothread == number:
            raise InvalidArg(f"cannot remove IOThread '{number}' since it is being used by controller")


def _sane(wishes: dict[str, Any]) -> None:
    for name in _POLLS:
        if wishes.get(name, 0) > _INT_MAX:
            label = name.replace("_", "-")
            raise ConfigUnsupported(f"{label} ({wishes[name]}) must be less than or equal to {_INT_MAX}")
    lower, upper = wishes.get("thread_pool_min", 0), wishes.get("thread_pool_max", 1)
    if lower < -1:
        raise ConfigUnsupported(f"thread_pool_min ({lower}) must be equal to or greater than -1")
    if upper < -1 or upper == 0:
        raise ConfigUnsupported(f"thread_pool_max ({upper}) must be a positive number or -1")


def _in_order(thread: IoThread, wishes: dict[str, Any], *, live: bool) -> None:
    bounds = []
    for name, had in (("thread_pool_min", thread.pool_min), ("thread_pool_max", thread.pool_max)):
        wish = wishes.get(name)
        if live and wish is not None and wish < 0:
            text = f"{name} ({wish}) must be equal to or greater than 0 for live change"
            raise OperationInvalid(text, domain=ErrorDomain.QEMU)
        bounds.append(wish if wish is not None else -1 if had is None else had)
    if bounds[0] > bounds[1]:
        text = f"thread_pool_min ({bounds[0]}) can't be greater than thread_pool_max ({bounds[1]})"
        raise OperationInvalid(text, domain=ErrorDomain.QEMU)
