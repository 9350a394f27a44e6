"""A YAML document whose values know where they stand: each complaint names the file, the line and the column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from guesthouse.errors import InvalidArg

_VARIABLE = re.compile(
    r"\$(?:\$|(?P<bare>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-?])(?P<rest>[^}]*))?\}|)"
)
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


class ComposeError(InvalidArg):
    """A file that says what cannot be; a line for each thing that is wrong."""

    prefix = ""


class Wrong(Exception):
    """One value that cannot be."""

    def __init__(self, value: Value, text: str) -> None:
        super().__init__(text)
        self.value, self.text = value, text


@dataclass
class Source:
    """The file, the variables that ``${NAME}`` in it stands for, and what was found wrong with it so far."""

    name: str
    variables: Mapping[str, str]
    problems: list[tuple[int, int, str]] = field(default_factory=list)

    def note(self, problem: Wrong) -> None:
        value = problem.value
        where = f"{value.path}: " if value.path else ""
        self.problems.append((value.line, value.column, where + problem.text))

    def check(self) -> None:
        """Raises ComposeError where anything is wrong, in the order of the file."""
        if self.problems:
            lines = dict.fromkeys(
                f"{self.name}:{line}:{column}: {text}" for line, column, text in sorted(self.problems)
            )
            raise ComposeError("\n".join(lines))


class Value:
    """A value at its place. What it is asked for and is not raises :class:`Wrong`."""

    def __init__(self, node: Any, source: Source, path: str = "", at: Any = None) -> None:
        self._node, self.source, self.path = node, source, path
        mark = (at or node).start_mark
        self.line, self.column = mark.line + 1, mark.column + 1

    def wrong(self, text: str) -> Wrong:
        return Wrong(self, text)

    @property
    def kind(self) -> str:
        """ "text", "list", "map", or "" for nothing."""
        if self._node.tag == "tag:yaml.org,2002:null":
            return ""
        return {"scalar": "text", "sequence": "list", "mapping": "map"}[self._node.id]

    def _must(self, kind: str, expected: str) -> None:
        if self.kind != kind:
            found = {"": "nothing", "text": "one value", "list": "a list", "map": "keys with values"}[self.kind]
            raise self.wrong(f"expected {expected}, found {found}")

    # -- scalars

    def raw(self) -> str:
        """The text as it stands, without variables."""
        self._must("text", "a text")
        return str(self._node.value)

    def text(self) -> str:
        """The text, with the values of variables: ``${NAME}``, ``${NAME:-default}``, ``${NAME:?why}``; ``$$`` is a
        dollar."""
        return _VARIABLE.sub(self._variable, self.raw())

    def _variable(self, match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, how, rest = match["bare"] or match["name"], match["how"] or "", match["rest"] or ""
        if not name:
            raise self.wrong("a '$' alone: write ${NAME} for a variable, $$ for a dollar")
        found = self.source.variables.get(name)
        if found is None or (how.startswith(":") and not found):
            if how.endswith("-"):
                return rest
            raise self.wrong(f"the variable {name} is not set" + (f": {rest}" if rest else ""))
        return found

    def word(self) -> str:
        """A text that is not empty and of one line."""
        found = self.text().strip()
        if not found or "\n" in found:
            raise self.wrong("expected a word" + (", found several lines" if found else ", found an empty text"))
        return found

    def truth(self) -> bool:
        found = self.text().lower()
        if found not in (*_TRUE, *_FALSE):
            raise self.wrong(f"'{found}' is neither true nor false")
        return found in _TRUE

    def number(self, least: int = 1) -> int:
        found = self.text().strip()
        if not (found.isascii() and found.isdigit()) or int(found) < least:
            raise self.wrong(f"'{found}' is no whole number of at least {least}")
        return int(found)

    def choice(self, *words: str) -> str:
        found = self.text()
        if found not in words:
            raise self.wrong(f"'{found}' is not one of: {', '.join(words)}" + _near(found, words))
        return found

    def made(self, read: Callable[[str], Any]) -> Any:
        """What ``read`` makes of the word; its InvalidArg or ValueError is this value's."""
        try:
            return read(self.word())
        except InvalidArg as error:
            raise self.wrong(error.detail) from None
        except ValueError as error:
            raise self.wrong(str(error)) from None

    # -- what holds others

    def items(self) -> list[Value]:
        """The values of a list; one alone is a list of one."""
        if self.kind == "text":
            return [self]
        self._must("list", "a list")
        return [Value(node, self.source, f"{self.path}[{number}]") for number, node in enumerate(self._node.value)]

    def words(self) -> list[str]:
        return [item.word() for item in self.items()]

    def entries(self) -> dict[str, Value]:
        """The values of a mapping; its merges (``<<``) are done. Raises Wrong for a key that stands twice."""
        self._must("map", "keys with values")
        found: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key, node in self._node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for each in node.value if node.id == "sequence" else [node]:
                    for name, value in Value(each, self.source, self.path).entries().items():
                        merged.setdefault(name, value)
                continue
            place = Value(key, self.source, self.path)
            if key.id != "scalar":
                raise place.wrong("a key is a word")
            name = str(key.value)
            value = Value(node, self.source, f"{self.path}.{name}" if self.path else name, key)
            if name in found:
                raise value.wrong(f"stands twice (first in line {found[name].line})")
            found[name] = value
        return {**{name: value for name, value in merged.items() if name not in found}, **found}

    def read(self, readers: Mapping[str, Callable[[Value], Any]], foreign: Mapping[str, str]) -> dict[str, Any]:
        """What ``readers`` make of the keys that are there. What is wrong with one is noted, and the key left out;
        ``foreign`` are words of other files and what they are called here. Keys that begin with "x-" are anybody's."""
        found: dict[str, Any] = {}
        for name, value in self.entries().items():
            try:
                if name in readers:
                    if value.kind:
                        found[name] = readers[name](value)
                elif not name.startswith("x-"):
                    hint = f"; here it is called '{foreign[name]}'" if name in foreign else _near(name, readers)
                    known = "" if hint else f"; known are: {', '.join(readers)}"
                    value.path = self.path
                    raise value.wrong(f"unknown key '{name}'{hint}{known}")
            except Wrong as problem:
                self.source.note(problem)
        return found

    def plain(self) -> Any:
        """The value as Python has it, variables left alone: for documents of others'."""
        from ruamel.yaml import YAML

        constructor: Any = YAML(typ="safe", pure=True).constructor
        return constructor.construct_document(self._node)


def _near(word: str, known: Any) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


def near(word: str, known: Any) -> str:
    """ "; did you mean 'x'?", or nothing."""
    return _near(word, known)


def parse(text: str, name: str, variables: Mapping[str, str]) -> Value:
    """The document in ``text``. Raises ComposeError where it is no YAML, or more than one document."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    source = Source(name, variables)
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark is not None else "1:1"
        why = " ".join(part for part in (error.context, error.problem) if part)
        raise ComposeError(f"{name}:{where}: this is no YAML: {why}") from None
    except YAMLError as error:
        raise ComposeError(f"{name}: this is no YAML: {error}") from None
    if node is None:
        raise ComposeError(f"{name}: the file is empty")
    return Value(node, source)
