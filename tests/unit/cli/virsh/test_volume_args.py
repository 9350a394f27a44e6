"""Sizes and counts as volume commands read them."""

from __future__ import annotations

import pytest

from guesthouse.cli.virsh import volume_args, volume_data
from guesthouse.cli.virsh.given import Failed
from guesthouse.cli.virsh.grammar import parse_words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("+7", 7),
        (" \t7", 7),
        ("1b", 1),
        ("3bytes", 3),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1KB", 1000),
        ("2m", 2 << 20),
        ("15E", 15 << 60),
        ("18446744073709551615", 2**64 - 1),
    ],
)
def test_size(text: str, size: int) -> None:
    assert volume_args.size(text) == size


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", None),
        ("x", None),
        ("-1", None),
        ("--1", None),
        ("+-1", None),
        ("18446744073709551616", None),
        ("1Q", "invalid argument: unknown suffix 'Q'"),
        ("1.5M", "invalid argument: unknown suffix '.5M'"),
        ("1 M", "invalid argument: unknown suffix ' M'"),
        ("1\N{SUPERSCRIPT TWO}", "invalid argument: unknown suffix '\N{SUPERSCRIPT TWO}'"),
        ("16E", "numerical overflow: value too large: 16E"),
    ],
)
def test_malformed_size(text: str, cause: str | None) -> None:
    with pytest.raises(Failed) as caught:
        volume_args.size(text)
    assert str(caught.value) == f"Malformed size {text}"
    assert (str(caught.value.__cause__) if caught.value.__cause__ else None) == cause


@pytest.mark.parametrize(
    ("text", "length"),
    [
        (None, 0),
        ("0", 0),
        ("18446744073709551615", 2**64 - 1),
        ("-1", 2**64 - 1),
        (" -2", 2**64 - 2),
        ("-18446744073709551615", 1),
    ],
)
def test_length_of_a_transfer(text: str | None, length: int) -> None:
    words = ["vol-upload", "a", "b"] + ([] if text is None else ["--length", text])
    [given] = parse_words(words)
    assert volume_data._length(given) == length


@pytest.mark.parametrize("text", ["", "-", "1k", "1.0", "18446744073709551616", "-18446744073709551616"])
def test_malformed_length(text: str) -> None:
    [given] = parse_words(["vol-upload", "a", "b", "--length", text])
    with pytest.raises(Failed, match=r"Numeric value '.*' for <length> option is malformed or out of range"):
        volume_data._length(given)
