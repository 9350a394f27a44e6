"""The packet filters of guests' interfaces, in one nftables table of our own (``bridge guesthouse``).

What comes from a guest is looked at where it enters a bridge, what goes to one where it leaves; each way has the two
stages of :mod:`guesthouse.network.filter_rules`. A map leads from the name of a tap to its chains, so that a tap's
rules come, change and go in one atomic change that touches no other's.
"""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from guesthouse.errors import ConfigUnsupported, Domain, InternalError
from guesthouse.model.nwfilter import Filter, Include, Parameters, Rule, kind_of_chain
from guesthouse.model.nwfilter_fields import PROTOCOLS, Variable
from guesthouse.network.filter_rules import OF_CHAIN, Abilities, is_over_ip, link_rule, protocol_rules

TABLE = "guesthouse"
# direction and stage; hook and priority: the kernel follows connections at -200
_HOOKS = {
    ("out", "link"): ("prerouting", -150, "iifname"),
    ("out", "ip"): ("prerouting", -140, "iifname"),
    ("in", "link"): ("postrouting", -150, "oifname"),
    ("in", "ip"): ("postrouting", -140, "oifname"),
}
_MISSING = "Cannot instantiate filter due to unresolvable variables or unavailable list elements: "

Find = Callable[[str], Filter]


