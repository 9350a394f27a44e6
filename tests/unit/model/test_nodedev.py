"""<device>: the reference documents come out as libvirt writes them; what cannot be made is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, XMLError
from guesthouse.model.nodedev import KINDS, Device, Mdev, Pci, parse_new_device
from support.reference import REFERENCE, needs_reference

# what libvirt adds when it reads the document
_ADDED = {"mdev_d069d019_36ea_4111_8f0a_8c9a70e21366": "    <iommuGroup number='0'/>\n"}


def cases() -> list[tuple[Path, Path]]:
    base = REFERENCE / "xml/nodedev"
    found = json.loads((base / "cases.json").read_text())["cases"] if base.exists() else []
    return [(base / case["xml"], base / case["out"]) for case in found]


@needs_reference
@pytest.mark.parametrize("given, wanted", cases(), ids=lambda file: file.name)
def test_reference_documents_come_out_as_libvirt_writes_them(given: Path, wanted: Path) -> None:
    device = Device.from_xml(given.read_text())
    assert device.capability is not None and not device.capability.extra_nodes
    text = wanted.read_text().replace(_ADDED.get(given.stem, "\0"), "")
    assert device.to_xml().rstrip() == text.rstrip()


def test_every_kind_of_capability_has_a_reference_document_or_is_made_from_sysfs() -> None:
    told = {Device.from_xml(given.read_text()).capability.type for given, _ in cases()}  # type: ignore[union-attr]
    assert set(KINDS) - told <= {"usb_device", "scsi_generic"}


def test_what_a_capability_is() -> None:
    device = Device.from_xml("<device><capability type='pci'><class>0x1</class><new/></capability></device>")
    assert isinstance(device.capability, Pci) and device.capability.class_ == "0x1"
    assert "<new/>" in device.to_xml()
    assert Pci(domain=0).to_xml() == "<capability type='pci'>\n  <domain>0</domain>\n</capability>\n"


_MDEV = "<device><parent>x</parent><capability type='mdev'><type id='t'/>{}</capability></device>"


def test_a_device_to_be_made() -> None:
    device = parse_new_device(_MDEV.format("<uuid>D069D01936EA41118F0A8C9A70E21366</uuid>"))
    assert isinstance(device.capability, Mdev)
    assert device.capability.uuid == "d069d019-36ea-4111-8f0a-8c9a70e21366"
    assert (device.name, device.parent) == ("new device", "x")


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("<domain/>", XMLError, "XML error: expecting root element of 'device', not 'domain'"),
        ("<device/>", InternalError, "internal error: no device capabilities for 'new device'"),
        (
            "<device><capability type='x'/></device>",
            XMLError,
            "XML error: Invalid value for attribute 'type' in element 'capability': 'x'.",
        ),
        (
            "<device><capability type='mdev'/></device>",
            ConfigUnsupported,
            "unsupported configuration: missing type id attribute for 'new device'",
        ),
    ],
)
def test_what_is_wrong(text: str, error: type[GuesthouseError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_new_device(text)
    assert str(caught.value).startswith(message)
