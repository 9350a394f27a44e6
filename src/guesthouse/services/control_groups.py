"""Guests' control groups: each guest is in one of its own, which holds it to what its document says it may take.

The group has the guest's processes; threads of QEMU have groups below it only where the document (or a call) treats
them apart: "emulator", "vcpuN", "iothreadN".
"""

from __future__ import annotations

import asyncio
import hashlib
import os

from guesthouse.errors import ConfigUnsupported
from guesthouse.host.cgroups import Group, Hierarchies, machine_name, partition_path
from guesthouse.model.domain import Domain
from guesthouse.model.tuning import CpuTune
from guesthouse.qemu import figures, iothreads, tuning
from guesthouse.services.context import Context, Paths
from guesthouse.services.guests import Guest
from guesthouse.units import parse_cpus

#: (period, quota), by what they hold for; libvirt's names begin with it.
Bandwidths = dict[str, tuple[int, int]]
_LIMITS = ("hard_limit", "soft_limit", "swap_hard_limit")
_RATES = ("weight", "read_iops_sec", "write_iops_sec", "read_bytes_sec", "write_bytes_sec")


class ControlGroups:
    """Makes, finds and removes them. A session daemon's guests have none."""

    def __init__(self, ctx: Context, hierarchies: Hierarchies | None = None) -> None:
        self.session = ctx.mode != "system" or os.geteuid() != 0
        self._hierarchies = hierarchies or (Hierarchies.none() if self.session else Hierarchies.find())
        # another daemon's guests may have the same numbers and names
        own = ctx.paths == Paths.system()
        self._mark = "" if own else f"-{hashlib.blake2s(os.fsencode(ctx.paths.run), digest_size=3).hexdigest()}"

    def plan(self, live: Domain, number: int) -> str | None:
        """The path of the group that a guest is to have, None for none. Raises ConfigUnsupported, with libvirt's words,
        where the document asks for what cannot be had."""
        partition = (live.resource and live.resource.partition) or "/machine"
        if not partition.startswith("/"):
            raise ConfigUnsupported(f"Resource partition '{partition}' must start with '/'")
        offered = self._hierarchies.controllers
        bandwidths = _bandwidths(live)
        if live.blkiotune is not None and "blkio" not in offered:
            raise ConfigUnsupported("Block I/O tuning is not available " + self._where)
        if live.memtune is not None and "memory" not in offered:
            lost = "Memory tuning" if self.session else "Memory cgroup"
            raise ConfigUnsupported(f"{lost} is not available {self._where}")
        if "cpu" not in offered and live.cputune is not None:
            if live.cputune.shares is not None or (self.session and bandwidths):
                raise ConfigUnsupported("CPU tuning is not available " + self._where)
            if bandwidths:
                raise ConfigUnsupported("cgroup cpu is required for scheduler tuning")
        if not self._hierarchies.groups:
            return None
        return f"{partition_path(partition)}/{machine_name(number, live.name or '', self._mark)}"

    @property
    def _where(self) -> str:
        return "in session mode" if self.session else "on this host"

    def find(self, guest: Guest, path: str | None) -> None:
        """Know the group again that a row tells of."""
        guest.cgroup = Group(self._hierarchies, path) if path else None

    def make(self, guest: Guest, live: Domain, path: str | None) -> None:
        """Make the group of a guest that is about to start, with the limits that hold for all of it. :meth:`leave` is
        to follow in any case."""
        self.find(guest, path)
        if guest.cgroup is not None:
            guest.cgroup.make()
            _limit(guest.cgroup, live)

    def enter(self, guest: Guest, pids: list[int]) -> asyncio.Future[None]:
        """Begin to put processes into the guest's group, for the caller to wait for before the guest runs: at times the
        kernel waits for all CPUs, which is no reason for a start to."""
        group = guest.cgroup

        def work() -> None:
            for pid in pids:
                assert group is not None
                group.join(pid)

        return asyncio.ensure_future(asyncio.to_thread(work) if group is not None else asyncio.sleep(0))

    async def leave(self, guest: Guest) -> None:
        """Take the group of a guest away whose processes have ended."""
        group, guest.cgroup = guest.cgroup, None
        if group is not None:
            await asyncio.to_thread(group.remove)

    def of(self, guest: Guest, controller: str) -> Group | None:
        """The running guest's group, where ``controller`` holds for it."""
        return guest.cgroup if guest.cgroup is not None and guest.cgroup.has(controller) else None

    async def place(self, guest: Guest, live: Domain) -> None:
        """Have the guest's threads in the groups that ``live`` asks for, with their limits, and all its memory on the
        nodes that it names. The guest may be running."""
        group, machine = guest.cgroup, guest.machine
        if group is None or machine is None:
            return
        limits, nodes, own = _bandwidths(live), _strict_nodes(live), _nodes_by_vcpu(live)
        cpuset = group.has("cpuset")
        if nodes and cpuset:
            await asyncio.to_thread(group.set_nodes, nodes)
        if not limits.keys() & {"vcpu", "emulator", "iothread"} and not (own and cpuset):
            return
        wanted: list[tuple[str, list[int], tuple[int, int], str | None]] = []
        if "vcpu" in limits or own:
            for vcpu in await figures.vcpus(machine):
                entry = own.get(vcpu.number) if cpuset else None
                wanted.append((f"vcpu{vcpu.number}", [vcpu.thread], limits.get("vcpu", (0, 0)), entry))
        if "emulator" in limits:
            wanted.append(("emulator", await tuning.emulator_threads(machine), limits["emulator"], None))
        if "iothread" in limits:
            for thread in await iothreads.threads(machine):
                wanted.append((f"iothread{thread.number}", [thread.thread], limits["iothread"], None))

        def settle() -> None:
            for name, threads, (period, quota), entry in wanted:
                child = group.make_child(name)
                if period or quota:
                    child.set_bandwidth(period, quota)
                if entry:
                    child.set_nodes(entry)
                child.take(threads)

        await asyncio.to_thread(settle)


