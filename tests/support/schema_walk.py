"""libvirt's RELAX NG schemas walked: every attribute, element and value that an element may have, each once.

``Schema("domaincommon.rng").variations("disk", base)`` yields (name, element): the base with one thing of the schema
added or changed. What goes together in the schema (a network source's protocol and its hosts) comes together; what the
base has already and the change does not need, stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

SCHEMAS = Path("/usr/share/libvirt/schemas")

#: Values for patterns by the name of their definition; the first is the plain one.
SAMPLES: dict[str, list[str]] = {
    "unsignedInt": ["2", "0"],
    "unsignedLong": ["4096", "0"],
    "uint8": ["0x05", "31"],
    "uint16": ["0x0010", "5"],
    "uint24": ["0x000010", "16"],
    "uint32": ["0x00000010", "16"],
    "absFilePath": ["/srv/x"],
    "absDirPath": ["/srv/dir"],
    "filePath": ["/srv/x"],
    "UUID": ["6ae40a5d-8c12-4a4e-8b5e-0c7c0a3a8f11"],
    "uniMacAddr": ["52:54:00:00:00:77"],
    "macAddr": ["52:54:00:00:00:77"],
    "PortNumber": ["5000"],
    "ipAddr": ["192.0.2.7", "2001:db8::7"],
    "ipv4Addr": ["192.0.2.7"],
    "ipv6Addr": ["2001:db8::7"],
    "ipPrefix": ["24"],
    "dnsName": ["host.example.com"],
    "deviceName": ["eth7"],
    "objectNameWithSlash": ["a/b"],
    "genericName": ["thing"],
    "pciDomain": ["0x0000"],
    "pciBus": ["0x00"],
    "pciSlot": ["0x1c"],
    "pciFunc": ["0x0"],
    "zpciUid": ["0x0001"],
    "zpciFid": ["0x00000001"],
    "usbId": ["0x1234"],
    "usbAddr": ["003"],
    "usbClass": ["0x08"],
    "usbVersion": ["2.00"],
    "usbPort": ["1", "1.2"],
    "driveController": ["0", "3"],
    "driveBus": ["0", "1"],
    "driveSCSITarget": ["0", "4"],
    "driveUnit": ["0", "1"],
    "diskSerial": ["WD-1234", "with space"],
    "wwn": ["5000c50015ea71ad"],
    "diskTargetDev": ["vdb", "sdb", "hdb", "fdb"],
    "aliasName": ["ua-mine"],
    "octalMode": ["0700"],
    "vlanId": ["42"],
    "timeDelta": ["10"],
    "scaledInteger": ["512"],
    "memoryKB": ["4096"],
    "positiveInteger": ["3"],
    "bandwidth-attributes": ["100"],
}
_TYPES = {
    "string": ["text"],
    "unsignedInt": ["2", "0"],
    "unsignedShort": ["2", "0"],
    "unsignedLong": ["2", "0"],
    "unsignedByte": ["2", "0"],
    "positiveInteger": ["3"],
    "nonNegativeInteger": ["2", "0"],
    "integer": ["2"],
    "int": ["2"],
    "long": ["2"],
    "short": ["2"],
    "NCName": ["name"],
    "anyURI": ["http://example.com/"],
    "double": ["1"],
    "float": ["1"],
}


@dataclass(frozen=True)
class Value:
    """``focus``: it is what the variation is about. ``fixed``: the schema spells it out."""

    text: str
    focus: bool = False
    fixed: bool = False


@dataclass
class Part:
    """Some of an element: attributes, children, text."""

    attributes: dict[str, Value] = field(default_factory=dict)
    children: list[tuple[str, Part]] = field(default_factory=list)
    text: Value | None = None

    def focused(self, *, fixed_only: bool) -> Part:
        """The same with the focus on what is here: on all, or on what the schema spells out."""

        def set_(value: Value) -> Value:
            return replace(value, focus=value.focus or value.fixed or not fixed_only)

        return Part(
            {name: set_(value) for name, value in self.attributes.items()},
            [(name, part.focused(fixed_only=fixed_only)) for name, part in self.children],
            None if self.text is None else set_(self.text),
        )


def _join(parts: list[Part]) -> Part:
    whole = Part()
    for part in parts:
        whole.attributes.update(part.attributes)
        whole.children += part.children
        whole.text = part.text or whole.text
    return whole


def _local(node: Any) -> str:
    return etree.QName(node).localname


class Schema:
    """The definitions of a schema and of those that it includes."""

    def __init__(self, file: str) -> None:
        self._defines: dict[str, Any] = {}
        self._cover: dict[str, list[Part]] = {}
        self._open: list[str] = []
        self._read(file)

    def _read(self, file: str) -> None:
        node: Any
        for node in etree.parse(SCHEMAS / file).getroot():
            if isinstance(node.tag, str) and _local(node) == "include":
                self._read(node.get("href"))
            elif isinstance(node.tag, str) and _local(node) == "define":
                self._defines[node.get("name")] = node

    def variations(self, name: str, base: Any, seen: set[str] | None = None) -> Iterator[tuple[str, Any]]:
        """The base itself, then with each thing that the definition of the element ``name`` has, while that brings
        something that is not in ``seen`` yet (which grows)."""
        seen = set() if seen is None else seen
        yield "", deepcopy(base)
        found = []
        for part in self.parts(name):
            changed = deepcopy(base)
            put(changed, part)
            found.append((changes(base, changed), changed))
        for words, changed in sorted(found, key=lambda each: len(each[0])):  # what stays nearest to the base
            if not seen.issuperset(words):
                seen.update(words)
                yield ",".join(words), changed

    def parts(self, name: str) -> list[Part]:
        """What an element that is defined under ``name`` may be made of, one thing at a time."""
        return [part.children[0][1] for part in self._ref(name) or [] if part.children]

    def _ref(self, name: str) -> list[Part] | None:
        """None where it leads back to itself."""
        if name in self._open:
            return None
        if name not in self._cover:
            self._open.append(name)
            try:
                found = self._group(self._defines[name], name)
            finally:
                self._open.pop()
            if found is None:
                return None
            self._cover[name] = found
        return self._cover[name]

    def _group(self, node: Any, define: str) -> list[Part] | None:
        covers = [self._pattern(child, define) for child in node if isinstance(child.tag, str)]
        if any(cover is None for cover in covers):
            return None
        whole = [cover for cover in covers if cover]
        least = [cover[0] for cover in whole]
        found = [_join(least)]
        for at, cover in enumerate(whole):
            found += [_join([*least[:at], other, *least[at + 1 :]]) for other in cover[1:]]
        return found

    def _choice(self, node: Any, define: str) -> list[Part] | None:
        found: list[Part] = []
        for child in node:
            cover = self._pattern(child, define) if isinstance(child.tag, str) else None
            for part in cover or []:
                found += [part] if not found else []
                found.append(part.focused(fixed_only=True))
        return found or None

    def _pattern(self, node: Any, define: str) -> list[Part] | None:
        kind = _local(node)
        if kind == "ref":
            return self._ref(node.get("name"))
        if kind == "choice":
            return self._choice(node, define)
        if kind in ("optional", "zeroOrMore"):
            some = self._group(node, define)
            return [Part(), *(part.focused(fixed_only=False) if _small(part) else part for part in some or [])]
        if kind in ("group", "interleave", "oneOrMore", "mixed"):
            return self._group(node, define)
        if kind == "element" and node.get("name"):
            inside = self._group(node, define)
            return None if inside is None else [Part(children=[(node.get("name"), part)]) for part in inside]
        if kind == "attribute" and node.get("name"):
            values = self._group(node, define) or [Part()]
            texts = [part.text or Value("text") for part in values]
            return [Part({node.get("name"): text}) for text in texts]
        if kind == "value":
            return [Part(text=Value(node.text or "", fixed=True))]
        if kind in ("data", "text", "list"):
            return [Part(text=Value(text, focus=at > 0)) for at, text in enumerate(_samples(node, define))]
        if kind in ("element", "attribute"):  # of any name
            return None
        return [Part()]


def _small(part: Part) -> bool:
    """An attribute or an element with a text alone: what an <optional> around it is about."""
    return not part.children or all(not each.attributes and not each.children for _, each in part.children)


def _samples(node: Any, define: str) -> list[str]:
    if define in SAMPLES:
        return SAMPLES[define]
    kind = _local(node)
    if kind != "data":
        return ["text"] if kind == "text" else ["1"]
    patterns = [param.text for param in node if isinstance(param.tag, str) and param.get("name") == "pattern"]
    if patterns:
        return [_match(patterns[0])]
    least = [param.text for param in node if isinstance(param.tag, str) and param.get("name") == "minInclusive"]
    return list(dict.fromkeys([*least, *_TYPES[node.get("type")]]))


@cache
def _match(pattern: str) -> str:
    """A text that the pattern accepts, if a plain one does."""
    parser: Any = getattr(re, "_parser")  # noqa: B009

    def text(tree: Any) -> str:
        found = ""
        for op, value in tree:
            name = str(op)
            if name == "LITERAL":
                found += chr(value)
            elif name == "IN":
                found += member(value)
            elif name == "ANY":
                found += "x"
            elif name in ("MAX_REPEAT", "MIN_REPEAT"):
                found += text(value[2]) * max(value[0], 1 if value[1] else 0)
            elif name == "SUBPATTERN":
                found += text(value[-1])
            elif name == "BRANCH":
                found += text(value[1][0])
        return found

    def member(items: Any) -> str:
        if str(items[0][0]) == "NEGATE":
            return "x"
        for letter in "1a0b":
            if re.fullmatch(f"[{''.join(map(spelt, items))}]", letter):
                return letter
        op, value = items[0]
        return chr(value if str(op) == "LITERAL" else value[0]) if str(op) in ("LITERAL", "RANGE") else "1"

    def spelt(item: Any) -> str:
        op, value = item
        if str(op) == "RANGE":
            return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        if str(op) == "CATEGORY":
            return {"CATEGORY_DIGIT": r"\d", "CATEGORY_WORD": r"\w", "CATEGORY_SPACE": r"\s"}.get(str(value), r"\w")
        return re.escape(chr(value))

    return text(parser.parse(pattern))


def put(element: Any, part: Part) -> None:
    """Put ``part`` into the element: what it is about always, the rest where it is missing."""
    for name, value in part.attributes.items():
        if value.focus or name not in element.attrib:
            element.set(name, value.text)
    if part.text is not None and (part.text.focus or not element.text):
        element.text = part.text.text
    taken: dict[str, int] = {}
    for name, child in part.children:
        at = taken.get(name, 0)
        taken[name] = at + 1
        there = element.findall(name)
        put(there[at] if at < len(there) else etree.SubElement(element, name), child)


def changes(before: Any, after: Any) -> list[str]:
    """What was changed, a word each."""
    found: list[str] = []

    def look(one: Any | None, other: Any, path: str) -> None:
        for key, value in other.attrib.items():
            if one is None or one.get(key) != value:
                found.append(f"{path}@{key}={value}")
        if (other.text or "") != ("" if one is None else one.text or ""):
            found.append(f"{path}={other.text}")
        for at, child in enumerate(other):
            there = None if one is None or at >= len(one) else one[at]
            if there is None and not child.attrib and not child.text and not len(child):
                found.append(f"{path}/{child.tag}".lstrip("/"))
            look(there, child, f"{path}/{child.tag}".lstrip("/"))

    look(before, after, "")
    return found
