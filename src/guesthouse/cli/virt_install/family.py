"""What a family of sub-options is: the element that it fills, its keys, and the table of all families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from guesthouse.cli.virt_install.options import UsageError
from guesthouse.cli.virt_install.places import Edit, edited, key_of, numbers_in
from guesthouse.cli.virt_install.suboptions import apply, as_dict, spelled, unknown, words_of
from guesthouse.model.domain import Domain
from guesthouse.model.fields import Element
from guesthouse.provision.request import Request

Words = dict[str, str | None]
Apply = Callable[[Request, Words, str], None]
_XPATH = ("xpath[0-9]*.set", "xpath[0-9]*.value", "xpath[0-9]*.create", "xpath[0-9]*.delete")

#: Places that every device has, where the model does not declare them.
ON_DEVICES = (
    *(f"address/@{name}" for name in ("type", "domain", "controller", "bus", "slot", "function", "target", "unit")),
    *(f"address/@{name}" for name in ("port", "multifunction", "base", "iobase", "irq")),
    *(f"address/@{name}" for name in ("reg", "cssid", "ssid", "devno")),
    *("address/zpci/@uid", "address/zpci/@fid", "alias/@name"),
)


@dataclass(frozen=True)
class Family:
    """A family. ``apply`` gets the request and the words; ``at`` says where in a guest its element stands (a field of
    the domain, "os", or a list of devices, "dev.disks"). Keys come from the declarations of ``element`` (of which
    ``only`` leaves some), from ``places`` that are not declared, and from ``extra``, which ``apply`` sees to itself;
    ``aliases`` are other spellings of keys. ``first`` is what words without a key are, in their order; values of keys
    in ``commas`` may hold commas."""

    name: str
    element: type[Element] | None
    apply: Apply
    first: str | tuple[str, ...] = ""
    extra: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    commas: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    at: str = ""
    #: Only places and aliases are keys, no field of the element.
    own_only: bool = False

    def keys(self) -> list[str]:
        """Every key, aliases included."""
        own = self.only or (list(self.element.options()) if self.element is not None and not self.own_only else [])
        # the first source of a character device needs no number
        own = [key.replace("source[0-9]*.", "source.") for key in own if key]
        # of elements that the model keeps as they are the short forms count alone
        places = [] if self.own_only else map(key_of, self.places)
        found = [*own, *places, *self.aliases, *self.extra, *(_XPATH if self.at else ())]
        return list(dict.fromkeys(found))

    def words(self, text: str) -> Words:
        return as_dict(words_of(self.name, text, self.first, self.keys(), (*self.commas, *_XPATH)))

    def fill(self, element: Element, words: Words) -> None:
        """Set ``words`` on ``element``. Raises UsageError."""
        if self.only or self.own_only:
            known = [*self.only, *map(key_of, self.places)]
            for key in words:
                if not any(numbers_in(each, spelled(key, self.aliases)) is not None for each in known):
                    raise unknown(self.name, key, self.keys())
        apply(self.name, element, words, self.extra, self.places, self.aliases)

    def add_to(self, request: Request, text: str) -> None:
        """Do what ``text`` says of the guest, edits by XPath last. Raises UsageError."""
        words = self.words(text)
        edits = take_edits(words) if self.at else []
        self.apply(request, words, text)
        if edits:
            owner, name = _owner(request.domain, self.at)
            value = getattr(owner, name, None)
            if value is None:
                value = next((node for node in owner.extra_nodes if node.tag == name), None)
            if isinstance(value, list):
                if value:
                    value[-1] = edited(value[-1], edits)
            elif isinstance(value, Element):
                setattr(owner, name, edited(value, edits))
            elif value is not None:
                for edit in edits:
                    edit.apply(value)
            else:
                raise UsageError(f"--{self.name}: there is nothing that xpath could edit")


def _owner(domain: Domain, at: str) -> tuple[Element, str]:
    head, _, name = at.rpartition(".")
    return (domain.dev if head == "dev" else domain), name


def take_edits(words: Words) -> list[Edit]:
    """Take the xpath keys out of ``words``: the edits, in the order of their numbers."""
    found: dict[int, Edit] = {}
    for key in list(words):
        for pattern in _XPATH:
            numbers = numbers_in(pattern, key)
            if numbers is not None:
                edit = found.setdefault(numbers[0], Edit())
                setattr(edit, pattern.rpartition(".")[2], words.pop(key) or "")
    return [found[number] for number in sorted(found)]


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
