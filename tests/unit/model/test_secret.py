"""<secret>: the reference documents come out as libvirt writes them; what is wrong is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, XMLDetail, XMLError
from guesthouse.model.secret import Secret, parse_secret
from support.reference import REFERENCE, needs_reference

DATA = Path(__file__).parents[2] / "data/secret"


def cases() -> list[Path]:
    base = REFERENCE / "xml/secret"
    found = json.loads((base / "cases.json").read_text())["cases"] if base.exists() else []
    return [base / case["xml"] for case in found]


@needs_reference
@pytest.mark.parametrize("file", cases(), ids=lambda file: file.name)
def test_reference_documents_come_out_as_they_were(file: Path) -> None:
    assert parse_secret(file.read_text()).to_xml().rstrip() == file.read_text().rstrip()


@pytest.mark.parametrize("file", sorted(DATA.glob("*.out.xml")), ids=lambda file: file.name)
def test_golden_documents(file: Path) -> None:
    given = file.with_name(file.name.replace(".out.xml", ".xml"))
    assert parse_secret(given.read_text()).to_xml() == file.read_text()


def test_defaults() -> None:
    secret = parse_secret("<secret/>")
    assert secret.uuid and (secret.usage_type, secret.usage_id) == (0, None)
    assert secret.to_xml().startswith("<secret ephemeral='no' private='no'>\n  <uuid>")
    assert parse_secret("<secret><usage type='vtpm'><name>x</name></usage></secret>").usage_type == 5
    assert Secret.from_xml(secret.to_xml()) == secret


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("<secret private='2'/>", XMLError, "XML error: invalid value of 'private'"),
        ("<secret ephemeral=''/>", XMLError, "XML error: invalid value of 'ephemeral'"),
        ("<secret><uuid/></secret>", InternalError, "internal error: malformed uuid element"),
        ("<secret><usage/></secret>", XMLError, "XML error: unknown secret usage type"),
        (
            "<secret><usage type='x'/></secret>",
            ConfigUnsupported,
            "unsupported configuration: unknown secret usage type x",
        ),
        (
            "<secret><usage type='ceph'><target>x</target></usage></secret>",
            InternalError,
            "internal error: Ceph usage specified, but name is missing",
        ),
        ("<secret", XMLDetail, "(definition_of_secret):1: "),
        ("<domain/>", XMLError, "XML error: expecting root element of 'secret', not 'domain'"),
    ],
)
def test_what_is_wrong(text: str, error: type[GuesthouseError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_secret(text)
    assert str(caught.value).startswith(message)
    assert caught.value.domain == 30
