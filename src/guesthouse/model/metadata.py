"""XML that programs keep in a document's <metadata>, an element a namespace, as libvirt's calls change it."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from guesthouse.errors import InvalidArg

_PREFIX = re.compile(r"[A-Za-z_][\w.-]*")


def named(metadata: Any) -> Any:
    """``metadata`` without what is under no namespace, and of each namespace the first element: what libvirt keeps."""
    seen: set[str | None] = set()
    for node in list(metadata):
        space = etree.QName(node).namespace if isinstance(node.tag, str) else None
        if space is None or space in seen:
            metadata.remove(node)
        seen.add(space)
    if not len(metadata):
        metadata.text = None
    return metadata


def find(metadata: Any, uri: str | None) -> Any:
    """The first element under the namespace ``uri``; None where there is none. ``metadata`` may be None."""
    return None if metadata is None else next((n for n in metadata if _is_under(n, uri)), None)


def text_of(metadata: Any, uri: str | None) -> str | None:
    """The first element under the namespace ``uri``, as it was given: without the namespace. None where there is none."""
    found = find(metadata, uri)
    if found is None:
        return None
    node = etree.fromstring(etree.tostring(found, with_tail=False))
    for each in node.iter(f"{{{uri}}}*"):
        each.tag = etree.QName(each).localname
    kept = [prefix for prefix, space in node.nsmap.items() if prefix is not None and space != uri]
    etree.cleanup_namespaces(node, keep_ns_prefixes=kept)
    return str(etree.tostring(node, encoding="unicode", pretty_print=True)).rstrip("\n")


def replaced(metadata: Any, text: str | None, key: str | None, uri: str | None) -> Any:
    """A <metadata> in which the element in ``text`` is the one under ``uri``, with the prefix ``key``; without text, one
    without any. None where nothing is left. ``metadata``, which may be None, is not changed. Raises InvalidArg."""
    root: Any = etree.Element("metadata")
    for node in metadata if metadata is not None else ():
        if not _is_under(node, uri):
            root.append(etree.fromstring(etree.tostring(node, with_tail=False)))
    if text:
        if not key or not uri or not _PREFIX.fullmatch(key):
            raise InvalidArg("a metadata element needs a key and a namespace")
        try:
            given = etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
        except etree.XMLSyntaxError as error:
            raise InvalidArg(f"metadata is not well formed: {error}") from None
        tag = given.tag if given.tag.startswith("{") else f"{{{uri}}}{given.tag}"
        spaces: dict[Any, str] = {**given.nsmap, key: uri}
        node = etree.SubElement(root, tag, nsmap=spaces)
        node.attrib.update(given.attrib)
        node.text = given.text
        node.extend(list(given))
        for each in node.iter("{}*"):  # what is in no namespace is in this one
            each.tag = f"{{{uri}}}{each.tag}"
    return root if len(root) else None


def _is_under(node: Any, uri: str | None) -> bool:
    return isinstance(node.tag, str) and node.tag.startswith(f"{{{uri}}}")