@dataclass
class _Chain:
    """Rules that are asked together; ``priority`` is the chain's own."""

    name: str
    priority: int
    rules: list[tuple[int, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [text for _, text in sorted(self.rules, key=lambda rule: rule[0])]


@dataclass
class Plan:
    """The chains of one interface: by direction and stage, a first chain and those that it leads to."""

    chains: dict[tuple[str, str], list[list[str]]] = field(default_factory=dict)


# -- variables


def missing(found: Filter, values: Parameters, find: Find) -> list[str]:
    """The variables that the filter needs and that have no value, as they are written without their dollar sign.
    Raises InternalError where a filter that it includes is not there."""
    names: dict[str, None] = {}
    for entry in found.entries:
        if isinstance(entry, Include):
            names.update(dict.fromkeys(missing(find(entry.filter), {**entry.parameters, **values}, find)))
            continue
        for item in entry.items.values():
            variable = item.variable
            if variable is not None and len(values.get(variable.name, ())) <= (variable.place or 0):
                names[str(variable)[1:]] = None
    return list(names)


def unresolvable(names: list[str]) -> InternalError:
    """libvirt's error of variables without values."""
    return InternalError(_MISSING + ", ".join(names), domain=Domain.NWFILTER)


def _value(protocol: str, name: str, variable: Variable, text: str) -> Any:
    try:
        return PROTOCOLS[protocol][name](text).value
    except ValueError:
        word = f"the value '{text}' of the variable {variable.name} does not fit the attribute '{name}' of a rule"
        raise InternalError(f"{word} about {protocol}", domain=Domain.NWFILTER) from None


def _filled(rule: Rule, parameters: Parameters) -> list[dict[str, Any]]:
    """A rule's values for each way in which its variables' lists can be gone through, without repetitions."""
    fixed = {name: item.value for name, item in rule.items.items() if item.variable is None}
    lists: dict[int, int] = {}
    variables = {name: item.variable for name, item in rule.items.items() if item.variable is not None}
    for variable in variables.values():
        if variable.iterator is None:
            continue
        size = len(parameters[variable.name])
        if lists.setdefault(variable.iterator, size) != size:
            text = "Cardinality of list items must be the same for processing them in parallel"
            raise InternalError(text, domain=Domain.NWFILTER)
    found: list[dict[str, Any]] = []
    for places in itertools.product(*(range(size) for size in lists.values())):
        at = dict(zip(lists, places, strict=True))
        values = dict(fixed)
        for name, variable in variables.items():
            index = variable.place if variable.iterator is None else at[variable.iterator]
            text = parameters[variable.name][index or 0]
            values[name] = _value(rule.protocol, name, variable, text)
        if values not in found:
            found.append(values)
    return found


# -- compiling


class _Compiler:
    def __init__(self, find: Find) -> None:
        self._find = find
        self.chains: dict[tuple[str, str], dict[str, _Chain]] = {key: {} for key in _HOOKS}

    def take(self, found: Filter, parameters: Parameters) -> None:
        for entry in found.entries:
            if isinstance(entry, Include):
                self.take(self._find(entry.filter), {**entry.parameters, **parameters})
            else:
                for values in _filled(entry, parameters):
                    self._rule(found, entry, values)

    def _rule(self, found: Filter, rule: Rule, values: dict[str, Any]) -> None:
        for direction in ("out", "in"):
            if is_over_ip(rule):
                chain = self._chain((direction, "ip"), "root", 0)
                texts = protocol_rules(rule, values, direction, abilities())
                chain.rules += [(rule.priority, text) for text in texts]
            elif rule.direction in ("inout", direction):
                turned = rule.direction == "inout" and direction == "out"
                if turned and rule.protocol == "stp" and "srcmacmask" in values:
                    continue  # a bridge's packets have no receiver that one could tell by a mask
                chain = self._chain((direction, "link"), found.chain, found.priority)
                chain.rules.append((rule.priority, link_rule(rule, values, turned=turned)))

    def _chain(self, key: tuple[str, str], name: str, priority: int) -> _Chain:
        chain = self.chains[key].setdefault(name, _Chain(name, priority))
        chain.priority = priority
        return chain

    def plan(self) -> Plan:
        plan = Plan()
        for key, chains in self.chains.items():
            if not chains:
                continue
            root = chains.pop("root", None) or _Chain("root", 0)
            first: list[tuple[int, int, str]] = [(priority, 1, text) for priority, text in root.rules]
            others: list[list[str]] = []
            for chain in sorted(chains.values(), key=lambda chain: chain.priority):
                others.append(chain.lines())
                condition = OF_CHAIN[kind_of_chain(chain.name) or "mac"]
                first.append((chain.priority, 0, f"{condition} jump {{{len(others)}}}".strip()))
            ordered = [text for _, _, text in sorted(first, key=lambda line: line[:2])]
            plan.chains[key] = [ordered, *others]
        return plan


def compile_filter(found: Filter, parameters: Parameters, find: Find) -> Plan:
    """What the filter asks of an interface with these parameters; ``find`` gives the filters that it includes.

    Raises InternalError for variables without a value and values that do not fit, ConfigUnsupported for what the
    kernel cannot do.
    """
    names = missing(found, parameters, find)
    if names:
        raise unresolvable(names)
    compiler = _Compiler(find)
    compiler.take(found, parameters)
    return compiler.plan()


def dhcp_only(mac: str, servers: list[str]) -> Plan:
    """For an interface whose address nobody knows yet: it may ask for one, and hear the answers (of ``servers``)."""
    ask = f"ether saddr {mac} ether type 0x0800 meta l4proto 17 th sport 68 th dport 67 accept"
    hear = "ether type 0x0800 {}meta l4proto 17 th sport 67 th dport 68 accept"
    answers = [hear.format(f"ip saddr {server} ") for server in servers] or [hear.format("")]
    return Plan({("out", "link"): [[ask, "drop"]], ("in", "link"): [[*answers, "drop"]]})


# -- the kernel


def _chain_name(key: tuple[str, str], tap: str, number: int) -> str:
    # every character that nftables allows in no name is spelled out, and so is the one that spells
    safe = "".join(char if char.isascii() and (char.isalnum() or char in ".-") else f"_{ord(char):x}_" for char in tap)
    return f"{key[0]}-{key[1]}-{safe}/{number}"


def _script(tap: str, plan: Plan, present: set[str]) -> str:
    lines = [f"add table bridge {TABLE}"]
    old: list[str] = []
    for key, (hook, priority, word) in _HOOKS.items():
        base, lookup = f"{key[0]}-{key[1]}", f"{key[0]}-{key[1]}-taps"
        lines += [
            f"add map bridge {TABLE} {lookup} {{ type ifname : verdict; }}",
            f"add chain bridge {TABLE} {base} {{ type filter hook {hook} priority {priority}; policy accept; }}",
            f"flush chain bridge {TABLE} {base}",
            f"add rule bridge {TABLE} {base} {word} vmap @{lookup}",
        ]
        prefix = _chain_name(key, tap, 0)[:-1]
        mine = sorted(name for name in present if name.startswith(prefix))
        if mine:
            lines.append(f'delete element bridge {TABLE} {lookup} {{ "{tap}" }}')
        old += mine
    # chains lead to each other: empty all before the first goes
    lines += [f"flush chain bridge {TABLE} {name}" for name in old]
    lines += [f"delete chain bridge {TABLE} {name}" for name in old]
    for key, chains in plan.chains.items():
        names = [_chain_name(key, tap, number) for number in range(len(chains))]
        lines += [f"add chain bridge {TABLE} {name}" for name in names]
        for name, rules in zip(names, chains, strict=True):
            for rule in rules:
                for number, target in enumerate(names):
                    rule = rule.replace(f"jump {{{number}}}", f"jump {target}")
                lines.append(f"add rule bridge {TABLE} {name} {rule}")
        lookup = f"{key[0]}-{key[1]}-taps"
        lines.append(f'add element bridge {TABLE} {lookup} {{ "{tap}" : jump {names[0]} }}')
    return "\n".join(lines) + "\n"


def install(tap: str, plan: Plan) -> None:
    """Give a tap these rules in the place of all that it had, at once.

    Raises InternalError with nft's words; then it has what it had.
    """
    _apply(_script(tap, plan, _present()))


def remove(tap: str) -> None:
    """Take a tap's rules away; none there is fine. The table stays: it costs nothing."""
    present = _present()
    if any(name.startswith(_chain_name(key, tap, 0)[:-1]) for key in _HOOKS for name in present):
        _apply(_script(tap, Plan(), present))


def check(plan: Plan) -> None:
    """Raises InternalError where the kernel would not take these rules; nothing is changed."""
    _apply(_script("unused", plan, set()), "-c")


def _present() -> set[str]:
    """The names of the table's chains."""
    done = _nft("", "-j", "list", "chains", "bridge")
    if done.returncode:
        return set()
    found = json.loads(done.stdout)["nftables"]
    chains = (entry["chain"] for entry in found if "chain" in entry)
    return {chain["name"] for chain in chains if chain["table"] == TABLE}


@functools.cache
def abilities() -> Abilities:
    """What the running kernel can do; asked once."""
    base = "add table bridge guesthouse-probe\nadd chain bridge guesthouse-probe a {{ type filter hook prerouting"
    script = base + " priority -150; }}\nadd rule bridge guesthouse-probe a {}\n"
    answers = [_nft(script.format(rule), "-c", "-f", "-").returncode for rule in ("ct state established", "reject")]
    return Abilities(conntrack=answers[0] == 0, reject=answers[1] == 0)


def _apply(script: str, *options: str) -> None:
    done = _nft(script, *options, "-f", "-")
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise InternalError(f"Failed to apply firewall rules with nft: {words}", domain=Domain.FIREWALL)


def _nft(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["nft", *options], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        text = "Cannot find 'nft' in path: install the package nftables"
        raise ConfigUnsupported(text, domain=Domain.FIREWALL) from error
