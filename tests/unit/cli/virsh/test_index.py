"""The index is complete, and every command can say what it is."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

from guesthouse.cli import virsh
from guesthouse.cli.virsh import help, index
from guesthouse.cli.virsh.command import ALIAS, DATA, FLAG, NUMBER, REGISTRY, REST, STRING
from guesthouse.cli.virsh.shell import Shell

NAMES = sorted(index.MODULES)


def test_the_index_and_the_declarations_agree() -> None:
    for module in pkgutil.iter_modules(virsh.__path__):
        importlib.import_module(f"{virsh.__name__}.{module.name}")
    assert {name: command.action.__module__ for name, command in REGISTRY.items()} == {
        # one function may be two commands; both are declared where it is
        name: f"{virsh.__name__}.{module}"
        for name, module in index.MODULES.items()
    }


def test_groups() -> None:
    grouped = index.all_commands()
    assert list(grouped) == list(index.GROUPS)
    assert all(grouped.values())
    assert sorted(command.name for commands in grouped.values() for command in commands) == index.names()
    assert {name for name in NAMES if (found := index.find(name)) and found.hidden} == index.HIDDEN


@pytest.mark.parametrize("name", NAMES)
def test_declarations_are_sound(name: str) -> None:
    command = index.find(name)
    assert command is not None and command.name == name
    assert command.help and not command.help.endswith(".") and not command.help[0].isupper()
    names = [option.name for option in command.options]
    assert len(set(names)) == len(names)
    assert "help" not in names
    for place, option in enumerate(command.options):
        assert option.kind in (FLAG, STRING, NUMBER, DATA, REST, ALIAS)
        assert re.fullmatch(r"[a-zA-Z0-9]+([-_][a-z0-9]+)*", option.name)
        if option.kind == ALIAS:
            target = option.target.partition("=")[0]
            assert target in names[place + 1 :], "an alias stands before what it stands for"
        else:
            assert option.help
        if option.kind == REST:
            assert option is command.options[-1]


@pytest.mark.parametrize("name", NAMES)
def test_help_names_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = index.find(name)
    assert command is not None
    help.one_command(Shell(), command)
    text = capsys.readouterr().out
    assert text.startswith(f"  NAME\n    {name} - {command.help}\n\n  SYNOPSIS\n    {name}")
    for option in command.options:
        assert bool(re.search(rf"[-<]{option.name}[\] >\n]", text)) == (option.kind != ALIAS)


def test_what_a_mistyped_command_may_mean() -> None:
    assert index.hint("dumpxm").startswith("hint: did you mean 'dumpxml'")
    assert index.hint("qqqqqq") == ""
    assert index.find("qqqqqq") is None
