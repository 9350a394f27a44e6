"""How much memory a guest has, how many processors, and where they run."""

from __future__ import annotations

import os
from typing import Any

from guesthouse.errors import (
    ArgumentUnsupported,
    ConfigUnsupported,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
    check_flags,
    from_wire,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.domain import Domain, Vcpu
from guesthouse.qemu import pins, tuning
from guesthouse.qemu.machine import Machine
from guesthouse.services.context import Context
from guesthouse.services.control_groups import ControlGroups
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, looked_at, running
from guesthouse.services.domain_agent import DomainAgent
from guesthouse.services.domain_stats import Params, vcpu_map
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.refs import DomainRef
from guesthouse.units import format_cpus, parse_cpus

_MAXIMUM, _GUEST, _HOTPLUGGABLE = 4, 8, 16
_TUNABLE = 17
_PERF = (
    *("cmt", "mbmt", "mbml", "cpu_cycles", "instructions", "cache_references", "cache_misses", "branch_instructions"),
    *("branch_misses", "bus_cycles", "stalled_cycles_frontend", "stalled_cycles_backend", "ref_cpu_cycles"),
    *("cpu_clock", "task_clock", "page_faults", "context_switches", "cpu_migrations", "page_faults_min"),
    *("page_faults_maj", "alignment_faults", "emulation_faults"),
)


class DomainTuning:
    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, agent: DomainAgent, groups: ControlGroups) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._agent = agent
        self._groups = groups
        # processors that each guest has had plugged in: its machine, and how many in all
        self._plugged: dict[str, tuple[Machine, int]] = {}

    # -- memory

    async def set_memory(self, dom: DomainRef, memory: int) -> None:
        await self.set_memory_flags(dom, memory, LIVE)

    async def set_max_memory(self, dom: DomainRef, memory: int) -> None:
        await self.set_memory_flags(dom, memory, _MAXIMUM)

    async def set_memory_flags(self, dom: DomainRef, memory: int, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG | _MAXIMUM, "qemuDomainSetMemoryFlags")
        if not memory:
            text = "memory in virDomainSetMemoryFlags must not be zero"
            raise from_wire(InvalidArg.code, ErrorDomain.DOMAIN, text)
        guest = self._guests.find(dom)
        async with self._jobs.changing(guest.uuid, "set-memory"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            if flags & _MAXIMUM:
                if live:
                    raise OperationInvalid(
                        "cannot resize the maximum memory on an active domain", domain=ErrorDomain.QEMU
                    )
                assert changed is not None
                changed.memory = memory
                changed.current_memory = min(changed.current_memory or memory, memory)
            else:
                for document in (guest.live if live else None, changed):
                    if document is not None and memory > (document.memory or 0):
                        raise InvalidArg("cannot set memory higher than max memory")
                if live:
                    await tuning.set_balloon(running(guest), memory)
                if changed is not None:
                    changed.current_memory = memory
            if changed is not None:
                keep(self._ctx, guest, changed)

    # -- processors

    async def set_vcpus(self, dom: DomainRef, nvcpus: int) -> None:
        await self.set_vcpus_flags(dom, nvcpus, LIVE)

    async def set_vcpus_flags(self, dom: DomainRef, nvcpus: int, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG | _MAXIMUM | _GUEST | _HOTPLUGGABLE, "qemuDomainSetVcpusFlags")
        guest = self._guests.find(dom)
        if flags & _GUEST:
            await self._agent.set_vcpu_count(dom, nvcpus)
            return
        async with self._jobs.changing(guest.uuid, "set-vcpus"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            if flags & _MAXIMUM:
                if live:
                    raise OperationInvalid(
                        "maximum vcpu count of a live domain can't be modified", domain=ErrorDomain.QEMU
                    )
                assert changed is not None
                self._set_most(changed, nvcpus)
            else:
                for document, what in ((guest.live if live else None, "live"), (changed, "persistent")):
                    if document is not None and nvcpus > document.cpu_count:
                        raise InvalidArg(
                            f"requested vcpus is greater than max allowable vcpus for the {what} domain:"
                            f" {nvcpus} > {document.cpu_count}"
                        )
                if live:
                    await self._plug(guest, set(range(nvcpus)))
                if changed is not None:
                    _set_current(changed, nvcpus)
            if changed is not None:
                keep(self._ctx, guest, changed)

    def _set_most(self, document: Domain, count: int) -> None:
        topology = document.cpu.topology if document.cpu is not None else None
        if topology is not None:
            product = (topology.sockets or 1) * (topology.dies or 1) * (topology.cores or 1) * (topology.threads or 1)
            if product != count:
                raise InvalidArg("CPU topology doesn't match the desired vcpu count")
        document.vcpu = document.vcpu or Vcpu()
        current = (document.vcpu.current or document.vcpu.value or 1) if document.vcpu else 1
        document.vcpu.value = count
        _set_current(document, min(current, count))

    async def _plug(self, guest: Guest, wanted: set[int]) -> None:
        """Plug processors in and out until the guest has those that are wanted; what was done before a failure stays."""
        machine = running(guest)
        live = guest.live
        assert live is not None
        places = await tuning.slots(machine)
        known, plugged = self._plugged.get(guest.uuid, (machine, 0))
        plugged = max(plugged if known is machine else 0, sum(place.present for place in places))
        try:
            for number, place in enumerate(places):
                if number in wanted and not place.present:
                    if live.type != "kvm" and plugged >= len(places):
                        raise OperationUnsupported(
                            "an emulated guest cannot have a processor again that was taken out: QEMU would end"
                        )
                    await tuning.plug_vcpu(machine, number, place)
                    plugged += 1
                    self._plugged[guest.uuid] = (machine, plugged)
            for number, place in reversed([*enumerate(places)]):
                if number not in wanted and place.present:
                    await tuning.unplug_vcpu(machine, number, place)
        finally:
            if machine.running:
                _set_current(live, sum(place.present for place in await tuning.slots(machine)))
                await tuning.settle_pins(machine, live)
                await self._groups.place(guest, live)
                keep_live(self._ctx, guest)

    async def set_vcpu(self, dom: DomainRef, cpumap: str, state: int, flags: int) -> None:
        """Plug single processors in or out."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetVcpu")
        guest = self._guests.find(dom)
        numbers = parse_cpus(cpumap)
        if state not in (0, 1):
            raise InvalidArg(f"state in qemuDomainSetVcpu must be 0 or 1, not {state}")
        async with self._jobs.changing(guest.uuid, "set-vcpu"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            if changed is not None:
                self._set_single(changed, numbers, bool(state))
            if live:
                await self._plug_single(guest, numbers, bool(state))
            if changed is not None:
                keep(self._ctx, guest, changed)

    async def _plug_single(self, guest: Guest, numbers: set[int], on: bool) -> None:
        places = await tuning.slots(running(guest))
        present = {number for number, place in enumerate(places) if place.present}
        for number in sorted(numbers):
            if number >= len(places):
                raise InvalidArg(f"vcpu {number} is not present in live config")
            if (number in present) == on:
                raise InvalidArg(f"vcpu '{number}' is already in requested state")
        if len(numbers) > 1:
            raise ArgumentUnsupported("only one hotpluggable entity can be selected")
        await self._plug(guest, present | numbers if on else present - numbers)

    def _set_single(self, document: Domain, numbers: set[int], on: bool) -> None:
        current = (document.vcpu and document.vcpu.current) or document.cpu_count
        present = set(range(current))
        if 0 in numbers:
            raise InvalidArg("vCPU '0' can't be modified")
        if any(number >= document.cpu_count for number in numbers):
            raise InvalidArg(f"vcpu {max(numbers)} is not present in persistent config")
        present = present | numbers if on else present - numbers
        if present != set(range(len(present))):
            raise ConfigUnsupported("a definition with gaps between its processors is not supported yet")
        _set_current(document, len(present))

    # -- where they run

    async def pin_vcpu(self, dom: DomainRef, vcpu: int, cpumap: bytes) -> None:
        await self.pin_vcpu_flags(dom, vcpu, cpumap, LIVE)

    async def pin_vcpu_flags(self, dom: DomainRef, vcpu: int, cpumap: bytes, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainPinVcpuFlags")
        await self._pin(self._guests.find(dom), vcpu, cpumap, flags)

    async def pin_emulator(self, dom: DomainRef, cpumap: bytes, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainPinEmulator")
        await self._pin(self._guests.find(dom), None, cpumap, flags)

    async def _pin(self, guest: Guest, vcpu: int | None, cpumap: bytes, flags: int) -> None:
        async with self._jobs.changing(guest.uuid, "pin"):
            live, config = impact(guest, flags)
            changed = guest.definition.copy() if config and guest.definition else None
            for document, what in ((guest.live if live else None, "live"), (changed, "persistent")):
                if vcpu is not None and document is not None and vcpu >= document.cpu_count:
                    raise InvalidArg(f"vcpu {vcpu} is out of range of {what} cpu count {document.cpu_count}")
            cpus = {8 * index + bit for index, byte in enumerate(cpumap) for bit in range(8) if byte >> bit & 1}
            if not cpus:
                raise InvalidArg("Empty cpu list for pinning")
            text = format_cpus(cpus)
            if live:
                assert guest.live is not None
                pinned = guest.live.copy()
                pins.pin(pinned, vcpu, text)
                await tuning.settle_pins(running(guest), pinned)
                guest.live.cputune = pinned.cputune
                keep_live(self._ctx, guest)
                name = "cputune.emulatorpin" if vcpu is None else f"cputune.vcpupin{vcpu}"
                self._guests.tell(guest, _TUNABLE, {"params": {name: ("string", text)}})
            if changed is not None:
                pins.pin(changed, vcpu, text)
                keep(self._ctx, guest, changed)

    def get_vcpu_pin_info(self, dom: DomainRef, ncpumaps: int, maplen: int, flags: int) -> tuple[bytes, int]:
        check_flags(flags, LIVE | CONFIG, "qemuDomainGetVcpuPinInfo")
        document = looked_at(self._guests.find(dom), flags)
        count = min(ncpumaps, document.cpu_count)
        maps = [pins.pinned(document, number) for number in range(count)]
        return b"".join(vcpu_map(_all() if cpus is None else cpus, maplen) for cpus in maps), count

    def get_emulator_pin_info(self, dom: DomainRef, maplen: int, flags: int) -> tuple[bytes, int]:
        check_flags(flags, LIVE | CONFIG, "qemuDomainGetEmulatorPinInfo")
        cpus = pins.emulator_pinned(looked_at(self._guests.find(dom), flags))
        return vcpu_map(_all() if cpus is None else cpus, maplen), 1

    # -- what the processor counts

    def get_perf_events(self, dom: DomainRef, flags: int) -> Params:
        check_flags(flags, LIVE | CONFIG | 4, "qemuDomainGetPerfEvents")
        looked_at(self._guests.find(dom), flags & ~4)
        return dict.fromkeys(_PERF, ("boolean", 0))

    def set_perf_events(self, dom: DomainRef, params: Any, flags: int) -> None:
        """None can be counted; to end one is no change."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetPerfEvents")
        guest = self._guests.find(dom)
        for param in params:
            if param.field not in _PERF:
                raise ArgumentUnsupported(f"parameter '{param.field}' not supported", domain=ErrorDomain.NONE)
        impact(guest, flags)
        for param in params:
            if param.value:
                raise ArgumentUnsupported(
                    f"unable to enable host cpu perf event for {param.field}", domain=ErrorDomain.QEMU
                )


def _set_current(document: Domain, count: int) -> None:
    document.vcpu = document.vcpu or Vcpu(value=document.cpu_count)
    document.vcpu.current = None if count == document.vcpu.value else count


def _all() -> set[int]:
    return set(range(os.cpu_count() or 1))
