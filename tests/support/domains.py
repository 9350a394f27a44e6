"""The golden domains, tests/data/domain: NAME.xml as a user writes it, NAME.out.xml as it reads once defined.

``kept/`` holds documents that come out exactly as they went in: live ones, and what no host here would define.
"""

from __future__ import annotations

from pathlib import Path

from guesthouse.model import addresses
from guesthouse.model.defaults import GuestDefaults, in_order, prepare
from guesthouse.model.domain import Domain

DATA = Path(__file__).parents[1] / "data"
DOMAINS = DATA / "domain"

#: What QEMU 7.2 brings.
HOST = GuestDefaults(
    emulators={"x86_64": "/usr/bin/qemu-system-x86_64"},
    machines={
        "pc": "pc-i440fx-7.2",
        "pc-i440fx-7.2": "pc-i440fx-7.2",
        "q35": "pc-q35-7.2",
        "pc-q35-7.2": "pc-q35-7.2",
    },
)


def names() -> list[str]:
    return sorted(file.stem for file in DOMAINS.glob("*.xml") if not file.stem.endswith(".out"))


def kept() -> list[str]:
    return sorted(file.stem for file in (DOMAINS / "kept").glob("*.xml"))


def text(name: str) -> str:
    return (DOMAINS / f"{name}.xml").read_text()


def define(xml: str, host: GuestDefaults = HOST) -> Domain:
    domain = Domain.from_xml(xml)
    prepare(domain, host)
    return domain


def live(domain: Domain) -> Domain:
    """A document as it is when QEMU is started with it: what the daemon decides is decided, in the simplest way."""
    domain = domain.copy()
    domain.id = 1
    domain.dev.controllers[:] = in_order(domain.dev.controllers)
    addresses.assign_aliases(domain)
    sources = [disk.source for disk in domain.dev.disks if disk.source is not None]
    for number, source in enumerate(reversed(sources), 1):
        source.index = number
    for number, display in enumerate(domain.dev.graphics):
        if display.autoport:
            display.port = 5900 + number
    return domain
