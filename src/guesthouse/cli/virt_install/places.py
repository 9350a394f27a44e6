"""Places in a document: parts that the model keeps as they are, and edits by XPath (``--xml``, ``--disk xpath.set=``).

A place is written as a path of tags, ``cachetune[0-9]*/cache[0-9]*/@size``: ``[0-9]*`` stands where a number may (the
first is 0), ``@`` marks an attribute, and a slash at the end an element that is there or not. Its key on the command
line is the same with dots, ``cachetune0.cache1.size``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from guesthouse.cli.virt_install.options import UsageError
from guesthouse.model.fields import Element, Option

NUMBER = "[0-9]*"


def key_of(path: str) -> str:
    """The key on the command line of the place ``path``."""
    return path.replace("/", ".").replace("@", "").rstrip(".")


@lru_cache(maxsize=4096)
def numbers_in(pattern: str, key: str) -> tuple[int, ...] | None:
    """The numbers of ``key`` where it is ``pattern`` with numbers in it (0 where there is none), else None."""
    if NUMBER not in pattern:
        return () if pattern == key else None
    match = re.fullmatch(re.escape(pattern).replace(re.escape(NUMBER), "([0-9]*)"), key)
    return tuple(int(text or 0) for text in match.groups()) if match else None


def put(element: Element, path: str, numbers: tuple[int, ...], text: str | None) -> None:
    """Set what is at ``path`` of ``element`` to ``text`` (None: as if it were empty). What is missing on the way is
    made: as the model declares it, else as it stands."""
    indices = iter(numbers)
    *way, last = path.split("/")
    at: Any = element
    steps = way if last.startswith("@") or not last else [*way, last]
    for step in steps:
        index = next(indices) if step.endswith(NUMBER) else 0
        at = _child(at, step.removesuffix(NUMBER), index)
    if last.startswith("@"):
        if isinstance(at, Element):
            at.extra_attributes[last[1:]] = text or ""
        else:
            at.set(last[1:], text or "")
    elif last:
        at.text = text


def _child(at: Any, tag: str, index: int) -> Any:
    """The child ``tag`` number ``index``, made with those before it where it is not there."""
    from lxml import etree

    if isinstance(at, Element):
        spec = next((s for s in at.SPECS if s.tag == tag and s.form not in ("attribute", "content")), None)
        if spec is not None and spec.form in ("child", "raw"):
            value = getattr(at, spec.name)
            if value is None:
                value = etree.Element(tag) if spec.form == "raw" or spec.element is None else spec.element()
                setattr(at, spec.name, value)
            return value
        if spec is not None and spec.form == "children":
            items = getattr(at, spec.name)
            while len(items) <= index:
                assert spec.element is not None
                items.append(spec.element())
            return items[index]
        found = [node for node in at.extra_nodes if node.tag == tag]
        while len(found) <= index:
            found.append(etree.Element(tag))
            at.extra_nodes.append(found[-1])
        return found[index]
    found = at.findall(tag)
    while len(found) <= index:
        found.append(etree.SubElement(at, tag))
    return found[index]


def prune(element: Element, option: Option, numbers: tuple[int, ...]) -> None:
    """Take items out of the lists that lead to ``option`` where nothing was said of them: those before a number that was
    named."""
    at: Any = element
    indices = iter(numbers)
    lists = []
    for name in option.path[:-1]:
        if isinstance(at, list):
            index = next(indices, 0)
            at = at[index] if index < len(at) else None
        else:
            at = getattr(at, name)
            if isinstance(at, list):
                lists.append(at)
        if at is None:
            break
    for items in reversed(lists):
        items[:] = [item for item in items if item != type(item)()]


def prune_nodes(element: Element, path: str) -> None:
    """The same for a place that is not declared."""
    tag = path.partition("/")[0].removesuffix(NUMBER)
    spec = next((s for s in element.SPECS if s.tag == tag and s.form == "raw"), None)
    nodes = [getattr(element, spec.name)] if spec is not None else [n for n in element.extra_nodes if n.tag == tag]
    for node in nodes:
        if node is not None:
            _prune_node(node)
            if node in element.extra_nodes and len(nodes) > 1 and _is_blank(node):
                element.extra_nodes.remove(node)


def _is_blank(node: Any) -> bool:
    return not len(node) and not node.attrib and not (node.text or "").strip()


def _prune_node(node: Any) -> None:
    for child in list(node):
        _prune_node(child)
        twins = [other for other in node if other.tag == child.tag]
        if len(twins) > 1 and _is_blank(child):
            node.remove(child)


# -- edits by XPath


@dataclass
class Edit:
    """One edit: set ``path`` (to ``value``), make it, or take it away."""

    set: str | None = None
    value: str | None = None
    create: str | None = None
    delete: str | None = None

    def apply(self, root: Any) -> None:
        """Do it to the tree ``root``. Raises UsageError for a path that is none."""
        if self.delete is not None:
            for found in _find(root, self.delete):
                if isinstance(found, str):
                    found.getparent().attrib.pop(found.attrname, None)  # type: ignore[attr-defined]
                elif found.getparent() is not None:
                    found.getparent().remove(found)
        if self.create is not None:
            _made(root, self.create)
        if self.set is not None:
            path, value = self.set, self.value
            if value is None:
                path, equals, value = _split(self.set)
                if not equals:
                    raise UsageError(f"xpath.set: '{self.set}' says no value; expected PATH=VALUE, or xpath.value")
            _set(root, path, value)


def _split(text: str) -> tuple[str, str, str]:
    """At the first "=" that is in no brackets."""
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "=" and not depth:
            return text[:position], "=", text[position + 1 :]
    return text, "", ""


def _find(root: Any, path: str) -> list[Any]:
    from lxml import etree

    spaces = {"qemu": "http://libvirt.org/schemas/domain/qemu/1.0"}
    try:
        found = root.xpath(path, namespaces=spaces)
    except etree.XPathError as error:
        raise UsageError(f"'{path}' is no XPath: {error}") from None
    return found if isinstance(found, list) else []


def _made(root: Any, path: str) -> Any:
    """The element at ``path``, made with all that leads to it where it is not there."""
    from lxml import etree

    if found := _find(root, path):
        return found[0]
    at = root
    for step in [step for step in path.split("/") if step not in ("", ".", root.tag)]:
        if found := _find(at, f"./{step}"):
            at = found[0]
            continue
        match = re.match(r"([A-Za-z_][\w.-]*)(?:\[(.*)\])?$", step)
        if match is None:
            raise UsageError(f"'{path}': '{step}' is not there and cannot be made")
        at = etree.SubElement(at, match[1])
        # a predicate such as [@type='x'] says how it is to be
        for name, text in re.findall(r"@([\w-]+)\s*=\s*['\"]([^'\"]*)['\"]", match[2] or ""):
            at.set(name, text)
    return at


def _set(root: Any, path: str, value: str) -> None:
    head, at, name = path.rpartition("/@")
    if at:
        _made(root, head or ".").set(name, value)
    else:
        node = _made(root, path)
        node.text = value


def edited(element: Any, edits: list[Edit]) -> Any:
    """``element`` anew, after ``edits``. Raises UsageError, and XMLError where the outcome is wrong."""
    root = element.node()
    # a type that is chosen later is no type that a document could have
    later = [place for place in (".", "model") for node in root.findall(place) if node.get("type") == "default"]
    for place in later:
        del root.find(place).attrib["type"]
    for edit in edits:
        edit.apply(root)
    later = [place for place in later if (node := root.find(place)) is not None and node.get("type") is None]
    made = type(element).parse(root)
    for place in later:
        owner = made if place == "." else getattr(made, place)
        owner.type = "default"
    return made
