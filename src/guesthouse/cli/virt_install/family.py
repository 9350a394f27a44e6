"""What a family of sub-options is: the element that it fills, its keys, and the table of all families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.suboptions import as_dict, words_of
from guesthouse.model.fields import Element
from guesthouse.provision.request import Request

Words = dict[str, str | None]
Apply = Callable[[Request, Words, str], None]


@dataclass(frozen=True)
class Family:
    """A family. ``apply`` gets the request and the words; ``only`` limits the element's keys to some; ``extra`` are
    the keys that ``apply`` sees to; ``rename`` maps a key that people know to the element's."""

    name: str
    element: type[Element] | None
    apply: Callable[[Request, Words, str], None]
    first: str = ""
    extra: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    commas: tuple[str, ...] = ()

    def keys(self) -> list[str]:
        """Every key, aliases included."""
        if self.only:
            return [*self.only, *self.extra]
        own = list(self.element.options()) if self.element is not None else []
        # the first source of a character device needs no number
        own = [key.replace("source[0-9]*.", "source.") for key in own]
        return [key for key in own if key not in _HIDDEN] + list(self.extra)

    def words(self, text: str) -> Words:
        return as_dict(words_of(self.name, text, self.first, self.keys(), self.commas))


_HIDDEN = {""}


def need(option: str, words: Words, key: str) -> str | None:
    """Take ``key`` out of ``words``: its value, None where it is not there. Raises UsageError where it has none."""
    if key not in words:
        return None
    value = words.pop(key)
    if value is None:
        raise UsageError(f"--{option} {key} needs a value, as in {key}=...")
    return value


#: Every family by its name; the modules of families fill it.
FAMILIES: dict[str, Family] = {}


def add(*families: Family) -> None:
    """Put ``families`` into the table."""
    FAMILIES.update({family.name: family for family in families})


def seen_to_elsewhere(request: Request, words: Words, text: str) -> None:
    """Stands where a family's words are read by a step of its own."""
    raise AssertionError("seen to elsewhere")
