"""``<filter>``: which packets an interface may send and get, ``<filterref>`` with its parameters, and
``<filterbinding>``: that an interface has a filter."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from guesthouse import units
from guesthouse.errors import ConfigUnsupported, Domain, GuesthouseError, InternalError, InvalidArg, XMLError
from guesthouse.model.fields import escape, parse_document
from guesthouse.model.nwfilter_fields import PROTOCOLS, Item, followed, parse_variable

ACTIONS = ("drop", "accept", "reject", "return", "continue")
DIRECTIONS = ("in", "out", "inout")
#: Chains of each kind of packet, with the priority at which they are gone through among the rules of "root".
CHAINS = {"root": 0, "mac": -800, "vlan": -750, "stp": 0, "arp": -500, "rarp": -400, "ipv4": -700, "ipv6": -600}
_PRIORITY = 500
_LIMIT = 1000
_LONGEST_CHAIN = 12
_WITH_PORTS = (6, 17, 33, 132)
_IS_NAME = re.compile(r"[a-zA-Z0-9_]+")
_IS_VALUE = re.compile(r"[a-zA-Z0-9_.:]+")

Parameters = dict[str, list[str]]


@dataclass
class Rule:
    """``protocol`` is "" for any packet. ``negated`` names the items that must not match."""

    action: str
    direction: str
    priority: int = _PRIORITY
    statematch: bool = True
    protocol: str = ""
    items: dict[str, Item] = field(default_factory=dict)
    negated: set[str] = field(default_factory=set)

    def format(self) -> str:
        head = f"  <rule action='{self.action}' direction='{self.direction}' priority='{self.priority}'"
        if not self.statematch:
            head += " statematch='false'"
        if not self.protocol:
            return f"{head}/>\n"
        return f"{head}>\n{self._details()}  </rule>\n"

    def _details(self) -> str:
        # one element cannot hold what must match beside what must not
        lines: list[str] = []
        last: bool | None = None
        for name in PROTOCOLS[self.protocol]:
            item = self.items.get(name)
            if item is None:
                continue
            negated = name in self.negated
            if negated is not last:
                lines.append(f"    <{self.protocol}" + (" match='no'" if negated else ""))
                last = negated
            lines[-1] += f" {name}='{item.text if item.variable else escape(item.text)}'"
        return "".join(f"{line}/>\n" for line in lines or [f"    <{self.protocol}"])


@dataclass
class Include:
    """Another filter in the place of this element, with parameters of its own."""

    filter: str
    parameters: Parameters = field(default_factory=dict)

    def format(self) -> str:
        return format_reference(self.filter, self.parameters, "  ")


@dataclass
class Filter:
    """A named filter. ``chain`` says which packets it is asked about; ``priority`` when, before or after others."""

    name: str
    uuid: str
    chain: str = "root"
    priority: int = 0
    entries: list[Rule | Include] = field(default_factory=list)
    #: whether its document named the UUID
    uuid_given: bool = True

    def to_xml(self) -> str:
        priority = f" priority='{self.priority}'" if self.priority else ""
        head = f"<filter name='{escape(self.name)}' chain='{escape(self.chain)}'{priority}>\n"
        body = "".join(entry.format() for entry in self.entries)
        return f"{head}  <uuid>{self.uuid}</uuid>\n{body}</filter>\n"

    @property
    def includes(self) -> list[str]:
        """Names of the filters that it includes itself."""
        return [entry.filter for entry in self.entries if isinstance(entry, Include)]


@dataclass
class Binding:
    """That the device ``port`` of a guest has a filter; ``link`` is the device that it stands on, if any."""

    port: str
    owner_name: str
    owner_uuid: str
    mac: str
    filter: str
    parameters: Parameters = field(default_factory=dict)
    link: str | None = None

    def to_xml(self) -> str:
        link = f"  <linkdev name='{escape(self.link)}'/>\n" if self.link else ""
        return (
            "<filterbinding>\n  <owner>\n"
            f"    <name>{escape(self.owner_name)}</name>\n    <uuid>{self.owner_uuid}</uuid>\n  </owner>\n"
            f"  <portdev name='{escape(self.port)}'/>\n{link}  <mac address='{self.mac}'/>\n"
            f"{format_reference(self.filter, self.parameters, '  ')}</filterbinding>\n"
        )


def format_reference(name: str, parameters: Parameters, indent: str) -> str:
    """A ``<filterref>``, its parameters sorted by name."""
    head = f"{indent}<filterref filter='{escape(name)}'"
    if not parameters:
        return f"{head}/>\n"
    lines = "".join(
        f"{indent}  <parameter name='{key}' value='{value}'/>\n"
        for key in sorted(parameters)
        for value in parameters[key]
    )
    return f"{head}>\n{lines}{indent}</filterref>\n"


def parse_parameters(node: Any) -> Parameters:
    """The parameters below a ``<filterref>``; several of one name are a list. Those that cannot be are left out."""
    found: Parameters = {}
    for child in node.iterchildren("parameter"):
        name, value = child.get("name"), child.get("value")
        if name and value and _IS_NAME.fullmatch(name) and _IS_VALUE.fullmatch(value):
            found.setdefault(name, []).append(value)
    return found


def parse_filter(text: str, *, lenient: bool = False) -> Filter:
    """The filter that a document from outside describes; one without UUID gets one. Raises libvirt's errors.

    ``lenient``: attributes with values that cannot be are left out.
    """
    node = parse_document(text, "(nwfilter_definition)")
    if node.tag != "filter":
        raise XMLError(f"expecting root element of 'filter', not '{node.tag}'", domain=Domain.NWFILTER)
    name = node.get("name")
    if not name:
        raise _internal("filter has no name")
    chain, priority = _chain(node)
    uuid = node.findtext("uuid")
    if uuid:
        try:
            uuid = units.parse_uuid(uuid)
        except GuesthouseError:
            raise XMLError("malformed uuid element", domain=Domain.NWFILTER) from None
    found = Filter(name, uuid or units.new_uuid(), chain, priority, uuid_given=bool(uuid))
    for child in node.iterchildren("rule", "filterref"):
        found.entries.append(_rule(child, lenient) if child.tag == "rule" else _include(child))
    return found


def _internal(text: str) -> InternalError:
    return InternalError(text, domain=Domain.NWFILTER)


def _invalid(text: str) -> InvalidArg:
    return InvalidArg(text, domain=Domain.NWFILTER)


def _chain(node: Any) -> tuple[str, int]:
    given, priority = node.get("priority"), None
    if given:
        if not re.fullmatch(r"\s*[+-]?[0-9]+", given):
            raise _invalid(f"Could not parse chain priority '{given}'")
        priority = int(given)
        if not -_LIMIT <= priority <= _LIMIT:
            raise _invalid(f"Priority '{priority}' is outside valid range of [{-_LIMIT},{_LIMIT}]")
    chain = node.get("chain")
    if not chain:
        return "root", 0
    if len(chain) > _LONGEST_CHAIN:
        raise _invalid(f"Name of chain is longer than {_LONGEST_CHAIN} characters")
    if not re.fullmatch(r"[a-zA-Z0-9_.:\-]+", chain):
        raise _invalid("Chain name contains invalid characters")
    kind = kind_of_chain(chain)
    if kind is None:
        others = ", ".join(name for name in CHAINS if name != "root")
        text = f"Invalid chain name '{chain}'. Please use a chain name called 'root' or any of the following prefixes: "
        raise _invalid(text + others)
    return chain, CHAINS[kind] if priority is None else priority


def kind_of_chain(chain: str) -> str | None:
    """Which of :data:`CHAINS` the name of a chain begins with; "root" is a whole name alone."""
    if chain.startswith("root"):
        return "root" if chain == "root" else None
    return next((kind for kind in CHAINS if chain.startswith(kind)), None)


def _include(node: Any) -> Include:
    name = node.get("filter")
    if not name:
        raise _internal("rule node requires action attribute")
    return Include(name, parse_parameters(node))


def _rule(node: Any, lenient: bool) -> Rule:
    action, direction, priority = node.get("action"), node.get("direction"), node.get("priority", "")
    if action is None:
        raise _internal("rule node requires action attribute")
    if action not in ACTIONS:
        raise ConfigUnsupported("unknown rule action attribute value", domain=Domain.NWFILTER)
    if direction is None:
        raise _internal("rule node requires direction attribute")
    if direction not in DIRECTIONS:
        raise ConfigUnsupported("unknown rule direction attribute value", domain=Domain.NWFILTER)
    rule = Rule(action, direction)
    if re.fullmatch(r"\s*[+-]?[0-9]+", priority) and -_LIMIT <= int(priority) <= _LIMIT:
        rule.priority = int(priority)
    rule.statematch = node.get("statematch", "").lower() not in ("0", "false")
    for child in node.iterchildren(*PROTOCOLS):
        # the first one's protocol is the rule's
        if rule.protocol in ("", child.tag):
            rule.protocol = child.tag
            _match(rule, child, lenient)
    if rule.protocol:
        _complete(rule)
    return rule


def _match(rule: Rule, node: Any, lenient: bool) -> None:
    bad = None
    for name, parse in PROTOCOLS[rule.protocol].items():
        text = node.get(name)
        if text is None:
            continue
        try:
            if text.startswith("$"):
                variable = parse_variable(text[1:])
                rule.items[name] = Item(str(variable), None, variable)
            else:
                rule.items[name] = parse(text)
        except ValueError:
            bad = f"{name} has illegal value {text}"
            continue
        rule.negated.discard(name)
        if node.get("match") == "no":
            rule.negated.add(name)
    if bad is not None and not lenient:
        raise _internal(bad)
    if rule.protocol in ("ip", "ipv6") and any("port" in name for name in rule.items):
        protocol = rule.items.get("protocol")
        if protocol is None or (not protocol.variable and protocol.value not in _WITH_PORTS):
            kind = "IP" if rule.protocol == "ip" else "IPv6"
            raise _internal(
                f"{kind} rule with port specification requires protocol specification with protocol to be either one"
                " of tcp(6), udp(17), dccp(33), or sctp(132)"
            )


def _complete(rule: Rule) -> None:
    """What libvirt's own fix-up makes of a rule that was read."""
    for name in rule.items:
        leader = followed(rule.protocol, name)
        if leader is not None and (leader in rule.negated) != (name in rule.negated):
            rule.negated ^= {name}
    if "ipset" in rule.items and "ipsetflags" not in rule.items and not rule.protocol.startswith("all"):
        rule.items["ipsetflags"] = Item("src", ("src",))


