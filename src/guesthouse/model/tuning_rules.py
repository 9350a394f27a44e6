"""What libvirt makes of a document's shares of the host when it is defined, and what of them it refuses. Pure.

The rules are libvirt 9.0's (domain_conf.c, domain_validate.c, qemu_validate.c).
"""

from __future__ import annotations

from collections.abc import Container

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, InternalError, XMLDetail, XMLError
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.model.board import iothread_ids
from guesthouse.model.domain import Domain
from guesthouse.model.tuning import CpuTune, EmulatorPin, IoThreadPin, IoThreadSched, Sched, VcpuPin, VcpuSched

#: KiB from which on a limit of memory is none.
UNLIMITED = 9007199254740991
#: Microseconds.
SHARES = (2, 262144)
PERIODS, QUOTAS = (1000, 1000000), (1000, 17592186044415)
_BANDWIDTHS = ("", "global_", "emulator_", "iothread_")
_LIMITS = ("hard_limit", "soft_limit", "swap_hard_limit")
_RATES = ("weight", "read_iops_sec", "write_iops_sec", "read_bytes_sec", "write_bytes_sec")


def prepare(domain: Domain) -> None:
    """Pins of threads that there are, numbers that say nothing left out, and what is empty gone."""
    if domain.cputune is not None:
        _cpu(domain, domain.cputune)
    memory = domain.memtune
    if memory is not None:
        for name in _LIMITS:
            if (getattr(memory, name) or 0) >= UNLIMITED:
                setattr(memory, name, None)
        if memory.min_guarantee:
            raise ConfigUnsupported("Parameter 'min_guarantee' not supported by QEMU.")
        memory.min_guarantee = None
    blocks = domain.blkiotune
    if blocks is not None:
        blocks.weight = blocks.weight or None
        for device in blocks.devices:
            if device.path is None:
                raise ConfigUnsupported("missing per-device path", domain=ErrorDomain.DOMAIN)
            for name in _RATES:
                setattr(device, name, getattr(device, name) or None)
    tidy(domain)
    if domain.type != "kvm" and domain.cputune is not None:
        # in libvirt's words for caches, and for memory
        for node in domain.cputune.extra_nodes:
            if node.tag in ("cachetune", "memorytune"):
                raise ConfigUnsupported("cachetune is only supported for KVM domains")


def tidy(domain: Domain) -> None:
    """Drop what says nothing any more."""
    if domain.blkiotune is not None:
        kept = [device for device in domain.blkiotune.devices if any(getattr(device, name) for name in _RATES)]
        domain.blkiotune.devices[:] = kept
    for name in ("cputune", "memtune", "blkiotune"):
        element = getattr(domain, name)
        if element is not None and not (
            element.extra_nodes or any(value not in (None, []) for value in element.__dict__.values() if value != {})
        ):
            setattr(domain, name, None)


def _cpu(domain: Domain, tune: CpuTune) -> None:
    if tune.shares is not None and tune.shares > 0 and not SHARES[0] <= tune.shares <= SHARES[1]:
        raise ConfigUnsupported(
            f"Value of cputune 'shares' must be in range [{SHARES[0]}, {SHARES[1]}]", domain=ErrorDomain.DOMAIN
        )
    for prefix in _BANDWIDTHS:
        for what, (low, high) in (("period", PERIODS), ("quota", QUOTAS)):
            value = getattr(tune, prefix + what)
            if value and value > 0 and not low <= value <= high:
                raise ConfigUnsupported(
                    f"Value of cputune '{prefix}{what}' must be in range [{low}, {high}]", domain=ErrorDomain.DOMAIN
                )
            setattr(tune, prefix + what, value or None)
    tune.vcpupins[:] = [pin for pin in tune.vcpupins if (pin.vcpu or 0) < domain.cpu_count]
    tune.vcpupins.sort(key=lambda pin: pin.vcpu or 0)
    threads = [each.id for each in iothread_ids(domain)]
    if len(tune.emulatorpins) > 1:
        raise XMLError("only one emulatorpin is supported")
    _single([pin.vcpu for pin in tune.vcpupins], "vcpupin for vcpu '{}'")
    _single([pin.iothread for pin in tune.iothreadpins], "iothreadpin for same iothread '{}'")
    for thread in tune.iothreadpins:
        if thread.iothread not in threads:
            raise ConfigUnsupported(f"Cannot find 'iothread' : {thread.iothread}", domain=ErrorDomain.DOMAIN)
    tune.iothreadpins.sort(key=lambda pin: threads.index(pin.iothread))
    _schedulers(domain, tune)
    every: list[VcpuPin | EmulatorPin | IoThreadPin] = [*tune.vcpupins, *tune.emulatorpins, *tune.iothreadpins]
    for pin in every:
        cpus = units.parse_cpus(pin.cpuset or "")
        if not cpus:
            raise ConfigUnsupported(f"Invalid value of 'cpuset': {pin.cpuset}", domain=ErrorDomain.DOMAIN)
        pin.cpuset = units.format_cpus(cpus)


def _schedulers(domain: Domain, tune: CpuTune) -> None:
    """One element a thread."""
    if len(tune.emulatorscheds) > 1:
        raise XMLError("only one emulatorsched is supported")
    every: list[Sched | VcpuSched | IoThreadSched] = [*tune.emulatorscheds, *tune.vcpuscheds, *tune.iothreadscheds]
    for sched in every:
        if sched.scheduler not in ("fifo", "rr"):
            sched.priority = None
        elif sched.priority is None:
            text = f"Missing required attribute 'priority' in element '{sched.TAG}'"
            raise XMLError(text, domain=ErrorDomain.NONE)
    vcpus: dict[int, VcpuSched] = {}
    for each in tune.vcpuscheds:
        for number in _numbers(each.vcpus, "vcpusched", "vcpus", vcpus):
            if number < domain.cpu_count:
                vcpus[number] = VcpuSched(vcpus=str(number), scheduler=each.scheduler, priority=each.priority)
    tune.vcpuscheds[:] = [vcpus[number] for number in sorted(vcpus)]
    threads: dict[int, IoThreadSched] = {}
    known = [each.id for each in iothread_ids(domain)]
    for one in tune.iothreadscheds:
        for number in _numbers(one.iothreads, "iothreadsched", "iothreads", threads):
            if number not in known:
                raise ConfigUnsupported(f"Cannot find 'iothread' : {number}", domain=ErrorDomain.DOMAIN)
            threads[number] = IoThreadSched(iothreads=str(number), scheduler=one.scheduler, priority=one.priority)
    tune.iothreadscheds[:] = [threads[number] for number in sorted(threads, key=known.index)]


def _numbers(text: str | None, element: str, attribute: str, taken: Container[int]) -> list[int]:
    if text is None:
        raise XMLError(f"Missing attribute '{attribute}' in element '{element}'", domain=ErrorDomain.DOMAIN)
    numbers = sorted(units.parse_cpus(text))
    if any(number in taken for number in numbers):
        raise XMLDetail(f"'{element}' attributes '{attribute}' must not overlap")
    return numbers


def _single(numbers: list[int | None], what: str) -> None:
    for number in numbers:
        if numbers.count(number) > 1:
            raise InternalError(f"duplicate {what.format(number)}", domain=ErrorDomain.DOMAIN)
