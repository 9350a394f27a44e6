"""<cputune>: on which of the host's CPUs a guest's threads run, as its document says."""

from __future__ import annotations

from typing import Any

from lxml import etree

from guesthouse.model.domain import Domain
from guesthouse.units import parse_cpus

# what of it is served, in the order of libvirt's documents
_PINS = ("vcpupin", "emulatorpin", "iothreadpin")
_NUMBERS = {"vcpupin": "vcpu", "iothreadpin": "iothread"}


def pinned(document: Domain, number: int) -> set[int] | None:
    """The host CPUs of a processor, None where the document does not say."""
    for node in _tune(document):
        if node.tag == "vcpupin" and node.get("vcpu") == str(number):
            return parse_cpus(node.get("cpuset", ""))
    return parse_cpus(document.vcpu.cpuset) if document.vcpu is not None and document.vcpu.cpuset else None


def emulator_pinned(document: Domain) -> set[int] | None:
    """The host CPUs of what is no processor, None where the document does not say."""
    for node in _tune(document):
        if node.tag == "emulatorpin":
            return parse_cpus(node.get("cpuset", ""))
    return parse_cpus(document.vcpu.cpuset) if document.vcpu is not None and document.vcpu.cpuset else None


def iothread_pinned(document: Domain, number: int) -> set[int] | None:
    """The host CPUs of a thread for disks, None where the document does not say."""
    for node in _tune(document):
        if node.tag == "iothreadpin" and node.get("iothread") == str(number):
            return parse_cpus(node.get("cpuset", ""))
    return parse_cpus(document.vcpu.cpuset) if document.vcpu is not None and document.vcpu.cpuset else None


def pin(document: Domain, number: int | None, cpuset: str) -> None:
    """Write down where a processor runs, or with ``number`` None everything else."""
    _pin(document, "emulatorpin" if number is None else "vcpupin", number, cpuset)


def pin_iothread(document: Domain, number: int, cpuset: str | None) -> None:
    """Write down where a thread for disks runs, or with ``cpuset`` None that nothing is said of it."""
    _pin(document, "iothreadpin", number, cpuset)


def _pin(document: Domain, tag: str, number: int | None, cpuset: str | None) -> None:
    of = _NUMBERS.get(tag, "vcpu")
    kept = [n for n in _tune(document) if n.tag != tag or (number is not None and n.get(of) != str(number))]
    if cpuset is not None:
        kept.append(etree.Element(tag, {"cpuset": cpuset} if number is None else {of: str(number), "cpuset": cpuset}))
    known = {name: index for index, name in enumerate(_PINS)}
    tune = etree.Element("cputune")
    tune.extend(sorted(kept, key=lambda n: (known.get(n.tag, -1), int(n.get(_NUMBERS.get(n.tag, "vcpu"), 0)))))
    document.cputune = tune if len(tune) else None


def unserved(document: Domain) -> str | None:
    """The first element of <cputune> that a guest would not get."""
    return next((str(node.tag) for node in _tune(document) if node.tag not in _PINS), None)


def _tune(document: Domain) -> list[Any]:
    tune: Any = document.cputune
    return [] if tune is None else [node for node in tune if isinstance(node.tag, str)]
