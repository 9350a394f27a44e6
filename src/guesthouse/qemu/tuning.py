"""What a running guest may have more or less of: memory, processors, and the host CPUs that its threads run on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, NamedTuple

from guesthouse.errors import ConfigUnsupported, OperationInvalid, OperationTimeout, OperationUnsupported, SystemFailure
from guesthouse.model.domain import Domain
from guesthouse.qemu import figures, iothreads, throttle
from guesthouse.qemu.machine import Machine
from guesthouse.qemu.pins import emulator_pinned, iothread_pinned, pinned, schedulers

# how long a guest gets to let a processor go (seconds); libvirt waits as long
_UNPLUG = 5.0
_POLL = 0.05


class Slot(NamedTuple):
    """A place for a processor: what to plug in, and whether it can be taken out (``alias`` of the one in it)."""

    driver: str
    props: dict[str, Any]
    present: bool
    alias: str


async def settle(machine: Machine, live: Domain, *, fresh: bool = True) -> None:
    """What a guest that does not run yet is told over the monitor: its processors, its memory, how often to report it,
    where its threads run, which links are down, how fast its disks may be. One that is not ``fresh`` brings with it
    how much memory it left to the host."""
    await plug_enabled(machine, live)
    balloon = live.dev.memballoon
    if balloon is not None and balloon.model != "none":
        if fresh and live.current_memory and live.memory and live.current_memory < live.memory:
            await set_balloon(machine, live.current_memory)
        if balloon.stats is not None and balloon.stats.period:
            await figures.set_balloon_period(machine, balloon.stats.period)
    for nic in live.dev.interfaces:
        if nic.link is not None and nic.link.state == "down" and nic.alias is not None:
            await machine.execute("set_link", {"name": nic.alias.name, "up": False})
    await throttle.settle(machine, live)
    await settle_pins(machine, live)


async def settle_pins(machine: Machine, live: Domain) -> None:
    """Have the guest's threads run where the document says; those of which it says nothing are left as they are."""
    if live.cputune is None and not (live.vcpu is not None and live.vcpu.cpuset):
        return
    policies = schedulers(live)
    schedule(machine.pid, policies.get("emulator"))
    if (cpus := emulator_pinned(live)) is not None:
        bind(await emulator_threads(machine), cpus)
    for vcpu in await figures.vcpus(machine):
        if (cpus := pinned(live, vcpu.number)) is not None:
            bind([vcpu.thread], cpus)
        schedule(vcpu.thread, policies.get(f"vcpu{vcpu.number}"))
    for thread in await iothreads.threads(machine):
        if (cpus := iothread_pinned(live, thread.number)) is not None:
            bind([thread.thread], cpus)
        schedule(thread.thread, policies.get(f"iothread{thread.number}"))


async def set_balloon(machine: Machine, kib: int) -> None:
    """Have the guest's balloon leave it so much. Raises OperationInvalid where there is no balloon."""
    if await figures.balloon_actual(machine) is None:
        raise OperationInvalid(
            "Unable to change memory of active domain without the balloon device and guest OS balloon driver",
            domain=10,
        )
    await machine.execute("balloon", {"value": kib * 1024})


# -- processors


async def slots(machine: Machine) -> list[Slot]:
    """The places for processors, by number of the processor."""
    found = await machine.execute("query-hotpluggable-cpus")
    found.sort(key=lambda item: [item["props"].get(f"{level}-id", 0) for level in ("socket", "die", "core", "thread")])
    out = []
    for item in found:
        path = item.get("qom-path", "")
        alias = path.rpartition("/")[2] if path.startswith("/machine/peripheral/") else ""
        out.append(Slot(item["type"], item["props"], bool(path), alias))
    return out


async def plug_enabled(machine: Machine, live: Domain) -> None:
    """Plug in the processors that are there from the start and may go, in their order."""
    wanted = [vcpu for vcpu in live.vcpus.vcpus if vcpu.enabled and vcpu.hotpluggable] if live.vcpus is not None else []
    if not wanted:
        return
    places = await slots(machine)
    for vcpu in sorted(wanted, key=lambda vcpu: (vcpu.order or 0, vcpu.id or 0)):
        await plug_vcpu(machine, vcpu.id or 0, places[vcpu.id or 0])


async def plug_vcpu(machine: Machine, number: int, slot: Slot) -> None:
    await machine.execute("device_add", {"driver": slot.driver, "id": f"vcpu{number}", **slot.props})


async def unplug_vcpu(machine: Machine, number: int, slot: Slot) -> None:
    """Ask the guest to let the processor go. Raises OperationUnsupported for one that it was started with, and
    OperationTimeout where the guest does not do it at once; it may do so later."""
    if not slot.alias:
        raise OperationUnsupported(f"vcpu '{number}' can't be unplugged")
    await machine.execute("device_del", {"id": slot.alias})
    deadline = asyncio.get_running_loop().time() + _UNPLUG
    while (await slots(machine))[number].present:
        if asyncio.get_running_loop().time() > deadline:
            raise OperationTimeout(
                "vcpu unplug request timed out. Unplug result must be manually inspected in the domain"
            )
        await asyncio.sleep(_POLL)


# -- where threads run


async def emulator_threads(machine: Machine) -> list[int]:
    """The threads of the process that are neither processors nor there for disks alone."""
    others = {vcpu.thread for vcpu in await figures.vcpus(machine)} - {machine.pid}
    others |= {thread.thread for thread in await iothreads.threads(machine)}
    return [thread for name in _tasks(machine.pid) if (thread := int(name)) not in others]


def _tasks(pid: int) -> list[str]:
    try:
        return sorted(entry.name for entry in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def bind(threads: list[int], cpus: set[int]) -> None:
    """Let the threads run on these CPUs of the host alone. Raises SystemFailure; threads that ended are passed by."""
    for thread in threads:
        try:
            os.sched_setaffinity(thread, cpus)
        except ProcessLookupError:
            continue
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot set CPU affinity on process {thread}", domain=0) from None


_POLICIES = {"batch": os.SCHED_BATCH, "idle": os.SCHED_IDLE, "fifo": os.SCHED_FIFO, "rr": os.SCHED_RR}


def schedule(thread: int, policy: tuple[str, int] | None) -> None:
    """Have the host schedule the thread so; None leaves it as it is. Raises ConfigUnsupported for a priority that there
    is not, SystemFailure; a thread that has ended is passed by."""
    if policy is None:
        return
    number, priority = _POLICIES[policy[0]], policy[1]
    low, high = os.sched_get_priority_min(number), os.sched_get_priority_max(number)
    if not low <= priority <= high:
        raise ConfigUnsupported(f"Scheduler priority {priority} out of range [{low}, {high}]", domain=0)
    try:
        os.sched_setscheduler(thread, number, os.sched_param(priority))
    except ProcessLookupError:
        return
    except OSError as error:
        what = f"Cannot set scheduler parameters for pid {thread}"
        raise SystemFailure.from_os(error, what, domain=0) from None