def _limit(group: Group, live: Domain) -> None:
    if live.blkiotune is not None:
        if live.blkiotune.weight:
            group.set_weight(live.blkiotune.weight)
        for device in live.blkiotune.devices:
            for rate in _RATES:
                if value := getattr(device, rate):
                    group.set_device(rate, device.path or "", value)
    if live.memtune is not None:
        for limit in _LIMITS:
            if (value := getattr(live.memtune, limit)) is not None:
                group.set_memory(limit, value)
    if live.cputune is not None:
        if live.cputune.shares is not None:
            group.set_shares(live.cputune.shares)
        group_wide = _bandwidths(live).get("global")
        if group_wide is not None:
            group.set_bandwidth(*group_wide)


def _bandwidths(live: Domain) -> Bandwidths:
    """Those that the document limits."""
    tune = live.cputune or CpuTune()
    found = {
        "vcpu": (tune.period or 0, tune.quota or 0),
        "global": (tune.global_period or 0, tune.global_quota or 0),
        "emulator": (tune.emulator_period or 0, tune.emulator_quota or 0),
        "iothread": (tune.iothread_period or 0, tune.iothread_quota or 0),
    }
    return {name: limit for name, limit in found.items() if any(limit)}


def _strict_nodes(live: Domain) -> str | None:
    """The nodes that all memory must lie on."""
    memory = live.numatune.memory if live.numatune is not None else None
    if memory is None or (memory.mode or "strict") not in ("strict", "restrictive"):
        return None
    return memory.nodeset


def _nodes_by_vcpu(live: Domain) -> dict[int, str]:
    """The nodes of processors whose cell is held to some by nothing but their group."""
    nodes = live.numatune.nodes if live.numatune is not None else []
    held = {node.cellid: node.nodeset or "" for node in nodes if node.mode == "restrictive"}
    cells = [cell for cell in live.cells if cell.id in held and cell.cpus]
    return {cpu: held[cell.id] for cell in cells for cpu in parse_cpus(cell.cpus or "")}
