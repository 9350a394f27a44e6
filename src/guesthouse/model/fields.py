"""XML elements as typed values: one declaration parses, formats, checks, and names the virt-install sub-option.

    class DiskDriver(Element, tag="driver"):
        name: str | None = Attr("name")
        cache: str | None = Attr("cache", Choice("none", "writeback"), alias=("cache",))

    class Disk(Element, tag="disk"):
        type: str = Attr("type", Choice("file", "block"), default="file")
        driver: DiskDriver | None = Child(DiskDriver)
        readonly: bool = Flag("readonly")

The order of declarations is the order of output (libvirt's order). What is not declared is kept when a document is
read and comes out again behind its declared siblings, so that nothing of a user's is lost. A value that does not fit
its kind is libvirt's XML error, with the place and what was expected.

Each value also has a key, for ``--disk driver.cache=none``: the path of child tags joined by dots, or ``key=``;
``alias=`` adds other spellings that hold from the outermost element. :meth:`Element.options` lists them.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from lxml import etree

from guesthouse import units
from guesthouse.errors import Domain as ErrorDomain
from guesthouse.errors import GuesthouseError, XMLDetail, XMLError


class Kind(NamedTuple):
    """How a value reads and is written. ``parse`` raises ValueError where the text does not fit; ``expected`` tells
    people what would."""

    parse: Callable[[str], Any]
    format: Callable[[Any], str]
    expected: str
    words: tuple[str, ...] = ()
    #: How libvirt ends its complaint of an attribute that does not fit.
    complaint: str = ""


def _parse_int(low: int | None, high: int | None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text.strip(), 10)
        if (low is not None and value < low) or (high is not None and value > high) or "_" in text:
            raise ValueError(text)
        return value

    return parse


def _int_kind(low: int | None, high: int | None, expected: str) -> Kind:
    kind = "non-negative integer" if low is not None and low >= 0 else "integer"
    return Kind(_parse_int(low, high), str, expected, (), f" Expected {kind} value")


class _IntKind(Kind):
    """Usable as ``Int`` and as ``Int(1, 10)``."""

    def __call__(self, low: int | None = None, high: int | None = None) -> Kind:
        if high is None:
            return _int_kind(low, None, f"an integer of {low} or more")
        return _int_kind(low, high, f"an integer from {low} to {high}")


def _words(expected: str, **values: Any) -> Kind:
    back = {value: word for word, value in values.items()}

    def parse(text: str) -> Any:
        if text not in values:
            raise ValueError(text)
        return values[text]

    return Kind(parse, lambda value: back[value], expected, tuple(values))


def _from_unit(parse: Callable[[str], str]) -> Callable[[str], str]:
    def parse_kind(text: str) -> str:
        try:
            return parse(text)
        except GuesthouseError:
            raise ValueError(text) from None

    return parse_kind


Str = Kind(str, str, "text")
Int = _IntKind(_parse_int(None, None), str, "an integer", (), " Expected integer value")
UInt = _int_kind(0, 2**64 - 1, "a non-negative integer")
#: A number of the size of C's "unsigned int".
UInt32 = _int_kind(0, 2**32 - 1, "a non-negative integer")


class ZeroValue(ValueError):
    """Raised by kinds of number for which libvirt refuses 0 in words of its own."""


def _parse_positive(text: str) -> int:
    value: int = UInt32.parse(text)
    if value == 0:
        raise ZeroValue(text)
    return value


Positive = UInt32._replace(parse=_parse_positive, expected="a positive integer")
Bool = _words("one of: yes, no", yes=True, no=False)
OnOff = _words("one of: on, off", on=True, off=False)
# what people write for a switch in a sub-option; documents are stricter
SWITCH = {"yes": True, "on": True, "true": True, "1": True, "no": False, "off": False, "false": False, "0": False}
Uuid = Kind(_from_unit(units.parse_uuid), str, "a UUID")
Mac = Kind(_from_unit(units.parse_mac), str, "a MAC address such as 52:54:00:12:34:56")


class Spelled(int):
    """A number that is written as somebody spelled it: ``text``, and for a size ``unit`` ("" for none)."""

    text: str
    unit: str

    @classmethod
    def of(cls, value: int, text: str, unit: str = "") -> Self:
        found = cls(value)
        found.text, found.unit = text, unit
        return found


def Hex(width: int) -> Kind:
    """A number written as 0x and at least ``width`` digits (a :class:`Spelled` one as it is); read in any base that C
    knows."""

    def write(value: int) -> str:
        return value.text if isinstance(value, Spelled) else f"0x{value:0{width}x}"

    def parse(text: str) -> int:
        # C's base 0: a leading zero means octal, which Python's does not accept
        octal = re.fullmatch(r"0[0-7]+", text.strip())
        value = int(text, 8) if octal else int(text, 0)
        if value < 0:
            raise ValueError(text)
        return value

    return Kind(parse, write, "a number, such as 0x1f")


def Choice(*words: str) -> Kind:
    """One of ``words``."""
    allowed = frozenset(words)

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return Kind(parse, str, f"one of: {', '.join(words)}", words)


@dataclass(slots=True, eq=False)
class Spec:
    """A declaration. ``form`` is where the value stands: attribute, content, text, flag, size, child, children, raw."""

    form: str
    tag: str
    kind: Kind = Str
    default: Any = None
    required: bool = False
    key: str | None = None
    alias: tuple[str, ...] = ()
    element: type[Element] | None = None
    keep: int = 1
    unit: str = "bytes"
    secret: bool = False
    name: str = ""


def Attr(
    tag: str,
    kind: Kind = Str,
    *,
    default: Any = None,
    required: bool = False,
    key: str | None = None,
    alias: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """An attribute of the element itself. ``secret`` ones are written only when a caller asks for secrets."""
    return Spec("attribute", tag, kind, default, required, key, alias, secret=secret)


def Content(kind: Kind = Str, *, default: Any = None, key: str | None = None, alias: tuple[str, ...] = ()) -> Any:
    """The text of the element itself."""
    return Spec("content", "", kind, default, False, key, alias)


def Text(
    tag: str,
    kind: Kind = Str,
    *,
    default: Any = None,
    required: bool = False,
    key: str | None = None,
    alias: tuple[str, ...] = (),
) -> Any:
    """The text of a child element."""
    return Spec("text", tag, kind, default, required, key, alias)


def Flag(tag: str, *, key: str | None = None, alias: tuple[str, ...] = ()) -> Any:
    """True where an (empty) child element is there."""
    return Spec("flag", tag, Bool, False, False, key, alias)


def Size(
    tag: str, *, keep: str = "KiB", unit: str | None = None, key: str | None = None, alias: tuple[str, ...] = ()
) -> Any:
    """A child element with a size and its unit; kept and written in ``keep`` ("KiB" or "bytes"), rounded up as libvirt
    does. A document that names no unit means ``unit`` (``keep`` by default)."""
    return Spec("size", tag, UInt, None, False, key, alias, keep=units.unit_scale(keep), unit=unit or keep)


def Child(
    element: type[Element] | None,
    tag: str | None = None,
    *,
    default: Any = None,
    required: bool = False,
    key: str | None = None,
    secret: bool = False,
) -> Any:
    """At most one child element (of several the first counts); ``tag`` where it is not the class's own. An ``element``
    of None stands for the class that declares it: such have no sub-options. ``secret`` as in :func:`Attr`."""
    own = tag or (element.TAG if element is not None else "")
    return Spec("child", own, Str, default, required, key, (), element, secret=secret)


def Children(element: type[Element], tag: str | None = None, *, key: str | None = None) -> Any:
    """Any number of child elements, in a list."""
    return Spec("children", tag or element.TAG, Str, None, False, key, (), element)


def Raw(tag: str) -> Any:
    """A child element that is kept as it is (an lxml element, or None): metadata, and what is passed through."""
    return Spec("raw", tag)


class BadValue(Exception):
    """On its way up through the elements, collecting the path."""

    def __init__(self, text: str, expected: str = "") -> None:
        self.text = text
        self.expected = expected
        self.path: list[str] = []

    def error(self) -> XMLError:
        where = "/".join(self.path)
        hint = f"; expected {self.expected}" if self.expected else ""
        return XMLError(f"{self.text} (at {where}{hint})" if where else self.text)


class Option(NamedTuple):
    """A sub-option: the path of field names that it sets (an index stands for a list's item), and its declaration."""

    path: tuple[str, ...]
    spec: Spec


@dataclass_transform(kw_only_default=True)
class Element:
    """An XML element. Subclasses declare its parts; instances have one attribute for each."""

    TAG: ClassVar[str] = ""
    SPECS: ClassVar[tuple[Spec, ...]] = ()
    _attributes: ClassVar[dict[str, Spec]] = {}
    _elements: ClassVar[dict[str, Spec]] = {}
    _content: ClassVar[Spec | None] = None
    _defaults: ClassVar[dict[str, Any]] = {}
    _lists: ClassVar[tuple[str, ...]] = ()
    _required: ClassVar[tuple[Spec, ...]] = ()
    _paired: ClassVar[bool] = False
    _hollow: ClassVar[bool] = False

    def __init_subclass__(cls, tag: str = "", paired: bool = False, hollow: bool = False, **kwargs: Any) -> None:
        """``paired``: libvirt never closes it in its own tag; empty, it has an end tag on a line of its own.
        ``hollow``: libvirt does not write it at all where it says nothing."""
        super().__init_subclass__(**kwargs)
        cls.TAG = tag or cls.TAG
        cls._paired = paired or cls._paired
        cls._hollow = hollow or cls._hollow
        specs = {spec.name: spec for spec in cls.SPECS}
        for name, value in list(cls.__dict__.items()):
            if isinstance(value, Spec):
                value.name = name
                if value.form == "child" and value.element is None:
                    value.element, value.tag = cls, value.tag or cls.TAG
                specs[name] = value
                delattr(cls, name)
        cls.SPECS = tuple(specs.values())
        cls._attributes = {s.tag: s for s in cls.SPECS if s.form == "attribute"}
        cls._elements = {s.tag: s for s in cls.SPECS if s.form not in ("attribute", "content")}
        cls._content = next((s for s in cls.SPECS if s.form == "content"), None)
        cls._defaults = {s.name: s.default for s in cls.SPECS if s.form != "children"}
        cls._lists = tuple(s.name for s in cls.SPECS if s.form == "children")
        cls._required = tuple(s for s in cls.SPECS if s.required)

    def __init__(self, **values: Any) -> None:
        self._reset()
        for name, value in values.items():
            if name not in self.__dict__:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            self.__dict__[name] = value

    def _reset(self) -> None:
        fields = self.__dict__
        fields.update(self._defaults)
        for name in self._lists:
            fields[name] = []
        fields["_extra_attributes"] = {}
        fields["_extra_nodes"] = []

    @property
    def extra_attributes(self) -> dict[str, str]:
        """Attributes that are not declared."""
        found: dict[str, str] = self.__dict__["_extra_attributes"]
        return found

    @property
    def extra_nodes(self) -> list[Any]:
        """Child elements that are not declared, as lxml elements."""
        found: list[Any] = self.__dict__["_extra_nodes"]
        return found

    # -- reading

    @classmethod
    def from_xml(cls, text: str | bytes, name: str | None = None) -> Self:
        """The document ``text``. Raises XMLDetail where it is not well formed (with line, column and the line itself,
        as libvirt shows it under ``name``, "(domain_definition)"), XMLError where it says something wrong."""
        return cls.parse(parse_document(text, name or f"({cls.TAG}_definition)"))

    @classmethod
    def parse(cls, node: Any) -> Self:
        """The lxml element ``node``. Raises XMLError where its tag or a value is wrong."""
        if node.tag != cls.TAG:
            raise XMLError(f"expecting root element of '{cls.TAG}', not '{node.tag}'")
        try:
            return cls._parse(node)
        except BadValue as bad:
            bad.path.insert(0, cls.TAG)
            raise bad.error() from None

    @classmethod
    def _parse(cls, node: Any) -> Self:
        self = cls.__new__(cls)
        self._reset()
        fields = self.__dict__
        attributes, elements = cls._attributes, cls._elements
        for tag, text in node.attrib.items():
            spec = attributes.get(tag)
            if spec is None:
                fields["_extra_attributes"][tag] = text
                continue
            try:
                fields[spec.name] = spec.kind.parse(text)
            except (ValueError, KeyError) as error:
                wrong = f"'{text}'.{spec.kind.complaint}"
                if isinstance(error, ZeroValue):
                    wrong = "Zero is not permitted"
                bad = BadValue(f"Invalid value for attribute '{tag}' in element '{node.tag}': {wrong}")
                bad.expected = spec.kind.expected
                bad.path.append(f"@{tag}")
                raise bad from None
        if cls._content is not None and node.text is not None and (len(node) == 0 or not node.text.isspace()):
            fields[cls._content.name] = _value(cls._content, node, node.text)
        for child in node:
            tag = child.tag
            if not isinstance(tag, str):  # a comment or a processing instruction
                continue
            spec = elements.get(tag)
            if spec is None:
                fields["_extra_nodes"].append(_detached(child))
            else:
                self._take(spec, child)
        for spec in cls._required:
            if fields[spec.name] is None:
                self._missing(spec, node)
        return self

    def _take(self, spec: Spec, child: Any) -> None:
        fields = self.__dict__
        if spec.form == "children":
            items = fields[spec.name]
            assert spec.element is not None
            try:
                items.append(spec.element._parse(child))
            except BadValue as bad:
                bad.path.insert(0, f"{spec.tag}[{len(items) + 1}]")
                raise
            return
        if fields[spec.name] not in (None, False) and fields[spec.name] is not self._defaults[spec.name]:
            return
        try:
            if spec.form == "text":
                fields[spec.name] = _value(spec, child, child.text or "")
            elif spec.form == "flag":
                fields[spec.name] = True
            elif spec.form == "size":
                fields[spec.name] = _size(spec, child)
            elif spec.form == "raw":
                fields[spec.name] = _detached(child)
            else:
                assert spec.element is not None
                fields[spec.name] = spec.element._parse(child)
        except BadValue as bad:
            bad.path.insert(0, spec.tag)
            raise

    def _missing(self, spec: Spec, node: Any) -> None:
        what = "attribute" if spec.form == "attribute" else "element"
        raise BadValue(f"Missing required {what} '{spec.tag}' in element '{node.tag}'")

    # -- writing

    def to_xml(self, *, secrets: bool = False) -> str:
        """The document in libvirt's look, with a newline at its end. Without ``secrets`` secret attributes stay out."""
        out: list[str] = []
        self._write(out, "", self.TAG, secrets)
        return "".join(out) or f"<{self.TAG}/>\n"

    def node(self) -> Any:
        """The element as a fresh lxml element, secrets included."""
        return etree.fromstring(self.to_xml(secrets=True))

    def _write(self, out: list[str], indent: str, tag: str, secrets: bool) -> None:
        fields = self.__dict__
        head = [f"{indent}<{tag}"]
        body: list[str] = []
        text = None
        inner = indent + "  "
        for spec in self.SPECS:
            value = fields[spec.name]
            if value is None or (value is False and spec.form == "flag"):
                continue
            form = spec.form
            if form == "attribute":
                if not spec.secret or secrets:
                    head.append(f" {spec.tag}='{escape(spec.kind.format(value))}'")
            elif form == "child":
                if not spec.secret or secrets:
                    value._write(body, inner, spec.tag, secrets)
            elif form == "children":
                for item in value:
                    item._write(body, inner, spec.tag, secrets)
            elif form == "text":
                body.append(f"{inner}<{spec.tag}>{escape(spec.kind.format(value))}</{spec.tag}>\n")
            elif form == "flag":
                body.append(f"{inner}<{spec.tag}/>\n")
            elif form == "size":
                unit = "KiB" if spec.keep == units.KIB else "bytes"
                if isinstance(value, Spelled):
                    head_of = f"{spec.tag} unit='{escape(value.unit)}'" if value.unit else spec.tag
                    body.append(f"{inner}<{head_of}>{escape(value.text)}</{spec.tag}>\n")
                else:
                    body.append(f"{inner}<{spec.tag} unit='{unit}'>{value}</{spec.tag}>\n")
            elif form == "raw":
                body.append(_dump_plain(value, inner))
            else:
                text = spec.kind.format(value)
        for name, value in fields["_extra_attributes"].items():
            head.append(f" {_prefixed(name)}='{escape(value)}'")
        for node in fields["_extra_nodes"]:
            body.append(_dump_plain(node, inner))
        start = "".join(head)
        if body:
            out.append(f"{start}>\n")
            out.extend(body)
            out.append(f"{indent}</{tag}>\n")
        elif text is not None:
            out.append(f"{start}>{escape(text)}</{tag}>\n")
        elif self._hollow and len(head) == 1:
            return
        elif self._paired:
            out.append(f"{start}>\n{indent}</{tag}>\n")
        else:
            out.append(f"{start}/>\n")

    # -- values

    def copy(self) -> Self:
        """A deep copy."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = type(self).__new__(type(self))
        for name, value in self.__dict__.items():
            if isinstance(value, list):
                value = [item.__deepcopy__(memo) if isinstance(item, Element) else copy.copy(item) for item in value]
            elif isinstance(value, Element):
                value = value.__deepcopy__(memo)
            elif isinstance(value, dict):
                value = dict(value)
            new.__dict__[name] = value
        return new

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.to_xml(secrets=True) == other.to_xml(secrets=True)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        set_ = {k: v for k, v in self.__dict__.items() if v not in (None, False, [], {})}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in set_.items())})"

    # -- virt-install's sub-options

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Every sub-option key of this element, with the field that it sets, in document order. Keys of repeated
        children hold ``[0-9]*`` where a number may stand (``host0.name``)."""
        found: dict[str, Option] = {}
        for key, option in cls._options("", ()):
            found.setdefault(key, option)
        return found

    @classmethod
    def _options(cls, prefix: str, path: tuple[str, ...]) -> Iterator[tuple[str, Option]]:
        for spec in cls.SPECS:
            own = spec.key or (prefix + spec.tag if spec.form != "content" else prefix.rstrip("."))
            if spec.element is cls:
                continue
            if spec.form == "child":
                assert spec.element is not None
                yield from spec.element._options(f"{own}.", (*path, spec.name))
            elif spec.form == "children":
                assert spec.element is not None
                yield from spec.element._options(f"{own}[0-9]*.", (*path, spec.name, "0"))
            elif spec.form != "raw":
                option = Option((*path, spec.name), spec)
                yield own, option
                for alias in spec.alias:
                    yield alias, option

    def set_option(self, key: str, text: str, unit: str = "") -> None:
        """Set the field that ``key`` names; children on the way are made. ``unit`` is that of a size which names one.
        Raises XMLError for a value that does not fit, KeyError for a key that there is not."""
        match = find_option(type(self), key)
        if match is None:
            raise KeyError(key)
        option, numbers = match
        indices = iter(numbers)
        at: Any = self
        for name in option.path[:-1]:
            if name == "0":
                continue
            value = getattr(at, name)
            spec = next(s for s in at.SPECS if s.name == name)
            if spec.form == "children":
                index = next(indices)
                while len(value) <= index:
                    value.append(spec.element())
                at = value[index]
            else:
                if value is None:
                    value = spec.element()
                    setattr(at, name, value)
                at = value
        spec = option.spec
        try:
            if spec.form == "size":
                value = Spelled.of(-(-units.scale(int(text), unit or None, spec.unit) // spec.keep), text, unit)
            elif spec.kind.words in (Bool.words, OnOff.words):
                value = SWITCH[text.lower()]
            else:
                value = spec.kind.parse(text)
        except (ValueError, KeyError, GuesthouseError):
            raise XMLError(f"Invalid value for '{key}': '{text}'; expected {spec.kind.expected}") from None
        setattr(at, option.path[-1], value)


@functools.cache
def _keys_of(cls: Any) -> tuple[dict[str, Option], list[tuple[re.Pattern[str], Option]]]:
    """The keys of ``cls``, and those with numbers in them as patterns."""
    options = cls.options()
    numbered = [(key, option) for key, option in options.items() if "[0-9]*" in key]
    return options, [(re.compile(re.escape(k).replace(re.escape("[0-9]*"), "([0-9]*)")), o) for k, o in numbered]


def find_option(cls: type[Element], key: str) -> tuple[Option, tuple[int, ...]] | None:
    """The option of ``cls`` that ``key`` names, and a number for each list on its path (0 where the key has none); None
    for no such key."""
    hashable: Any = cls  # classes are, though equality of their instances hides it from type checkers
    return _found(hashable, key)


@functools.lru_cache(maxsize=1024)
def _found(cls: Any, key: str) -> tuple[Option, tuple[int, ...]] | None:
    options, patterns = _keys_of(cls)
    option = options.get(key)
    if option is not None:
        return option, (0,) * option.path.count("0")
    for pattern, option in patterns:
        match = pattern.fullmatch(key)
        if match:
            numbers = [int(text or 0) for text in match.groups()]
            return option, (*numbers, *(0,) * (option.path.count("0") - len(numbers)))
    return None


# how names of documents begin -> the part of libvirt that complains of them; of all others it is the guests' part
_PARTS = {
    "(CPU": ErrorDomain.CPU,
    "(definition_of_secret": ErrorDomain.SECRET,
    "(interface": ErrorDomain.INTERFACE,
    "(network": ErrorDomain.NETWORK,
    "network_update": ErrorDomain.NETWORK,
    "(node_device": ErrorDomain.NODEDEV,
    "(nwfilter": ErrorDomain.NWFILTER,
    "(storage": ErrorDomain.STORAGE,
}


def parse_document(text: str | bytes, name: str) -> Any:
    """The root element of ``text``, read safely: no entities of the document's own, no network. Raises XMLDetail."""
    raw = text.encode() if isinstance(text, str) else text
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        message = re.sub(r", line \d+, column \d+.*$", "", error.msg or "parser error").partition(" (")[0]
        lines = raw.decode("utf-8", "replace").splitlines()
        shown = lines[line - 1][:80] if 0 < line <= len(lines) else ""
        pointer = "-" * max(0, min(column - 1, len(shown))) + "^"
        raise XMLDetail(f"{name}:{line}: {message}\n{shown}\n{pointer}", domain=_part(name)) from None
    except ValueError as error:  # a document that names an encoding which it does not have
        raise XMLDetail(f"{name}:1: {error}", domain=_part(name)) from None


def _part(name: str) -> ErrorDomain:
    return next((part for start, part in _PARTS.items() if name.startswith(start)), ErrorDomain.DOMAIN)


def _value(spec: Spec, node: Any, text: str) -> Any:
    try:
        return spec.kind.parse(text)
    except (ValueError, KeyError):
        raise BadValue(f"Invalid value for element '{node.tag}': '{text}'", spec.kind.expected) from None


def _size(spec: Spec, node: Any) -> int:
    text = (node.text or "").strip()
    try:
        number = UInt.parse(text)
    except ValueError:
        raise BadValue(f"Invalid value for element '{node.tag}': '{text}'", "a size in whole numbers") from None
    try:
        return -(-units.scale(number, node.get("unit"), spec.unit) // spec.keep)
    except GuesthouseError as error:
        raise BadValue(str(error)) from None


def escape(text: str) -> str:
    """``text`` for XML as libvirt escapes it, quotes included."""
    if not ("&" in text or "<" in text or ">" in text or "'" in text or '"' in text):
        return text
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&apos;"), ('"', "&quot;")):
        text = text.replace(plain, escaped)
    return text


def _prefixed(name: str) -> str:
    return name.rpartition("}")[2]


def _detached(node: Any) -> Any:
    """``node`` on its own: without what follows it, without blank text between its children."""
    twin = copy.deepcopy(node)
    twin.tail = None
    for each in twin.iter():
        if len(each) and each.text is not None and not each.text.strip():
            each.text = None
        if each.tail is not None and not each.tail.strip():
            each.tail = None
    return twin


def _dump(node: Any, indent: str) -> str:
    """An element as libxml2 formats it (double quotes), indented: what libvirt does with metadata."""
    twin = copy.deepcopy(node)
    etree.indent(twin, "  ", level=len(indent) // 2)
    return f"{indent}{etree.tostring(twin, encoding='unicode')}\n"


def _dump_plain(node: Any, indent: str) -> str:
    """An undeclared element; in our own look where it has no namespaces."""
    if any(not isinstance(each.tag, str) or "}" in each.tag for each in node.iter()):
        return _dump(node, indent)
    head = f"{indent}<{node.tag}" + "".join(f" {_prefixed(k)}='{escape(v)}'" for k, v in node.attrib.items())
    children = list(node)
    if children:
        body = "".join(_dump_plain(child, indent + "  ") for child in children)
        return f"{head}>\n{body}{indent}</{node.tag}>\n"
    if node.text:
        return f"{head}>{escape(node.text)}</{node.tag}>\n"
    return f"{head}/>\n"
