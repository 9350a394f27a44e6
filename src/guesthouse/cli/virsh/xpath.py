"""What an XPath expression finds in a document, as text."""

from __future__ import annotations

from lxml import etree

from guesthouse.cli.virsh.given import Failed
from guesthouse.errors import InternalError


def find(xml: str, expression: str, *, wrap: bool) -> list[str]:
    """The nodes as XML, each indented on its own; with ``wrap`` one document with them all below <nodes>.

    Raises Failed where the expression is none, or does not find nodes.
    """
    root = etree.fromstring(xml.encode(), etree.XMLParser(remove_blank_text=True))
    try:
        found = root.xpath(expression)
    except etree.XPathError as error:
        raise Failed(f"invalid XPath expression '{expression}': {error}") from None
    if not isinstance(found, list):
        raise Failed("") from InternalError(f"Incorrect xpath '{expression}'")
    if not wrap:
        return [_text(node) for node in found]
    nodes = etree.Element("nodes")
    for node in found:
        if isinstance(node, etree._Element):
            nodes.append(node)
        elif name := getattr(node, "attrname", None):
            nodes.set(name, str(node))
        elif len(nodes):
            nodes[-1].tail = (nodes[-1].tail or "") + str(node)
        else:
            nodes.text = (nodes.text or "") + str(node)
    return [_text(nodes)]


def _text(node: object) -> str:
    if isinstance(node, etree._Element):
        return etree.tostring(node, encoding="unicode", pretty_print=True, with_tail=False).removesuffix("\n")
    name = getattr(node, "attrname", None)
    holder = etree.Element("a")
    if name:
        holder.set("a", str(node))
        quoted = etree.tostring(holder, encoding="unicode")
        return f" {name}={quoted[len('<a a=') : -len('/>')]}"
    holder.text = str(node)
    return etree.tostring(holder, encoding="unicode")[len("<a>") : -len("</a>")]
