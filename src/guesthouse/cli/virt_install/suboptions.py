"""Sub-options, ``--disk size=20,bus=virtio``: their grammar, and setting them on a model's elements.

Words are separated by commas; a comma inside a value is written "\\," or in quotes. The keys are those of the field
declarations (:meth:`guesthouse.model.fields.Element.options`); a family adds keys that mean more than a field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from guesthouse.cli.virt_install.options import UsageError
from guesthouse.errors import XMLError
from guesthouse.model.fields import SWITCH, Element, find_option


class Word(NamedTuple):
    """``key=value``; ``value`` is None where there was no "="."""

    key: str
    value: str | None


def split(text: str) -> list[str]:
    """``text`` at its commas, quotes and backslashes resolved. Raises UsageError for a quote without its twin."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\" and quote != "'" and position < len(text):
            word.append(text[position])
            position += 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "'\"":
            quote = char
        elif char == ",":
            words.append("".join(word))
            word = []
        else:
            word.append(char)
    if quote:
        raise UsageError(f"no closing quotation in '{text}'")
    words.append("".join(word))
    return words


def words_of(
    option: str, text: str, first: str = "", known: Iterable[str] = (), commas: Iterable[str] = ()
) -> list[Word]:
    """The words of ``text``. A first word without "=" is the value of ``first``. Values of keys in ``commas`` may
    hold commas: what follows and is no known key belongs to them."""
    found: list[Word] = []
    keys, open_keys = set(known), set(commas)
    for index, part in enumerate(split(text)):
        key, equals, value = part.partition("=")
        if found and found[-1].key in open_keys and key not in keys:
            last = found[-1]
            found[-1] = Word(last.key, f"{last.value},{part}")
        elif not part:
            continue
        elif equals:
            found.append(Word(key, value))
        elif index == 0 and first:
            found.append(Word(first, part))
        else:
            found.append(Word(part, None))
    return found


def as_dict(words: list[Word]) -> dict[str, str | None]:
    """Keys and values; the last of a key counts."""
    return {word.key: word.value for word in words}


def switch(option: str, key: str, value: str | None) -> bool:
    """A switch: "on", "yes", or nothing at all. Raises UsageError."""
    if value is None:
        return True
    if value.lower() not in SWITCH:
        raise UsageError(f"--{option} {key}: '{value}' is no switch; say on or off")
    return SWITCH[value.lower()]


def apply(option: str, element: Element, words: dict[str, str | None], extra: Iterable[str] = ()) -> None:
    """Set the fields of ``element`` that ``words`` name. Raises UsageError for an unknown key (with those that come
    near; ``extra`` are keys that the caller has taken out) and for a value that does not fit."""
    for key, value in words.items():
        found = find_option(type(element), key)
        if found is None:
            raise unknown(option, key, [*type(element).options(), *extra])
        if value is None:
            if found[0].spec.kind.words and set(found[0].spec.kind.words) & {"yes", "on"}:
                value = "on"
            else:
                raise UsageError(f"--{option} {key} needs a value, as in {key}=...")
        try:
            element.set_option(key, value)
        except XMLError as error:
            raise UsageError(f"--{option}: {error.detail}") from None


def unknown(option: str, key: str, known: Iterable[str]) -> UsageError:
    """The error for a key that there is not."""
    import difflib

    plain = sorted({each.replace("[0-9]*", "") for each in known})
    near = difflib.get_close_matches(key, plain, n=3)
    hint = f"Did you mean {', '.join(near)}?" if near else ""
    return UsageError(f"Unknown --{option} options: ['{key}']", f"{hint} See --{option}=? for all.".strip())


def listing(option: str, keys: Iterable[str]) -> str:
    """The keys of a family, as ``--disk ?`` shows them."""
    return "\n".join([f"--{option} options:", *(f"  {key}" for key in sorted(set(keys)))])
