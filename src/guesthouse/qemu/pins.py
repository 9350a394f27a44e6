"""<cputune>: on which of the host's CPUs a guest's threads run, as its document says."""

from __future__ import annotations

from guesthouse.model.domain import Domain
from guesthouse.model.tuning import CpuTune, EmulatorPin, IoThreadPin, VcpuPin
from guesthouse.model.tuning_rules import tidy
from guesthouse.units import parse_cpus


def pinned(document: Domain, number: int) -> set[int] | None:
    """The host CPUs of a processor, None where the document does not say."""
    return _cpus(document, next((pin for pin in _tune(document).vcpupins if pin.vcpu == number), None))


def emulator_pinned(document: Domain) -> set[int] | None:
    """The host CPUs of what is no processor, None where the document does not say."""
    return _cpus(document, next(iter(_tune(document).emulatorpins), None))


def iothread_pinned(document: Domain, number: int) -> set[int] | None:
    """The host CPUs of a thread for disks, None where the document does not say."""
    return _cpus(document, next((pin for pin in _tune(document).iothreadpins if pin.iothread == number), None))


def pin(document: Domain, number: int | None, cpuset: str) -> None:
    """Write down where a processor runs, or with ``number`` None everything else."""
    tune = document.cputune = _tune(document)
    if number is None:
        tune.emulatorpins[:] = [EmulatorPin(cpuset=cpuset)]
        return
    kept = [pin for pin in tune.vcpupins if pin.vcpu != number]
    tune.vcpupins[:] = sorted([*kept, VcpuPin(vcpu=number, cpuset=cpuset)], key=lambda pin: pin.vcpu or 0)


def pin_iothread(document: Domain, number: int, cpuset: str | None) -> None:
    """Write down where a thread for disks runs, or with ``cpuset`` None that nothing is said of it."""
    tune = document.cputune = _tune(document)
    kept = [pin for pin in tune.iothreadpins if pin.iothread != number]
    if cpuset is not None:
        kept.append(IoThreadPin(iothread=number, cpuset=cpuset))
    tune.iothreadpins[:] = sorted(kept, key=lambda pin: pin.iothread or 0)
    tidy(document)


def schedulers(document: Domain) -> dict[str, tuple[str, int]]:
    """Policy and priority by thread: "emulator" (the main one), "vcpuN", "iothreadN"."""
    tune = _tune(document)
    found = {f"vcpu{each.vcpus}": (each.scheduler or "", each.priority or 0) for each in tune.vcpuscheds}
    for one in tune.emulatorscheds:
        found["emulator"] = (one.scheduler or "", one.priority or 0)
    found |= {f"iothread{each.iothreads}": (each.scheduler or "", each.priority or 0) for each in tune.iothreadscheds}
    return found


def unserved(document: Domain) -> str | None:
    """The first element of <cputune> that a guest would not get."""
    return next((str(node.tag) for node in _tune(document).extra_nodes if isinstance(node.tag, str)), None)


def _cpus(document: Domain, pin: VcpuPin | EmulatorPin | IoThreadPin | None) -> set[int] | None:
    if pin is not None:
        return parse_cpus(pin.cpuset or "")
    return parse_cpus(document.vcpu.cpuset) if document.vcpu is not None and document.vcpu.cpuset else None


def _tune(document: Domain) -> CpuTune:
    return document.cputune or CpuTune()
