"""Editing XML: what the editor is given, what comes of what it leaves, and the questions when that is not taken."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.cli.virsh import editing
from guesthouse.cli.virsh.given import Failed
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import XMLError
from support.terminal import Terminal

TEXT = "<thing>\n  <size>1</size>\n</thing>\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; nothing may be left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.delenv("VISUAL", raising=False)
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield place
    assert list(place.iterdir()) == []


class Thing:
    """An object with XML; counts what is asked of it."""

    def __init__(self) -> None:
        self.text = TEXT
        self.defined: list[str] = []
        self.complaint = ""

    def read(self) -> str:
        return self.text

    def define(self, text: str) -> str:
        if self.complaint:
            raise XMLError(self.complaint)
        self.defined.append(text)
        return f"made {len(self.defined)}"


def edit(thing: Thing) -> str | None:
    return editing.edit(Shell(), thing.read, thing.define)


def refused(thing: Thing) -> Failed:
    with pytest.raises(Failed) as caught:
        edit(thing)
    assert thing.defined == []
    return caught.value


def test_unchanged_text_defines_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "true")
    thing = Thing()
    assert edit(thing) is None
    assert thing.defined == []


@pytest.mark.parametrize(
    ("visual", "editor"),
    [(None, "sed -i s/1/2/"), (None, "sed -i -e 's/<size>1/<size>2/'"), ("sed -i s/1/2/", "false")],
    ids=["words", "quotes", "VISUAL before EDITOR"],
)
def test_changed_text_is_defined(monkeypatch: pytest.MonkeyPatch, visual: str | None, editor: str) -> None:
    monkeypatch.setenv("EDITOR", editor)
    if visual is not None:
        monkeypatch.setenv("VISUAL", visual)
    thing = Thing()
    assert edit(thing) == "made 1"
    assert thing.defined == [TEXT.replace("1", "2")]


def test_plain_editor_needs_no_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a temporary folder may be called anything; a shell is not given such a name."""
    place = tmp_path / "it's here"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setenv("EDITOR", "true")
    assert edit(Thing()) is None
    monkeypatch.setenv("EDITOR", "sed -i s/1/2/")
    assert "unacceptable characters (is $TMPDIR wrong?)" in str(refused(Thing()))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("editor", "said", "cause"),
    [
        ("false", "", r"internal error: Child process \(false \S+\.xml\) unexpected exit status 1"),
        ("exit 3;", "", r"internal error: Child process \(sh -c 'exit 3; \S+\.xml'\) unexpected exit status 3"),
        ("kill -9 $$;", "", rf"internal error: Child process .* unexpected fatal signal {signal.SIGKILL:d}"),
        ("no-such-editor", "", "Cannot find 'no-such-editor' in path: No such file or directory"),
        ("", "", "Cannot find '' in path: No such file or directory"),
        ("/no/such", "", r"internal error: Child process \(/no/such \S+\.xml\) unexpected exit status 127"),
        ("rm", "failed to read temporary file: No such file or directory", "Failed to open file '.*': No such file"),
        ("truncate -s 11M", "failed to read temporary file: Value too large", "Failed to read file '.*': Value too"),
    ],
)
def test_editor_that_fails(monkeypatch: pytest.MonkeyPatch, editor: str, said: str, cause: str) -> None:
    monkeypatch.setenv("EDITOR", editor)
    failed = refused(Thing())
    assert said in str(failed) and bool(said) == bool(str(failed))
    with pytest.raises(type(failed.__cause__), match=cause):
        raise failed.__cause__  # type: ignore[misc]


def test_no_place_for_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    assert str(refused(Thing())) == "g_mkstemp_full: failed to create temporary file: No such file or directory"


def test_refused_text_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "sed -i s/1/x/")
    thing = Thing()
    thing.complaint = "not a size"
    failed = refused(thing)
    assert str(failed) == "Failed."
    assert str(failed.__cause__) == "XML error: not a size"


def test_somebody_else_was_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they did is not overwritten."""
    monkeypatch.setenv("EDITOR", "sed -i s/1/2/")
    thing = Thing()
    texts = iter([TEXT, TEXT.replace("1", "3")])
    monkeypatch.setattr(thing, "read", lambda: next(texts))
    assert str(refused(thing)) == "The XML configuration was changed by another user."


# On a terminal: the text is refused until it says 3, or, when relaxed, taken as it is.
_PROGRAM = """
import sys
from guesthouse.cli.virsh import editing
from guesthouse.cli.virsh.given import Failed
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import XMLError

def define(text):
    if "3" not in text:
        raise XMLError(f"no 3 in {len(text)}")
    return text

relaxed = (lambda text: "relaxed " + text) if "relax" in sys.argv else None
try:
    print("made", editing.edit(Shell(), lambda: "<a>1</a>", define, relaxed))
except Failed as failed:
    print("gave up", str(failed))
"""
_PROMPT = r"\rFailed\. Try again\? \[y,n,f,\?\]: $"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Terminal]]:
    monkeypatch.setenv("EDITOR", "sed -i -e s/2/3/ -e s/1/2/")
    opened: list[Terminal] = []
    yield opened
    for shown in opened:
        shown.close()


def start(opened: list[Terminal], *args: str) -> Terminal:
    shown = Terminal([sys.executable, "-c", _PROGRAM, *args])
    opened.append(shown)
    return shown


def answer(shown: Terminal, keys: str, then: str) -> None:
    before = len(shown.text)
    shown.send(keys)
    shown.expect(then, 20, start=before)


def test_questions_on_a_terminal(terminal: list[Terminal]) -> None:
    shown = start(terminal)
    shown.expect("error: XML error: no 3 in 8\r\n" + _PROMPT, 20)
    answer(shown, "x", _PROMPT)  # no answer: asked again
    answer(shown, "i", _PROMPT)  # nothing to relax
    answer(shown, "?", "y - yes.*\r\nn - no.*\r\nf - force.*\r\n\\? - print.*\r\n" + _PROMPT)
    assert "turn off validation" not in shown.text
    answer(shown, "f", "error: XML error: no 3 in 8\r\n" + _PROMPT)
    answer(shown, "Y", "made <a>3</a>")  # the editor goes on from what it left
    assert shown.wait() == 0


@pytest.mark.parametrize("key", ["n", "N", "\x03", "\x04"], ids=["n", "N", "^C", "^D"])
def test_giving_up(terminal: list[Terminal], key: str) -> None:
    shown = start(terminal)
    shown.expect(_PROMPT, 20)
    answer(shown, key, "gave up \r\n$")
    assert shown.wait() == 0


def test_relaxing(terminal: list[Terminal]) -> None:
    shown = start(terminal, "relax")
    asked = r"\rFailed\. Try again\? \[y,n,i,f,\?\]: $"
    shown.expect(asked, 20)
    answer(shown, "?", "i - turn off validation and try to redefine again\r\nf - force.*\r\n.*\r\n" + asked)
    answer(shown, "i", "made relaxed <a>2</a>")
    assert shown.wait() == 0
