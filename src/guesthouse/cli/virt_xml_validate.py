"""virt-xml-validate: whether a document is one of libvirt's, by libvirt's own schemas where they are installed, else by
reading it as guesthoused would.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guesthouse.model.fields import Element

_NAME = "virt-xml-validate"
_USAGE = f"""Usage:
  {_NAME} XML-FILE [SCHEMA-NAME]
  {_NAME} OPTION

XML-FILE may be "-" for standard input. The schema follows from the document's root where none is named.

Options:
  -h | --help        show this text
  -V | --version     show the version"""
_SCHEMAS = ("/usr/share/libvirt/schemas", "/usr/local/share/libvirt/schemas")
# what a root's name holds -> its schema; the first that fits counts
_KINDS = (
    *(("cpu", "cpu"), ("domainsnapshot", "domainsnapshot"), ("domaincheckpoint", "domaincheckpoint")),
    *(("domainbackup", "domainbackup"), ("domainCap", "domaincaps"), ("domain", "domain")),
    *(("networkport", "networkport"), ("network", "network"), ("storagepoolCap", "storagepoolcaps")),
    *(("pool", "storagepool"), ("volume", "storagevol"), ("capabilities", "capability"), ("device", "nodedev")),
    *(("filterbinding", "nwfilterbinding"), ("filter", "nwfilter"), ("secret", "secret"), ("interface", "interface")),
)
_INVALID, _USAGE_ERROR, _NO_FILE, _NO_KIND, _NO_SCHEMA, _NOT_XML = 3, 1, 2, 3, 4, 1


def main(argv: list[str] | None = None) -> int:
    """Validate the file that the arguments name. The exit code is 0 where it is valid; 3 where it is not, or is of no
    known kind; 2 without a file, 4 without a schema, 1 where it is no XML, or the command line means nothing."""
    args = list(sys.argv[1:] if argv is None else argv)
    first = args[0] if args else ""
    if first.startswith("-h") or (len(first) > 2 and "--help".startswith(first)):
        print(_USAGE)
        return 0
    if first == "-V" or (len(first) > 2 and "--version".startswith(first)):
        from guesthouse import __version__

        print(f"{_NAME} (guesthouse) {__version__}")
        return 0
    if first == "--":
        args.pop(0)
    elif first.startswith("-") and first != "-":
        return _fail(f"unrecognized option '{first}'", _USAGE_ERROR)
    if not args or not args[0]:
        print(f"syntax: {_NAME} XMLFILE [TYPE]", file=sys.stderr)
        return _USAGE_ERROR
    path = args[0]
    if path == "-":
        text = sys.stdin.buffer.read()
    else:
        if not os.path.isfile(path):  # noqa: PTH113
            return _fail(f"document {path} does not exist", _NO_FILE)
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError as error:
            return _fail(f"{path}: {error.strerror}", _NO_FILE)
    return _validate(path, text, args[1] if len(args) > 1 else None)


def _fail(text: str, code: int) -> int:
    print(f"{_NAME}: {text}", file=sys.stderr)
    return code


def _validate(path: str, text: bytes, kind: str | None) -> int:
    from guesthouse.errors import GuesthouseError
    from guesthouse.model.fields import parse_document

    try:
        root = parse_document(text, path)
    except GuesthouseError as error:
        return _fail(error.message, _NO_KIND if kind is None else _NOT_XML)
    tag = root.tag.rpartition("}")[2]
    kind = kind or next((schema for part, schema in _KINDS if part in tag), None)
    if kind is None:
        return _fail(f"cannot determine schema type for {path}", _NO_KIND)
    folder = next((each for each in _SCHEMAS if os.path.isdir(each)), None)  # noqa: PTH112
    if folder is not None:
        schema = f"{folder}/{kind}.rng"
        if not os.path.isfile(schema):  # noqa: PTH113
            return _fail(f"schema {schema} does not exist", _NO_SCHEMA)
        return _by_schema(path, root, schema)
    return _by_model(path, root, kind)


def _by_schema(path: str, root: Any, schema: str) -> int:
    """As libvirt's program does: its schema decides."""
    from lxml import etree

    rules = etree.RelaxNG(etree.parse(schema))
    if rules.validate(root):
        print(f"{path} validates", file=sys.stderr)
        return 0
    for entry in rules.error_log:
        where = f"{path}:{entry.line}: element {_element(entry.path)}"
        print(f"{where}: Relax-NG validity error : {entry.message}", file=sys.stderr)
    print(f"{path} fails to validate", file=sys.stderr)
    return _INVALID


def _element(place: str | None) -> str:
    return (place or "").rpartition("/")[2].partition("[")[0]


def _by_model(path: str, root: Any, kind: str) -> int:
    from guesthouse.errors import GuesthouseError

    cls = _model(kind)
    if cls is None:
        return _fail(f"libvirt's schemas are not installed, and '{kind}' is not read without them", _NO_SCHEMA)
    print(f"{_NAME}: libvirt's schemas are not installed: reading it as guesthoused does", file=sys.stderr)
    try:
        document = cls.parse(root)
    except GuesthouseError as error:
        print(f"{path}: {error.message}\n{path} fails to validate", file=sys.stderr)
        return _INVALID
    for place in _unknown(document, root.tag):
        print(f"{path}: {place} is not known here; whether it is right cannot be said", file=sys.stderr)
    print(f"{path} validates", file=sys.stderr)
    return 0


def _model(kind: str) -> type[Element] | None:
    """The class that reads documents of ``kind``, None where there is none."""
    import importlib

    places = {
        "domain": ("domain", "Domain"),
        "domainsnapshot": ("snapshot", "Snapshot"),
        "network": ("network", "Network"),
        "networkport": ("network_port", "NetworkPort"),
        "storagepool": ("storage", "Pool"),
        "storagevol": ("storage", "Volume"),
        "secret": ("secret", "Secret"),
        "nwfilter": ("nwfilter", "Filter"),
        "nodedev": ("nodedev", "NodeDevice"),
        "interface": ("interface", "Interface"),
        "cpu": ("domain", "Cpu"),
    }
    if kind not in places:
        return None
    module, name = places[kind]
    found: type[Element] | None = getattr(importlib.import_module(f"guesthouse.model.{module}"), name, None)
    return found


def _unknown(element: Element, place: str) -> list[str]:
    """Places in a document that the model keeps without knowing them."""
    found = [f"{place}/@{name}" for name in element.extra_attributes]
    found += [f"{place}/{node.tag}" for node in element.extra_nodes]
    for spec in element.SPECS:
        value = getattr(element, spec.name)
        if spec.form == "child" and value is not None:
            found += _unknown(value, f"{place}/{spec.tag}")
        elif spec.form == "children":
            for number, item in enumerate(value):
                found += _unknown(item, f"{place}/{spec.tag}[{number + 1}]")
    return found
