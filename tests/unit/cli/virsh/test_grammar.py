"""How virsh reads a line: words, quotes, several commands, options before, between and after data."""

from __future__ import annotations

import pytest

from guesthouse.cli.virsh.grammar import GrammarError, parse_line, parse_words, split_line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", [[]]),
        ("list --all", [["list", "--all"]]),
        ("  list\t--all  ", [["list", "--all"]]),
        ("a; b;c\nd", [["a"], ["b"], ["c"], ["d"]]),
        ("a 'b c' \"d e\"", [["a", "b c", "d e"]]),
        ("a b'c d'e\"f g\"h", [["a", "bc def gh"]]),
        ("a '' \"\"", [["a", "", ""]]),
        (r"a b\ c \'d\; \"e", [["a", "b c", "'d;", '"e']]),
        (r'a "b\"c\\d" ' + r"'e\f'", [["a", 'b"c\\d', "e\\f"]]),
        ("a b\\\nc", [["a", "bc"]]),
        ("a #b; c\nd e#f", [["a"], ["d", "e#f"]]),
        ("a 'b; #c", [["a", "b; #c"]]),
    ],
)
def test_words(line: str, words: list[list[str]]) -> None:
    assert [found for found in split_line(line) if found or words == [[]]] == words


@pytest.mark.parametrize(("line", "complaint"), [('a "b', 'missing "'), ("a b\\", "dangling \\")])
def test_what_cannot_be_split(line: str, complaint: str) -> None:
    with pytest.raises(GrammarError) as caught:
        split_line(line)
    assert caught.value.messages == (complaint,)


@pytest.mark.parametrize(
    "line",
    [
        "dumpxml demo --inactive",
        "dumpxml --inactive demo",
        "dumpxml --inactive --domain demo",
        "dumpxml --domain=demo --inactive",
        "dumpxml --inactive -- demo",
        "'dumpxml' --inactive \"demo\"",
    ],
)
def test_options_stand_anywhere(line: str) -> None:
    (given,) = parse_line(line)
    assert given.command.name == "dumpxml"
    assert given.raw("domain") == "demo"
    assert given.has("inactive") and not given.has("wrap")


def test_a_double_dash_ends_the_options() -> None:
    (given,) = parse_line("echo --xml -- --shell --xml")
    assert given.rest() == ["--shell", "--xml"]
    assert given.has("xml") and not given.has("shell")


def test_values_by_place_fill_what_is_not_given_by_name() -> None:
    (given,) = parse_words(["metadata", "--uri", "http://a", "demo", "key", "<x/>"])
    assert {option.name: value for option, value in given.values} == {
        "uri": "http://a",
        "domain": "demo",
        "key": "key",
        "set": "<x/>",
    }


def test_an_alias_stands_for_an_option_and_its_value() -> None:
    (given,) = parse_line("echo --hi --str there")
    assert given.rest() == ["hello", "there"]


def test_several_commands() -> None:
    assert [given.command.name for given in parse_line("list; uri;; # nothing\nhostname;")] == [
        "list",
        "uri",
        "hostname",
    ]


def test_help_of_a_command_is_the_help_command() -> None:
    (given,) = parse_line("dumpxml --help")
    assert (given.command.name, given.raw("command")) == ("help", "dumpxml")


def test_the_words_of_a_process_are_one_command() -> None:
    (given,) = parse_words(["echo", "a;b", "'c'"])
    assert given.rest() == ["a;b", "'c'"]
    assert parse_words(["#echo", "a"]) == []


@pytest.mark.parametrize(
    ("line", "complaints"),
    [
        ("nonsense", ["unknown command: 'nonsense'"]),
        ("dumpxml", ["command 'dumpxml' requires <domain> option"]),
        (
            "domrename",
            ["command 'domrename' requires <domain> option", "command 'domrename' requires <new-name> option"],
        ),
        ("dumpxml a b", ["unexpected data 'b'"]),
        ("dumpxml a --nope", ["command 'dumpxml' doesn't support option --nope"]),
        ("dumpxml a --inactive=1", ["invalid '=' after option --inactive"]),
        ("dumpxml a --inactive --inactive", ["option --inactive already seen"]),
        ("dumpxml a --domain b", ["option --domain already seen"]),
        ("dumpxml a --xpath", ["expected syntax: --xpath <string>"]),
        ("freecell --cellno", ["expected syntax: --cellno <number>"]),
    ],
)
def test_complaints(line: str, complaints: list[str]) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_line(line)
    assert list(caught.value.messages) == complaints


def test_nothing_runs_of_a_line_with_a_mistake() -> None:
    with pytest.raises(GrammarError):
        parse_line("list; nonsense")
