"""Our virsh takes the options that C virsh takes: the same names, kinds and places, of every command that both have."""

from __future__ import annotations

import functools
import re
import subprocess

import pytest

from guesthouse.cli.virsh import index
from guesthouse.cli.virsh.command import ALIAS, FLAG, REST, Command
from support.guesthoused import BIN

C_VIRSH = "/usr/bin/virsh"
OUR_VIRSH = str(BIN / "virsh")

# command -> why its options differ; none may be listed that is equal
DIFFERENT: dict[str, str] = {}

_MANY = 30  # more data than any command has places for


def _commands() -> list[str]:
    """The commands that both have."""
    out = subprocess.run([C_VIRSH, "help"], capture_output=True, text=True, check=True).stdout
    theirs = set(re.findall(r"^    (\S+) ", out, re.M))
    return sorted(theirs & set(index.MODULES))


COMMANDS = _commands()


def _ours(name: str) -> Command:
    found = index.find(name)
    assert found is not None
    return found


@functools.cache
def _help(program: str) -> dict[str, str]:
    """Command -> its help, all from one run."""
    lines = "".join(f"help {name}\n" for name in COMMANDS)
    run = subprocess.run([program, "-q"], input=lines, capture_output=True, text=True, check=True)
    parts = re.split(r"^virsh # help (\S+)$|^virsh # $", run.stdout, flags=re.M)
    return {name: text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name}


def _usage(text: str) -> list[str]:
    """The option column of a command's help."""
    _, found, options = text.partition("\n  OPTIONS\n")
    return re.findall(r"^    ((?:\[--\S+\]|--\S+|<\S+>)(?: <\w+>)?)  ", options, re.M) if found else []


def test_there_is_much_to_compare() -> None:
    assert len(COMMANDS) > 80
    assert set(_help(C_VIRSH)) == set(_help(OUR_VIRSH)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_synopsis_and_options_are_the_same(name: str) -> None:
    if name in DIFFERENT:
        assert _usage(_help(C_VIRSH)[name]) != _usage(_help(OUR_VIRSH)[name]), "not different any more"
        pytest.skip(DIFFERENT[name])
    theirs, ours = (_help(program)[name] for program in (C_VIRSH, OUR_VIRSH))
    assert _usage(ours) == _usage(theirs)
    synopsis = re.compile(r"  SYNOPSIS\n(.*)\n")
    want, have = synopsis.search(theirs), synopsis.search(ours)
    assert want and have and have[1] == want[1]


def _questions(name: str) -> list[str]:
    """Lines that no virsh runs, whose complaints tell what the command takes.

    A row of words shows how many values it takes by place, one option more which of them were taken so.
    """
    command = _ours(name)
    words = " ".join(f"w{number}" for number in range(_MANY))
    lines = [f"{name} {words}", f"{name} --nonsense", name + " --help=x"]
    by_place = sum(1 for o in command.options if o.kind not in (FLAG, ALIAS, REST) and not o.named)
    taken = " ".join(f"w{number}" for number in range(by_place))
    for option in command.options:
        value = "" if option.kind == FLAG else " v"
        if option.kind == ALIAS and "=" in option.target:
            value = ""
        lines.append(f"{name} {taken} --{option.name}{value} --nonsense")
        lines.append(f"{name} --{option.name}{value} --{option.name}{value} --nonsense")
        lines.append(f"{name} --{option.name}=v --nonsense")
        lines.append(f"{name} --{option.name}")
    # what parses after all would be run
    return [line for line in lines if not line.endswith(name) and _refused(line)]


def _refused(line: str) -> bool:
    from guesthouse.cli.virsh.grammar import GrammarError, parse_line

    try:
        parse_line(line)
    except GrammarError:
        return True
    return False


@functools.cache
def _answers(program: str) -> list[str]:
    """The complaints of one run that is asked everything, in order; a marker between the questions."""
    lines = []
    for name in COMMANDS:
        if name != "help":  # it takes anything
            for number, line in enumerate(_questions(name)):
                lines.append(f"echo --err '@{name}@{number}'\n{line}\n")
    run = subprocess.run([program], input="".join(lines), capture_output=True, text=True)
    return run.stderr.replace("error: @", "@").splitlines()


def _by_question(program: str) -> dict[str, list[str]]:
    answers: dict[str, list[str]] = {}
    for line in _answers(program):
        if line.startswith("@"):
            answers[line] = []
        else:
            answers[next(reversed(answers))].append(line)
    return answers


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "help" and name not in DIFFERENT])
def test_complaints_are_the_same(name: str) -> None:
    theirs, ours = _by_question(C_VIRSH), _by_question(OUR_VIRSH)
    lines = _questions(name)
    assert lines
    for number, line in enumerate(lines):
        assert ours[f"@{name}@{number}"] == theirs[f"@{name}@{number}"], line
