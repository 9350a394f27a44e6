"""Documents out of libvirt's RELAX NG schemas: each part in each of its forms, alone and mixed.

:func:`alone` walks a named pattern and gives its smallest form, then one form for each choice in it (an optional part, a
word of a list, an example of a number), with no more around it than it needs; :func:`mixed` throws dice.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

SCHEMAS = Path("/usr/share/libvirt/schemas")
_NS = "{http://relaxng.org/ns/structure/1.0}"
_DEEP = 2

#: What stands for text, in this order where a type or a pattern allows several.
_EXAMPLES = (
    *("1", "0", "2", "4", "16", "1000", "4096", "1048576", "-1", "yes", "on", "0x1", "0x0", "0x08", "0x1af4", "1.0"),
    *("0.1", "/dev/null", "/var/tmp/a", "file", "vda", "0-1", "0,2", "0000", "52:54:00:11:22:33", "127.0.0.1", "::1"),
    *(
        "example.org",
        "e0a52b1c-8f54-4d6c-9ab2-111111111111",
        "abc",
        "AuthenticAMD",
        "opt/a/b",
        "a b",
        "2030-01-02T03:04:05",
    ),
    *("01/31/2020", "0-1,3", "naa.5000000000000001", "/dev/dri/renderD128", "{a}", "de", "KiB", "MiB", "1024x768"),
)

#: A way to choose: the place of a choice in the whole walk, its place in its own definition, the number of its forms, and
#: the usual one.
Choose = Callable[[str, str, int, int], int]

#: What stands for text of an attribute or element of that name.
_NAMED = {
    "port": ("4567",),
    "service": ("4568", "abc"),
    "host": ("127.0.0.1", "example.org"),
    "path": ("/var/tmp/a",),
    "address": ("10.0.2.1", "::1"),
    "listen": ("127.0.0.1",),
    "mode": ("bind", "connect", "client"),
    "channel": ("org.example.0",),
    "passwd": ("secret", "too-long-a-word"),
    "passwdValidTo": ("2030-01-02T03:04:05", "soon"),
    "timezone": ("Europe/Berlin",),
}
#: Names of parts that are there unless they are left out.
_USUAL = ("path", "host", "service", "channel", "source", "address", "port")


@cache
def _defines() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for file in (
        "domaincommon",
        "basictypes",
        "storagecommon",
        "networkcommon",
        "cputypes",
        "nwfilter_params",
        "privatedata",
    ):
        for define in etree.parse(str(SCHEMAS / f"{file}.rng")).getroot().iter(f"{_NS}define"):
            found.setdefault(define.get("name"), []).append(define)
    return found


def _parts(node: Any) -> list[Any]:
    return [child for child in node if isinstance(child.tag, str)]


@cache
def _fitting(kind: str, patterns: tuple[str, ...], low: str, high: str) -> tuple[str, ...]:
    whole = kind not in ("string", "token", "NCName", "dateTime")
    found = []
    for text in _EXAMPLES:
        if whole:
            if not re.fullmatch(r"-?\d+", text) or (
                text.startswith("-") and kind not in ("int", "integer", "long", "short")
            ):
                continue
            if (low and int(text) < int(low)) or (high and int(text) > int(high)):
                continue
            if kind.startswith("positive") and int(text) < 1:
                continue
        if all(re.fullmatch(pattern, text) for pattern in patterns):
            found.append(text)
    return tuple(found[:4])


def _examples(data: Any) -> tuple[str, ...]:
    params = {}
    patterns = []
    for param in data.iter(f"{_NS}param"):
        if param.get("name") == "pattern":
            patterns.append(param.text.strip().replace(r"\c", r"[\w.:-]").replace(r"\i", r"[A-Za-z_:]"))
        else:
            params[param.get("name")] = param.text
    found = _fitting(data.get("type"), tuple(patterns), params.get("minInclusive", ""), params.get("maxInclusive", ""))
    return found or ("1",)


class _Walk:
    """One way through a pattern."""

    def __init__(self, choose: Choose, without: Collection[str]) -> None:
        self._choose = choose
        self.without = without

    def choose(self, path: str, count: int, usual: int = 0) -> int:
        return self._choose(path, path.rpartition("/")[2], count, usual)

    def into(self, target: Any, node: Any, path: str, depth: tuple[str, ...]) -> None:
        kind = etree.QName(node).localname
        if kind in ("optional", "zeroOrMore"):
            usual = any(part.get("name") in _USUAL for part in _parts(node))
            if self.choose(path, 2, int(usual)):
                self.all(target, node, path, depth)
        elif kind == "choice":
            parts = _parts(node)
            at = self.choose(path, len(parts))
            self.into(target, parts[at], f"{path}.{at}", depth)
        elif kind == "ref":
            name = node.get("name")
            if depth.count(name) < _DEEP and name not in self.without:
                for number, define in enumerate(_defines()[name]):
                    self.all(target, define, f"{path}/{name}{number or ''}", (*depth, name))
        elif kind == "element":
            space = next(
                (
                    each.get("ns")
                    for each in (node, *node.iterancestors())
                    if each.tag != f"{_NS}grammar" and each.get("ns")
                ),
                None,
            )
            name = self.name(node, path, depth)
            child = etree.SubElement(
                target, f"{{{space}}}{name}" if space else name, nsmap={"qemu": space} if space else None
            )
            self.all(child, node, path, depth)
        elif kind == "attribute":
            value = etree.Element("value")
            name = self.name(node, path, depth)
            words = _NAMED.get(name, ("abc",))
            parts = _parts(node)
            if not parts or etree.QName(parts[0]).localname == "text":
                value.text = words[self.choose(path, len(words))]
            else:
                self.all(value, node, path, depth)
            target.set(name, value.text or "")
        elif kind == "value":
            target.text = node.text
        elif kind == "data":
            texts = _examples(node)
            target.text = texts[self.choose(path, len(texts))]
        elif kind == "text":
            target.text = target.text or "abc"
        elif kind in ("group", "interleave", "oneOrMore", "mixed", "list"):
            self.all(target, node, path, depth)

    def all(self, target: Any, node: Any, path: str, depth: tuple[str, ...]) -> None:
        for number, part in enumerate(_parts(node)):
            if etree.QName(part).localname not in ("name", "anyName", "nsName"):
                self.into(target, part, f"{path}.{number}", depth)

    def name(self, node: Any, path: str, depth: tuple[str, ...]) -> str:
        """An element's or attribute's; one of them where the pattern has a choice of names."""
        if node.get("name"):
            return str(node.get("name"))
        for part in _parts(node):
            if etree.QName(part).localname == "name":
                return str(part.text)
            names = [name.text for name in part.iter(f"{_NS}name")]
            if names and etree.QName(part).localname == "choice":
                return str(names[self.choose(f"{path}?", len(names))])
        return "any"


def _walk(pattern: str, choose: Choose, without: Collection[str]) -> list[str]:
    root = etree.Element("root")
    walk = _Walk(choose, without)
    for define in _defines()[pattern]:
        walk.all(root, define, pattern, (pattern,))
    head = [f"<!-- {name}={value} -->" for name, value in root.attrib.items()]
    return head + [etree.tostring(child, encoding="unicode") for child in root]


def alone(pattern: str, without: Collection[str] = ()) -> Iterator[list[str]]:
    """The elements of ``pattern`` (texts) in its smallest form, then in one form for each of its choices; what the
    definitions ``without`` say stays out."""
    known: set[str] = set()
    waiting: list[dict[str, int]] = [{}]
    while waiting:
        decided = waiting.pop(0)
        met: dict[str, tuple[str, int, int]] = {}

        def choose(
            path: str,
            own: str,
            count: int,
            usual: int,
            decided: dict[str, int] = decided,
            met: dict[str, tuple[str, int, int]] = met,
        ) -> int:
            met.setdefault(path, (own, count, usual))
            return decided.get(path, usual)

        yield _walk(pattern, choose, without)
        for path, (own, count, usual) in met.items():
            if own not in known:
                known.add(own)
                waiting += [decided | {path: other} for other in range(count) if other != usual]


def mixed(pattern: str, seed: int, share: float = 0.3, without: Collection[str] = ()) -> list[str]:
    """The elements of ``pattern``, an optional part of it with the probability ``share``."""
    dice = random.Random(f"{pattern} {seed}")

    def choose(path: str, own: str, count: int, usual: int) -> int:
        if count == 2 and dice.random() > share:
            return usual
        return dice.randrange(count)

    return _walk(pattern, choose, without)
