"""What share of the host a guest gets: of its processors, memory, disks and nodes; asked, and changed while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from guesthouse.errors import (
    ConfigUnsupported,
    GuesthouseError,
    InvalidArg,
    OperationInvalid,
    OperationUnsupported,
    check_flags,
)
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.host.cgroups import UNLIMITED, Group
from guesthouse.model.domain import Domain
from guesthouse.model.memory import NumaMemory, Numatune
from guesthouse.model.tuning import BlkioDevice, BlkioTune, CpuTune, MemTune
from guesthouse.model.tuning_rules import PERIODS, QUOTAS, tidy
from guesthouse.services.context import Context
from guesthouse.services.control_groups import ControlGroups
from guesthouse.services.documents import CONFIG, LIVE, impact, keep, keep_live, looked_at
from guesthouse.services.domain_stats import Params
from guesthouse.services.guests import Guest, Guests
from guesthouse.services.jobs import Jobs
from guesthouse.services.refs import DomainRef
from guesthouse.services.typed import checked
from guesthouse.units import format_cpus, parse_cpus

_STRING_OKAY = 4
_TUNABLE = 17
_MODES = ("strict", "preferred", "interleave", "restrictive")
_MEMORY = ("hard_limit", "soft_limit", "swap_hard_limit")
_BANDWIDTHS = ("vcpu", "emulator", "global", "iothread")
# a parameter's name -> its field in the document, its kind
_SCHEDULER = {
    "cpu_shares": ("shares", "ullong"),
    **{
        f"{what}_{name}": (name if what == "vcpu" else f"{what}_{name}", kind)
        for what in _BANDWIDTHS
        for name, kind in (("period", "ullong"), ("quota", "llong"))
    },
}
_RATES = {
    "device_weight": "weight",
    "device_read_iops_sec": "read_iops_sec",
    "device_write_iops_sec": "write_iops_sec",
    "device_read_bytes_sec": "read_bytes_sec",
    "device_write_bytes_sec": "write_bytes_sec",
}
_NO_CPU = "cgroup CPU controller is not mounted"
_NO_MEMORY = "cgroup memory controller is not mounted"
_NO_BLKIO = "blkio cgroup isn't mounted"
_NO_CPUSET = "cgroup cpuset controller is not mounted"


class DomainShares:
    """Guests' groups are asked and told first, then the documents; where the kernel refuses, no document changes."""

    def __init__(self, ctx: Context, guests: Guests, jobs: Jobs, groups: ControlGroups) -> None:
        self._ctx = ctx
        self._guests = guests
        self._jobs = jobs
        self._groups = groups

    def _group(self, guest: Guest, controller: str, missing: str) -> Group:
        group = self._groups.of(guest, controller)
        if group is None:
            raise OperationInvalid(missing, domain=ErrorDomain.QEMU)
        return group

    def _not_in_session(self, error: type[GuesthouseError], what: str) -> None:
        if self._groups.session:
            raise error(f"{what} tuning is not available in session mode", domain=ErrorDomain.QEMU)

    # -- processors

    def get_scheduler_type(self, dom: DomainRef) -> tuple[str, int]:
        guest = self._guests.find(dom)
        self._not_in_session(OperationUnsupported, "CPU")
        if guest.active:
            self._group(guest, "cpu", _NO_CPU)
        return "posix", len(_SCHEDULER)

    def get_scheduler_parameters(self, dom: DomainRef) -> Params:
        return self.get_scheduler_parameters_flags(dom, 0)

    def get_scheduler_parameters_flags(self, dom: DomainRef, flags: int) -> Params:
        """What holds for the guest; of a definition, 0 for what it does not say."""
        check_flags(flags, LIVE | CONFIG | _STRING_OKAY, "qemuDomainGetSchedulerParametersFlags")
        guest = self._guests.find(dom)
        self._not_in_session(ConfigUnsupported, "CPU")
        tune = looked_at(guest, flags & ~_STRING_OKAY).cputune or CpuTune()
        if not impact(guest, flags & ~_STRING_OKAY)[0]:
            return {name: (kind, getattr(tune, field) or 0) for name, (field, kind) in _SCHEDULER.items()}
        group = self._group(guest, "cpu", _NO_CPU)
        found: Params = {"cpu_shares": ("ullong", group.shares)}
        for what in _BANDWIDTHS:
            period, quota = self._bandwidth(guest, group, what)
            found |= {f"{what}_period": ("ullong", period), f"{what}_quota": ("llong", quota)}
        return found

    def _bandwidth(self, guest: Guest, group: Group, what: str) -> tuple[int, int]:
        """Of the first of its kind; threads without a group of their own are in none that is limited."""
        threads = guest.current.iothreadids.threads if guest.current.iothreadids is not None else []
        number = threads[0].id if threads else 1
        child = group.child({"vcpu": "vcpu0", "iothread": f"iothread{number}"}.get(what, what))
        if what == "global" or (what == "iothread" and not guest.current.iothreads):
            return group.bandwidth
        return child.bandwidth if child.exists else group.no_bandwidth

    async def set_scheduler_parameters(self, dom: DomainRef, params: Any) -> None:
        await self.set_scheduler_parameters_flags(dom, params, 0)

    async def set_scheduler_parameters_flags(self, dom: DomainRef, params: Any, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetSchedulerParametersFlags")
        wishes: dict[str, int] = checked(params, {name: kind for name, (_, kind) in _SCHEDULER.items()})
        guest = self._guests.find(dom)
        self._not_in_session(ConfigUnsupported, "CPU")
        async with self._jobs.changing(guest.uuid, "set-scheduler"):
            live, config = impact(guest, flags)
            group = self._group(guest, "cpu", _NO_CPU) if live else None
            _in_range(wishes)
            if group is not None:
                assert guest.live is not None
                # 0 leaves as it is what holds for a running guest
                told = {name: value for name, value in wishes.items() if value or name == "cpu_shares"}
                changed = _scheduled(guest.live, told)
                if "cpu_shares" in told:
                    group.set_shares(told["cpu_shares"])
                if any(name.startswith("global_") for name in told):
                    group.set_bandwidth(told.get("global_period", 0), told.get("global_quota", 0))
                await self._groups.place(guest, changed)
                guest.live.cputune = changed.cputune
                keep_live(self._ctx, guest)
                if told:
                    names = {f"cputune.{name}": (_SCHEDULER[name][1], value) for name, value in told.items()}
                    self._guests.tell(guest, _TUNABLE, {"params": names})
            if config and guest.definition is not None:
                keep(self._ctx, guest, _scheduled(guest.definition, wishes))

    # -- memory

    def get_memory_parameters(self, dom: DomainRef, flags: int) -> Params:
        """KiB."""
        check_flags(flags, LIVE | CONFIG | _STRING_OKAY, "qemuDomainGetMemoryParameters")
        guest = self._guests.find(dom)
        self._not_in_session(OperationUnsupported, "Memory")
        tune = looked_at(guest, flags & ~_STRING_OKAY).memtune or MemTune()
        if not impact(guest, flags & ~_STRING_OKAY)[0]:
            limits = {name: getattr(tune, name) for name in _MEMORY}
        else:
            limits = self._group(guest, "memory", _NO_MEMORY).memory_limits
        return {name: ("ullong", UNLIMITED if value is None else value) for name, value in limits.items()}

    async def set_memory_parameters(self, dom: DomainRef, params: Any, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetMemoryParameters")
        wishes: dict[str, int] = checked(params, dict.fromkeys(_MEMORY, "ullong"))
        guest = self._guests.find(dom)
        self._not_in_session(OperationUnsupported, "Memory")
        async with self._jobs.changing(guest.uuid, "set-memory-limits"):
            live, config = impact(guest, flags)
            group = self._group(guest, "memory", _NO_MEMORY) if live else None
            now = guest.current.memtune or MemTune()
            hard = wishes.get("hard_limit", _limit(now, "hard_limit"))
            if wishes.keys() & {"hard_limit", "swap_hard_limit"} and hard > wishes.get(
                "swap_hard_limit", _limit(now, "swap_hard_limit")
            ):
                text = "memory hard_limit tunable value must be lower than or equal to swap_hard_limit"
                raise InvalidArg(text, domain=ErrorDomain.NONE)
            if group is not None:
                assert guest.live is not None
                # the kernel keeps the limit of memory below that of both
                smaller = _limit(now, "hard_limit") > wishes.get("hard_limit", 0)
                order = (
                    "soft_limit",
                    *(("hard_limit", "swap_hard_limit") if smaller else ("swap_hard_limit", "hard_limit")),
                )
                try:
                    for name in order:
                        if name in wishes:
                            group.set_memory(name, wishes[name])
                            guest.live.memtune = _limited(guest.live, {name: wishes[name]}).memtune
                finally:
                    keep_live(self._ctx, guest)
            if config and guest.definition is not None:
                keep(self._ctx, guest, _limited(guest.definition, wishes))

    # -- disks of the host

    def get_blkio_parameters(self, dom: DomainRef, flags: int) -> Params:
        check_flags(flags, LIVE | CONFIG | _STRING_OKAY, "qemuDomainGetBlkioParameters")
        guest = self._guests.find(dom)
        self._not_in_session(ConfigUnsupported, "Block I/O")
        tune = looked_at(guest, flags & ~_STRING_OKAY).blkiotune or BlkioTune()
        weight = tune.weight or 0
        if impact(guest, flags & ~_STRING_OKAY)[0]:
            weight = self._group(guest, "blkio", _NO_BLKIO).weight
        found: Params = {"weight": ("uint", weight)}
        for name, field in _RATES.items():
            pairs = [f"{device.path},{value}" for device in tune.devices if (value := getattr(device, field))]
            found[name] = ("string", ",".join(pairs))
        return found

    async def set_blkio_parameters(self, dom: DomainRef, params: Any, flags: int) -> None:
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetBlkioParameters")
        wishes: dict[str, Any] = checked(params, {"weight": "uint", **dict.fromkeys(_RATES, "string")})
        guest = self._guests.find(dom)
        self._not_in_session(ConfigUnsupported, "Block I/O")
        async with self._jobs.changing(guest.uuid, "set-blkio"):
            live, config = impact(guest, flags)
            group = self._group(guest, "blkio", _NO_BLKIO) if live else None
            devices = {name: _devices(name, text) for name, text in wishes.items() if name in _RATES}
            weight = wishes.get("weight")
            if group is not None:
                assert guest.live is not None
                try:
                    if weight is not None:
                        group.set_weight(weight)
                        guest.live.blkiotune = _weighed(guest.live, group.weight, {}).blkiotune
                    for name, pairs in devices.items():
                        for path, value in pairs:
                            group.set_device(_RATES[name], path, value)
                        guest.live.blkiotune = _weighed(guest.live, None, {name: pairs}).blkiotune
                finally:
                    keep_live(self._ctx, guest)
            if config and guest.definition is not None:
                keep(self._ctx, guest, _weighed(guest.definition, weight, devices))

    # -- nodes

    def get_numa_parameters(self, dom: DomainRef, flags: int) -> Params:
        check_flags(flags, LIVE | CONFIG | _STRING_OKAY, "qemuDomainGetNumaParameters")
        document = looked_at(self._guests.find(dom), flags & ~_STRING_OKAY)
        memory = (document.numatune and document.numatune.memory) or NumaMemory()
        mode = _MODES.index(memory.mode or "strict")
        return {"numa_mode": ("int", mode), "numa_nodeset": ("string", memory.nodeset or "")}

    async def set_numa_parameters(self, dom: DomainRef, params: Any, flags: int) -> None:
        """A running guest's memory goes to other nodes where its mode is "restrictive", or none was said."""
        check_flags(flags, LIVE | CONFIG, "qemuDomainSetNumaParameters")
        wishes = checked(params, {"numa_mode": "int", "numa_nodeset": "string"})
        guest = self._guests.find(dom)
        mode, nodes = wishes.get("numa_mode"), wishes.get("numa_nodeset")
        if mode is not None and not 0 <= mode < len(_MODES):
            raise InvalidArg(f"unsupported numatune mode: '{mode}'")
        if nodes is not None:
            numbers = parse_cpus(nodes)
            if not numbers:
                raise OperationInvalid(f"Invalid nodeset of 'numatune': {nodes}", domain=ErrorDomain.QEMU)
            nodes = format_cpus(numbers)
        word = None if mode is None else _MODES[mode]
        async with self._jobs.changing(guest.uuid, "set-numa"):
            live, config = impact(guest, flags)
            if live:
                await self._set_live_nodes(guest, word, nodes)
            if config and guest.definition is not None:
                keep(self._ctx, guest, _on_nodes(guest.definition, word, nodes))

    async def _set_live_nodes(self, guest: Guest, mode: str | None, nodes: str | None) -> None:
        self._not_in_session(OperationUnsupported, "NUMA")
        group = self._group(guest, "cpuset", _NO_CPUSET)
        assert guest.live is not None
        memory = guest.live.numatune.memory if guest.live.numatune is not None else None
        now = (memory.mode or "strict") if memory is not None else None
        if mode is not None and now is not None and mode != now:
            raise OperationInvalid("can't change numatune mode for running domain", domain=ErrorDomain.QEMU)
        if mode == "strict":
            if nodes != (memory.nodeset if memory is not None else None):
                text = "can't change nodeset for strict mode for running domain"
                raise OperationInvalid(text, domain=ErrorDomain.QEMU)
            return
        if nodes is not None:
            if now not in (None, "restrictive"):
                text = "change of nodeset for running domain requires restrictive numa mode"
                raise OperationInvalid(text, domain=ErrorDomain.QEMU)
            for number in sorted(parse_cpus(nodes)):
                if not Path(f"/sys/devices/system/node/node{number}").exists():
                    raise ConfigUnsupported(f"NUMA node {number} is unavailable", domain=ErrorDomain.NONE)
            group.set_nodes(nodes)
        guest.live.numatune = _on_nodes(guest.live, mode, nodes).numatune
        keep_live(self._ctx, guest)


def _in_range(wishes: dict[str, int]) -> None:
    for name, value in wishes.items():
        low, high = QUOTAS if name.endswith("_quota") else PERIODS
        if name != "cpu_shares" and (0 < value < low or value > high):
            raise InvalidArg(f"value of '{name}' is out of range [{low}, {high}]")


def _scheduled(document: Domain, wishes: dict[str, int]) -> Domain:
    changed = document.copy()
    changed.cputune = changed.cputune or CpuTune()
    for name, value in wishes.items():
        setattr(changed.cputune, _SCHEDULER[name][0], value if value or name == "cpu_shares" else None)
    tidy(changed)
    return changed


def _limit(tune: MemTune, name: str) -> int:
    value = getattr(tune, name)
    return UNLIMITED if value is None else int(value)


def _limited(document: Domain, wishes: dict[str, int]) -> Domain:
    changed = document.copy()
    changed.memtune = changed.memtune or MemTune()
    for name, value in wishes.items():
        setattr(changed.memtune, name, None if value >= UNLIMITED else value)
    tidy(changed)
    return changed


def _devices(name: str, text: str) -> list[tuple[str, int]]:
    """The pairs of a block device's path and a figure in "/dev/a,1,/dev/b,2". Raises InvalidArg."""
    if not text:
        return []
    words = text.split(",")
    if len(words) % 2:
        raise InvalidArg(f"unable to parse blkio device '{name}' '{text}'", domain=ErrorDomain.NONE)
    most = 2**64 if name.endswith("bytes_sec") else 2**32
    pairs = []
    for index in range(0, len(words), 2):
        path, value = words[index], words[index + 1]
        if not (value.isascii() and value.isdigit() and int(value) < most):
            rest = ",".join(words[index + 1 :])
            text = f"invalid value '{rest}' for parameter '{name}' of device '{path}'"
            raise InvalidArg(text, domain=ErrorDomain.NONE)
        pairs.append((path, int(value)))
    return pairs


def _weighed(document: Domain, weight: int | None, devices: dict[str, list[tuple[str, int]]]) -> Domain:
    changed = document.copy()
    tune = changed.blkiotune = changed.blkiotune or BlkioTune()
    if weight is not None:
        tune.weight = weight or None
    for name, pairs in devices.items():
        for path, value in pairs:
            known: Iterable[BlkioDevice] = (device for device in tune.devices if device.path == path)
            device = next(iter(known), None)
            if device is None:
                device = BlkioDevice(path=path)
                tune.devices.append(device)
            setattr(device, _RATES[name], value or None)
    tidy(changed)
    return changed


def _on_nodes(document: Domain, mode: str | None, nodes: str | None) -> Domain:
    changed = document.copy()
    if mode is None and nodes is None:
        return changed
    tune = changed.numatune = changed.numatune or Numatune()
    memory = tune.memory = tune.memory or NumaMemory(mode="strict")
    memory.mode = mode or memory.mode
    memory.nodeset = nodes or memory.nodeset
    if nodes is not None:
        memory.placement = None
    if memory.nodeset is None and (changed.vcpu is None or changed.vcpu.placement != "auto"):
        text = "nodeset for NUMA memory tuning must be set if 'placement' is 'static'"
        raise ConfigUnsupported(text, domain=ErrorDomain.DOMAIN)
    return changed