def parse_binding(text: str) -> Binding:
    """The binding that a document from outside describes. Raises libvirt's errors."""
    node = parse_document(text, "(nwfilterbinding_definition)")
    if node.tag != "filterbinding":
        raise XMLError(f"expecting root element of 'filterbinding', not '{node.tag}'", domain=Domain.NWFILTER)

    def need(path: str, attribute: str | None, what: str) -> str:
        found = node.find(path)
        value = None if found is None else (found.get(attribute) if attribute else found.text)
        if not value:
            raise _internal(f"filter binding has no {what}")
        return str(value)

    port = need("portdev", "name", "port dev name")
    link = need("linkdev", "name", "link dev name") if node.find("linkdev") is not None else None
    owner = need("owner/name", None, "owner name")
    uuid = need("owner/uuid", None, "owner UUID")
    try:
        uuid = units.parse_uuid(uuid)
    except GuesthouseError:
        raise _internal(f"Unable to parse UUID '{uuid}'") from None
    mac = need("mac", "address", "MAC address")
    try:
        mac = units.parse_mac(mac)
    except GuesthouseError:
        raise _internal(f"Unable to parse MAC '{mac}'") from None
    name = need("filterref", "filter", "filter reference")
    return Binding(port, owner, uuid, mac, name, parse_parameters(node.find("filterref")), link)
