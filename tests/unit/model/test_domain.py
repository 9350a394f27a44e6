"""<domain>: our golden documents, and libvirt's own test documents, read and completed as libvirt does it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from guesthouse.errors import ConfigUnsupported, GuesthouseError, XMLError
from guesthouse.model.domain import Domain
from guesthouse.model.fields import Element
from support import domains, qemuxml
from support.reference import needs_reference

Golden = Callable[[Path, str], None]


@pytest.mark.parametrize("name", domains.names())
def test_golden(name: str, golden: Golden) -> None:
    domain = domains.define(domains.text(name))
    out = domain.to_xml(secrets=True)
    golden(domains.DOMAINS / f"{name}.out.xml", out)
    # what libvirt adds stands last until the document is read again; from then on nothing moves
    again = domains.define(out)
    assert domains.define(again.to_xml(secrets=True)) == again
    assert Domain.from_xml(out) == domain
    assert domain.copy() == domain


@pytest.mark.parametrize("name", domains.kept())
def test_kept_as_it_is(name: str) -> None:
    text = domains.text(f"kept/{name}")
    assert Domain.from_xml(text).to_xml(secrets=True) == text


def used(element: Element) -> Iterator[str]:
    """The fields that a document sets, as Class.field."""
    for spec in element.SPECS:
        value = getattr(element, spec.name)
        if value is None or value == [] or (spec.form == "flag" and not value):
            continue
        yield f"{type(element).__name__}.{spec.name}"
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Element):
                yield from used(item)


def declared(kind: type[Element], seen: set[type[Element]]) -> Iterator[str]:
    if kind in seen:
        return
    seen.add(kind)
    for spec in kind.SPECS:
        yield f"{kind.__name__}.{spec.name}"
        if spec.element is not None:
            yield from declared(spec.element, seen)


def test_every_field_is_in_a_golden_document() -> None:
    """Whoever declares a field adds it to a document here, and so shows that it is read and written."""
    found: set[str] = set()
    for name in [*domains.names(), *(f"kept/{name}" for name in domains.kept())]:
        found.update(used(Domain.from_xml(domains.text(name))))
    missing = [name for name in declared(Domain, set()) if name not in found]
    assert not missing, f"in no golden document: {', '.join(missing)}"


def small(devices: str = "", rest: str = "") -> str:
    return (
        "<domain type='qemu'><name>x</name><memory>65536</memory>"
        f"<os><type arch='x86_64' machine='pc'>hvm</type></os>{rest}<devices>{devices}</devices></domain>"
    )


@pytest.mark.parametrize(
    ("xml", "error", "words"),
    [
        ("<domain><name>x</name></domain>", XMLError, "Missing required attribute 'type' in element 'domain'"),
        (small(rest="<vcpu>none</vcpu>"), XMLError, "'none'.*domain/vcpu.*non-negative integer"),
        (small(rest="<clock offset='never'/>"), XMLError, "domain/clock/@offset; expected one of: utc, localtime"),
        (
            small(rest="<clock offset='variable' adjustment='soon'/>"),
            XMLError,
            "'adjustment' in element 'clock': 'soon'",
        ),
        (small("<disk type='tape'/>"), XMLError, r"domain/devices/disk\[1\]/@type; expected one of: file, block"),
        (
            small("<disk><target dev='hda'/></disk><disk><target dev='hdb' bus='isa'/></disk>"),
            XMLError,
            r"domain/devices/disk\[2\]/target/@bus; expected one of: ide",
        ),
        (small("<disk/>"), XMLError, "missing target information"),
        (
            small("<disk device='lun' type='block'><source dev='/x'/><target dev='vda'/></disk>" * 2),
            XMLError,
            "target 'vda' duplicated for disk sources",
        ),
        (small("<interface type='network'/>"), XMLError, "interface type='network' requires a 'source' element"),
        (small("<interface type='user'><mac address='53:54:00:00:00:01'/></interface>"), XMLError, "multicast"),
        (small("<graphics type='vnc' passwd='123456789'/>"), ConfigUnsupported, "only 8 permitted"),
        (small("<input type='tablet' bus='ps2'/>"), GuesthouseError, "ps2 bus does not support tablet"),
        (small(rest="<vcpu current='3'>2</vcpu>"), GuesthouseError, r"must not be less than current vcpus \(2 < 3\)"),
        (
            small(rest="<vcpu>4</vcpu><cpu><topology sockets='1' cores='2' threads='1'/></cpu>"),
            ConfigUnsupported,
            "CPU topology doesn't match maximum vcpu count",
        ),
        (small(rest="<memory>0</memory>").replace("<memory>65536</memory>", "", 1), XMLError, "Memory size must be"),
        (small().replace("machine='pc'", "machine='ps5'"), ConfigUnsupported, "does not support machine type 'ps5'"),
        (small().replace("x86_64", "m68k"), ConfigUnsupported, "could not find capabilities for arch=m68k"),
        (small().replace("<name>x", "<name>a/b"), XMLError, "name a/b cannot contain '/'"),
        (
            small("<video><model type='vga' primary='yes'/></video>" * 2),
            ConfigUnsupported,
            "Only one primary video device is supported",
        ),
        (
            small(
                "<rng model='virtio'><backend model='builtin'/><address type='pci' slot='0x05'/></rng>"
                "<memballoon model='virtio'><address type='pci' slot='0x05'/></memballoon>"
            ),
            XMLError,
            "Attempted double use of PCI Address 0000:00:05.0",
        ),
    ],
)
def test_what_is_wrong_is_refused(xml: str, error: type[GuesthouseError], words: str) -> None:
    with pytest.raises(error, match=words):
        domains.define(xml)


def test_more_devices_than_slots_get_a_bridge() -> None:
    rngs = "<rng model='virtio'><backend model='builtin'/></rng>" * 40
    domain = domains.define(small(rngs))
    bridges = [c for c in domain.dev.controllers if c.model == "pci-bridge"]
    assert [c.index for c in bridges] == [1]
    places = [(d.address.bus, d.address.slot) for d in domain.dev.rngs if d.address]
    assert len(set(places)) == 40 and {bus for bus, _ in places} == {0, 1}


def test_switch_ports_have_an_end() -> None:
    ports = "<controller type='pci' index='1' model='pcie-switch-downstream-port'/>"
    with pytest.raises(
        GuesthouseError, match="a PCI slot is needed to connect a PCI controller model='pcie-switch-downstream-port'"
    ):
        domains.define(small(ports).replace("machine='pc'", "machine='q35'"))


# -- libvirt's own test documents


@needs_reference
def test_reference_documents_come_out_as_libvirt_writes_them() -> None:
    different = {case["name"] for case in qemuxml.with_documents() if qemuxml.documents_differ(case)}
    known = set(qemuxml.known()["documents"])
    assert not different - known, "these were equal before"
    assert not known - different, "these are equal now: run tests/support/qemuxml.py --write"


def facts(node: Any) -> set[tuple[str, str, str]]:
    """Everything that an element says, as (path, name, value)."""
    found = set()
    for each in node.iter():
        if not isinstance(each.tag, str):
            continue
        path = each.getroottree().getpath(each)
        path = re.sub(r"\[\d+\]", "", path)
        found.add((path, "", (each.text or "").strip()))
        found.update((path, name, value) for name, value in each.attrib.items())
    return found


@needs_reference
@pytest.mark.parametrize("name", sorted({case["xml"] for case in qemuxml.cases()}))
def test_reference_documents_lose_nothing(name: str) -> None:
    text = (qemuxml.CASES / name).read_bytes()
    given = etree.fromstring(text)
    out = etree.fromstring(Domain.from_xml(text).to_xml(secrets=True).encode())
    lost = {fact for fact in facts(given) - facts(out) if not spelt_otherwise(fact, facts(out))}
    assert not lost


def spelt_otherwise(fact: tuple[str, str, str], out: set[tuple[str, str, str]]) -> bool:
    """Whether ``out`` says the same in libvirt's own spelling: sizes in KiB, numbers of a width, UUIDs in lower case."""
    path, name, value = fact
    rivals = {rival for where, what, rival in out if (where, what) == (path, name)}
    if name == "unit" or path.rpartition("/")[2] in ("memory", "currentMemory"):
        return bool(rivals)
    if any(rival.lower().replace("-", "") == value.lower().replace("-", "") for rival in rivals):
        return True
    try:
        return int(value, 0) in {int(rival, 0) for rival in rivals}
    except ValueError:
        return False
