"""What we write fits the RELAX NG schemas that libvirt's own packages bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lxml import etree

from guesthouse.errors import GuesthouseError
from guesthouse.model.defaults import prepare
from guesthouse.model.domain import Domain
from guesthouse.model.interface import Interface
from guesthouse.model.network import Network
from guesthouse.model.nodedev import Device
from guesthouse.model.secret import Secret
from guesthouse.model.snapshot import Snapshot
from guesthouse.model.storage import Pool, Volume
from support import domains, qemuxml
from support.reference import REFERENCE, needs_reference

SCHEMAS = Path("/usr/share/libvirt/schemas")

#: Documents that have, on purpose, what 9.0's schemas do not know.
STRANGE = {
    "devices-ends.out.xml": "blob of a video card, from libvirt 9.2",
    "disks-network.out.xml": "a disk over ssh, which libvirtd takes and the schema lacks",
}


def _faults(schema: etree.RelaxNG, text: str) -> str:
    """What the schema says against ``text``; nothing where it fits."""
    if schema.validate(etree.fromstring(text.encode())):
        return ""
    return str(schema.error_log.last_error)


def _schema(name: str) -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(SCHEMAS / f"{name}.rng"))


def test_golden_domains() -> None:
    schema = _schema("domain")
    found = {}
    for file in sorted(domains.DOMAINS.glob("*.out.xml")):
        if fault := _faults(schema, file.read_text()):
            found[file.name] = fault
    assert found.keys() == STRANGE.keys(), found


@needs_reference
def test_domains_that_are_defined() -> None:
    """A document that fits still fits when it has been defined."""
    schema = _schema("domain")
    found = {}
    for case in qemuxml.cases():
        text = (qemuxml.CASES / case["xml"]).read_text()
        if _faults(schema, text):
            continue
        domain = Domain.from_xml(text)
        try:
            prepare(domain, domains.REFERENCE_HOST)
        except GuesthouseError:
            continue
        if fault := _faults(schema, domain.to_xml(secrets=True)):
            found[case["name"]] = fault
    assert not found, found


def _documents(folder: str) -> Iterator[Path]:
    yield from sorted(file for file in (REFERENCE / "xml" / folder).glob("*.xml") if not file.name.endswith(".out.xml"))


@needs_reference
@pytest.mark.parametrize(
    ("folder", "schema", "read"),
    [
        ("network", "network", Network.from_xml),
        ("storagepool", "storagepool", Pool.from_xml),
        ("storagevol", "storagevol", Volume.from_xml),
        ("domainsnapshot", "domainsnapshot", Snapshot.from_xml),
        ("interface", "interface", Interface.from_xml),
        ("nodedev", "nodedev", Device.from_xml),
        ("secret", "secret", Secret.from_xml),
    ],
)
def test_other_kinds(folder: str, schema: str, read: Callable[[str], object]) -> None:
    """A document that fits still fits when it has been read and written."""
    rules = _schema(schema)
    found, count = {}, 0
    for file in _documents(folder):
        text = file.read_text()
        if _faults(rules, text):
            continue
        count += 1
        out = read(text).to_xml()  # type: ignore[attr-defined]
        if fault := _faults(rules, out):
            found[file.name] = fault
    assert count and not found, found
