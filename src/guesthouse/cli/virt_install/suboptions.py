"""Sub-options, ``--disk size=20,bus=virtio``: their grammar, and setting them on a model's elements.

Words are separated by commas; a comma inside a value is written "\\," or in quotes. The keys are those of the field
declarations (:meth:`guesthouse.model.fields.Element.options`); a family adds keys that mean more than a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.places import NUMBER, key_of, numbers_in, prune, prune_nodes, put
from guesthouse.errors import XMLError
from guesthouse.model.fields import SWITCH, Element, Option, find_option


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
    option: str, text: str, first: str | tuple[str, ...] = "", known: Iterable[str] = (), commas: Iterable[str] = ()
) -> list[Word]:
    """The words of ``text``. First words without "=" are the values of ``first``, one after the other. Values of keys in
    ``commas`` may hold commas: what follows and is no known key belongs to them."""
    found: list[Word] = []
    keys, open_keys = {_plain(key) for key in known}, {_plain(key) for key in commas}
    names = [first] if isinstance(first, str) else list(first)
    names = [name for name in names if name]
    for part in split(text):
        key, equals, value = part.partition("=")
        if found and found[-1].value is not None and _plain(found[-1].key) in open_keys and _plain(key) not in keys:
            last = found[-1]
            found[-1] = Word(last.key, f"{last.value},{part}")
            continue
        if equals:
            names.clear()
            found.append(Word(key, value))
        elif names:
            name = names.pop(0)
            if part:
                found.append(Word(name, part))
        elif part:
            found.append(Word(part, None))
    return found


def _plain(key: str) -> str:
    """``key`` without the numbers that it may hold."""
    return re.sub(r"[0-9]", "", key.replace(NUMBER, ""))


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


def apply(
    option: str,
    element: Element,
    words: dict[str, str | None],
    extra: Iterable[str] = (),
    places: Iterable[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> None:
    """Set what ``words`` name: fields of ``element``, and of it the ``places`` that the model does not declare (see
    :mod:`guesthouse.cli.virt_install.places`). A value that is empty takes back what was said. Raises UsageError for an
    unknown key (with those that come near; ``extra`` are keys that the caller has taken out) and for a value that does
    not fit."""
    sizes = {spelled(key, aliases or {}).removesuffix(".unit"): value for key, value in words.items()}
    sizes = {key: value for key, value in sizes.items() if _is_size(element, key) and f"{key}.unit" in words}
    touched: list[tuple[Option, tuple[int, ...]]] = []
    places_touched: list[str] = []
    for given, value in words.items():
        key = spelled(given, aliases or {})
        if key.removesuffix(".unit") in sizes and key.endswith(".unit"):
            continue
        found = find_option(type(element), key)
        path = None
        if found is None:
            path = next((each for each in places if numbers_in(key_of(each), key) is not None), None)
            if path is None:
                known = [*type(element).options(), *map(key_of, places), *(aliases or {}), *extra]
                raise unknown(option, given, known)
        kind = found[0].spec.kind if found is not None else None
        if value is None:
            if (kind is not None and set(kind.words) & {"yes", "on"}) or (path is not None and path.endswith("/")):
                value = "on"
            else:
                raise UsageError(f"--{option} {given} needs a value, as in {given}=...")
        if value == "":
            continue
        if found is not None:
            touched.append(found)
            if "address." in key and key.rpartition(".")[2] in _DECIMAL:
                value = _decimal(value)
            try:
                element.set_option(key, value, (words.get(f"{given}.unit") or "") if key in sizes else "")
            except XMLError as error:
                raise UsageError(f"--{option}: {error.detail}") from None
        elif path is not None and (not path.endswith("/") or switch(option, given, value)):
            put(element, path, numbers_in(key_of(path), key) or (), None if path.endswith("/") else value)
            places_touched.append(path)
    # the greatest numbers first: what is taken out moves what stands behind it
    for place, numbers in sorted(touched, key=lambda item: item[1], reverse=True):
        prune(element, place, numbers)
    for path in dict.fromkeys(places_touched):
        prune_nodes(element, path)


def _is_size(element: Element, key: str) -> bool:
    found = find_option(type(element), key)
    return found is not None and found[0].spec.form == "size"


#: Numbers of an address that virt-install writes in decimal, however they were given.
_DECIMAL = ("domain", "bus", "slot", "function")


def _decimal(text: str) -> str:
    try:
        return str(int(text, 0))
    except ValueError:
        return text


def spelled(key: str, aliases: Mapping[str, str]) -> str:
    """``key`` as it is called today."""
    if key in aliases:
        return aliases[key]
    for pattern, target in aliases.items():
        numbers = numbers_in(pattern, key) if NUMBER in pattern else None
        if numbers is not None:
            for number in numbers:
                target = target.replace(NUMBER, str(number), 1)
            return target
    return key


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
