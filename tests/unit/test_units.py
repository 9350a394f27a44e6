"""Sizes, UUIDs and MAC addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guesthouse import units
from guesthouse.errors import InvalidArg, XMLError


@pytest.mark.parametrize(
    ("text", "default", "size"),
    [
        ("4096", "bytes", 4096),
        ("10", "KiB", 10240),
        ("10G", "bytes", 10 * 2**30),
        ("512 MiB", "bytes", 512 * 2**20),
        ("1KB", "bytes", 1000),
        ("2tb", "bytes", 2 * 10**12),
        ("1 b", "KiB", 1),
    ],
)
def test_sizes(text: str, default: str, size: int) -> None:
    assert units.parse_size(text, default) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "10Q", "10 Gi", "1 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidArg):
        units.parse_size(text)


def test_size_over_64_bits() -> None:
    with pytest.raises(XMLError):
        units.scale(2**40, "GiB")


@given(st.uuids())
def test_uuid_in_any_spelling(value: object) -> None:
    text = str(value)
    for spelling in (text, text.upper(), text.replace("-", ""), f" {text}\n"):
        assert units.parse_uuid(spelling) == text


@pytest.mark.parametrize("text", ["", "c7a5fdbd", "g7a5fdbd-edaf-9455-926a-d65c16db1809"])
def test_what_is_no_uuid(text: str) -> None:
    with pytest.raises(XMLError):
        units.parse_uuid(text)


def test_macs() -> None:
    assert units.parse_mac("52:54:0:AA:b:1") == "52:54:00:aa:0b:01"
    mac = units.new_mac()
    assert mac.startswith("52:54:00:") and units.parse_mac(mac) == mac
    for text in ("", "52:54:00:aa:bb", "52:54:00:aa:bb:cc:dd", "52-54-00-aa-bb-cc", "52:54:00:aa:bb:xx"):
        with pytest.raises(XMLError):
            units.parse_mac(text)


@pytest.mark.parametrize(
    ("size", "shown"), [(0, (0, "B")), (1023, (1023, "B")), (1536, (1.5, "KiB")), (2**30, (1, "GiB"))]
)
def test_pretty(size: int, shown: tuple[float, str]) -> None:
    assert units.pretty_size(size) == shown
