"""Domain documents compared by what they mean: order counts among equal tags only, generated values not at all."""

from __future__ import annotations

import difflib
from typing import Any

from lxml import etree


def documents(text: str) -> list[Any]:
    """The <domain> elements in what a program printed."""
    at = text.find("<domain")
    return [] if at < 0 else list(etree.fromstring(f"<all>{text[at:]}</all>"))


def _number(text: str) -> str:
    """Numbers in one spelling: 0x04 is 4."""
    try:
        return str(int(text, 0))
    except ValueError:
        return text


def lines(node: Any, *, boot: bool = True, indent: int = 0) -> list[str]:
    """``node`` in a form that equal documents share, a line an element. ``boot`` False leaves the boot order out."""
    attributes = dict(node.attrib)
    if node.tag in ("memory", "currentMemory"):
        attributes.pop("unit", None)
    if node.tag == "mac":
        attributes.pop("address", None)
    if node.tag == "driver" and attributes.get("type") == "raw":
        del attributes["type"]  # what no type means
    text = "" if node.tag == "uuid" else (node.text or "").strip()
    if node.tag == "address":
        attributes = {key: _number(value) for key, value in attributes.items()}
    words = " ".join(f"{key}={value}" for key, value in sorted(attributes.items()))
    found = [f"{' ' * indent}<{node.tag} {words}>{text}"]
    children = [child for child in node if isinstance(child.tag, str)]
    for child in sorted(children, key=lambda child: child.tag):
        if child.tag == "boot" and not boot:
            continue
        found += lines(child, boot=boot, indent=indent + 1)
    return found


def differences(one: str, other: str, *, boot: bool = True) -> list[str]:
    """What differs between the documents of two outputs: "-" lines of the first, "+" lines of the second."""
    ours, theirs = documents(one), documents(other)
    found = [] if len(ours) == len(theirs) else [f"{len(ours)} documents, {len(theirs)} documents"]
    for left, right in zip(ours, theirs, strict=False):
        diff = difflib.unified_diff(lines(left, boot=boot), lines(right, boot=boot), lineterm="", n=0)
        found += [line for line in diff if not line.startswith(("---", "+++", "@@"))]
    return found
