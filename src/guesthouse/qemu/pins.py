"""<cputune>: on which of the host's CPUs a guest's threads run, as its document says."""

from __future__ import annotations

from typing import Any

from lxml import etree

from guesthouse.model.domain import Domain
from guesthouse.units import parse_cpus

# what of it is served, in the order of libvirt's documents
_PINS = ("vcpupin", "emulatorpin")


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


def pin(document: Domain, number: int | None, cpuset: str) -> None:
    """Write down where a processor runs, or with ``number`` None everything else."""
    tag = "emulatorpin" if number is None else "vcpupin"
    kept = [n for n in _tune(document) if n.tag != tag or (number is not None and n.get("vcpu") != str(number))]
    node = etree.Element(tag, {"cpuset": cpuset} if number is None else {"vcpu": str(number), "cpuset": cpuset})
    tune = etree.Element("cputune")
    known = {name: index for index, name in enumerate(_PINS)}
    tune.extend(sorted([*kept, node], key=lambda n: (known.get(n.tag, -1), int(n.get("vcpu", 0)))))
    document.cputune = tune


def unserved(document: Domain) -> str | None:
    """The first element of <cputune> that a guest would not get."""
    return next((str(node.tag) for node in _tune(document) if node.tag not in _PINS), None)


def _tune(document: Domain) -> list[Any]:
    tune: Any = document.cputune
    return [] if tune is None else [node for node in tune if isinstance(node.tag, str)]
