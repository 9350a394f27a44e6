"""<interface> of the host: the reference documents come out as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guesthouse.errors import XMLError
from guesthouse.model.fields import Element
from guesthouse.model.interface import Interface
from support.reference import REFERENCE, needs_reference


def cases() -> list[Path]:
    base = REFERENCE / "xml/interface"
    found = json.loads((base / "cases.json").read_text())["cases"] if base.exists() else []
    return [base / case["xml"] for case in found]


def _undeclared(element: Element) -> list[object]:
    found: list[object] = [*element.extra_nodes, *element.extra_attributes]
    for value in vars(element).values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Element):
                found += _undeclared(item)
    return found


@needs_reference
@pytest.mark.parametrize("file", cases(), ids=lambda file: file.name)
def test_reference_documents_come_out_as_they_were(file: Path) -> None:
    interface = Interface.from_xml(file.read_text())
    assert interface.to_xml().rstrip() == file.read_text().rstrip()
    assert _undeclared(interface) == []


def test_arp_monitoring_and_what_is_wrong() -> None:
    text = (
        "<interface type='bond' name='bond0'>\n  <bond mode='802.3ad'>\n"
        "    <arpmon interval='100' target='10.0.0.1' validate='active'/>\n  </bond>\n</interface>\n"
    )
    assert Interface.from_xml(text).to_xml() == text
    with pytest.raises(XMLError):
        Interface.from_xml(text.replace("802.3ad", "fast"))
