"""How virsh reads the values of options."""

from __future__ import annotations

import pytest

from guesthouse.cli.virsh.command import Command, flag, number, rest, string
from guesthouse.cli.virsh.given import Failed, Given, parse_number, split_commas

OPTIONS = {
    "name": string("name", ""),
    "free": string("free", "", empty=True),
    "count": number("count", ""),
    "timeout": number("timeout", ""),
    "on": flag("on", ""),
    "off": flag("off", ""),
    "all": rest("all", ""),
}


def given(**values: str) -> Given:
    command = Command("virsh", "probe", "", tuple(OPTIONS.values()), lambda shell, given: None)
    return Given(command, [(OPTIONS[name], value) for name, value in values.items()])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("42", 42), (" 7", 7), ("+7", 7), ("-7", -7), ("\t-0", 0)],
)
def test_numbers(text: str, value: int) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", " ", "-", "+-1", "1 ", "0x10", "1.5", "ten", "１"])
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None


def test_ranges() -> None:
    assert given(count="-2147483648").integer("count") == -(2**31)
    assert given(count="4294967295").unsigned("count") == 2**32 - 1
    assert given(count="18446744073709551615").unsigned_long("count") == 2**64 - 1
    assert given().integer("count") is None
    for text, read in (
        ("2147483648", Given.integer),
        ("-1", Given.unsigned),
        ("4294967296", Given.unsigned),
        ("18446744073709551616", Given.unsigned_long),
        ("x", Given.integer),
    ):
        with pytest.raises(Failed) as caught:
            read(given(count=text), "count")
        assert str(caught.value) == f"Numeric value '{text}' for <count> option is malformed or out of range"


@pytest.mark.parametrize(
    ("text", "size"),
    [("10", 10240), ("10k", 10240), ("1KB", 1000), ("2MiB", 2**21), ("3g", 3 * 2**30), ("5b", 5), (" +1B", 1)],
)
def test_sizes_with_units(text: str, size: int) -> None:
    assert given(count=text).scaled("count", 1024) == size


@pytest.mark.parametrize("text", ["", "k", "1q", "-1", "1 2", "20000000000G", "99999999999999999999"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Failed):
        given(count=text).scaled("count", 1024)


def test_an_empty_value_is_refused_where_it_may_not_be() -> None:
    assert given(free="").text("free") == ""
    assert given(name="").raw("name") == ""
    with pytest.raises(Failed) as caught:
        given(name="").text("name")
    assert str(caught.value) == "Failed to get option 'name': Option argument is empty"


def test_timeouts() -> None:
    assert given().timeout() is None
    assert given(timeout="3").timeout() == 3.0
    for text in ("0", "2147484", "-1", "soon"):
        with pytest.raises(Failed):
            given(timeout=text).timeout()


def test_options_that_exclude_or_need_each_other() -> None:
    given(on="").exclusive("on", "off")
    with pytest.raises(Failed) as caught:
        given(on="", off="").exclusive("on", "off")
    assert str(caught.value) == "Options --on and --off are mutually exclusive"
    with pytest.raises(Failed) as caught:
        given(on="").require("on", "off")
    assert str(caught.value) == "Option --off is required by option --on"


def test_flags_and_the_rest() -> None:
    assert given(on="").flags({"on": 4, "off": 2}) == 4
    command = given().command
    assert Given(command, [(OPTIONS["all"], "a"), (OPTIONS["on"], ""), (OPTIONS["all"], "b")]).rest() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a,,b", ["a,b"]),
        ("a,b,,c,d", ["a", "b,c", "d"]),
        ("a,", ["a", ""]),
    ],
)
def test_commas(text: str, words: list[str]) -> None:
    assert split_commas(text) == words
