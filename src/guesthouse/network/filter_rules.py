"""One rule of a network filter as nftables has it, in the bridge family.

As with libvirt a packet passes two stages, and both have a say: rules about Ethernet, ARP and IP headers, then rules
about protocols over IP. A rule's "src" and "dst" are the packet's, except where the rule is turned round: for what
leaves by an "inout" rule, and for the answers to what a rule about a protocol over IP lets through.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from guesthouse.errors import ConfigUnsupported, Domain
from guesthouse.model.nwfilter import Rule

_BPDU_GROUP = "01:80:c2:00:00:00"
# a TCP segment that opens a connection has SYN alone of these: FIN, SYN, RST, ACK
_TCP_OPENING = "tcp flags & 0x17 {op} 0x2"
_OVER_IP = {
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "esp": 50,
    "ah": 51,
    "sctp": 132,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "all": 0,
}
#: What a packet in a chain of each kind is.
OF_CHAIN = {
    "mac": "",
    "stp": f"ether daddr {_BPDU_GROUP}",
    "vlan": "ether type 0x8100",
    "arp": "ether type 0x0806",
    "rarp": "ether type 0x8035",
    "ipv4": "ether type 0x0800",
    "ipv6": "ether type 0x86dd",
}
# offset and length in bits, in an ARP packet over Ethernet and in a frame with a configuration BPDU
_ARP_FIELDS = {
    "hwtype": (0, 16),
    "protocoltype": (16, 16),
    "opcode": (48, 16),
    "arpsrcmacaddr": (64, 48),
    "arpsrcipaddr": (112, 32),
    "arpdstmacaddr": (144, 48),
    "arpdstipaddr": (192, 32),
}
_STP_FIELDS = {
    "type": (160, 8),
    "flags": (168, 8),
    "root-priority": (176, 16),
    "root-address": (192, 48),
    "root-cost": (240, 32),
    "sender-priority": (272, 16),
    "sender-address": (288, 48),
    "port": (336, 16),
    "age": (352, 16),
    "max-age": (368, 16),
    "hello-time": (384, 16),
    "forward-delay": (400, 16),
}


@dataclass(frozen=True)
class Abilities:
    """What the kernel's bridge family can do: follow connections, and answer what it rejects."""

    conntrack: bool
    reject: bool


def is_over_ip(rule: Rule) -> bool:
    """Whether the rule belongs to the second stage."""
    return rule.protocol.removesuffix("-ipv6") in _OVER_IP


class _Matches:
    """Collects what a rule's packets are like; ``values`` are its items with all variables filled in."""

    def __init__(self, rule: Rule, values: dict[str, Any], turned: bool) -> None:
        self.parts: list[str] = []
        self._rule = rule
        self._values = values
        self._turned = turned

    def add(self, text: str) -> None:
        self.parts.append(text)

    def get(self, name: str) -> Any:
        """The value of an attribute; of a turned rule "src" and "dst" change places with each other's fields."""
        return self._values.get(name)

    def _end(self, name: str) -> str:
        """Which end of the packet the attribute ``name`` is about."""
        source = name.startswith(("src", "arpsrc"))
        return "s" if source is not self._turned else "d"

    def op(self, name: str) -> str:
        return "!=" if name in self._rule.negated else "=="

    def mac(self, name: str) -> None:
        value, mask = self.get(f"{name}addr"), self.get(f"{name}mask")
        if value is None:
            return
        field = f"ether {self._end(name)}addr"
        op = self.op(f"{name}addr")
        if mask in (None, "ff:ff:ff:ff:ff:ff"):
            self.add(f"{field} {op} {value}")
        else:
            self.add(f"{field} & {mask} {op} {_masked(value, mask)}")

    def macs(self) -> None:
        self.mac("srcmac")
        self.mac("dstmac")

    def addresses(self, family: str) -> None:
        for name in ("srcip", "dstip"):
            field = f"{family} {self._end(name)}addr"
            value, mask = self.get(f"{name}addr"), self.get(f"{name}mask")
            if value is not None:
                net = ipaddress.ip_network(value if mask is None else f"{value}/{mask}", strict=False)
                if net.prefixlen:
                    self.add(f"{field} {self.op(f'{name}addr')} {net}")
                elif f"{name}addr" in self._rule.negated:
                    self.add(f"{family} version 0")  # nothing is outside of everything
            start, end = self.get(f"{name}from"), self.get(f"{name}to")
            if start is not None:
                span = start if end in (None, start) else f"{start}-{end}"
                self.add(f"{field} {self.op(f'{name}from')} {span}")

    def ports(self) -> None:
        for name in ("srcport", "dstport"):
            self.span(f"{name}start", f"{name}end", f"th {self._end(name)}port")

    def span(self, low: str, high: str, field: str) -> None:
        start, end = self.get(low), self.get(high)
        if start is not None:
            self.add(f"{field} {self.op(low)} {start if end in (None, start) else f'{start}-{end}'}")

    def number(self, name: str, field: str) -> None:
        if self.get(name) is not None:
            self.add(f"{field} {self.op(name)} {self.get(name)}")

    def raw(self, name: str, base: str, place: tuple[int, int], mask: str | None = None, high: str = "") -> None:
        """A field that nftables has no word for, at ``place`` from ``base`` on."""
        value = self.get(name)
        if value is None:
            return
        offset, length = place
        number = _as_number(value)
        field = f"@{base},{offset},{length}"
        given = self.get(mask) if mask else None
        if given is not None:
            bits = _mask_bits(given, length)
            if bits != 2**length - 1:
                field += f" & {bits:#x}"
                number &= bits
        top = self.get(high) if high else None
        span = f"{number:#x}" if top in (None, value) else f"{number:#x}-{_as_number(top):#x}"
        self.add(f"{field} {self.op(name)} {span}")


def _as_number(value: int | str) -> int:
    if isinstance(value, int):
        return value
    if "." in value:
        return int(ipaddress.IPv4Address(value))
    return int(value.replace(":", ""), 16)


def _mask_bits(value: Any, length: int) -> int:
    """A mask as bits: a MAC's is written out, an address's is a number of ones."""
    if isinstance(value, int):
        return ((1 << value) - 1) << (length - value)
    return _as_number(value)


def _masked(value: str, mask: str) -> str:
    number = _as_number(value) & _as_number(mask)
    return number.to_bytes(6).hex(":")


def link_rule(rule: Rule, values: dict[str, Any], *, turned: bool) -> str:
    """A rule of the first stage. Raises ConfigUnsupported for what nftables cannot ask."""
    found = _Matches(rule, values, turned)
    protocol = rule.protocol
    if protocol == "mac":
        found.macs()
        found.number("protocolid", "ether type")
    elif protocol == "vlan":
        found.macs()
        found.add(OF_CHAIN["vlan"])
        found.number("vlanid", "vlan id")
        found.number("encap-protocol", "vlan type")
    elif protocol == "stp":
        found.mac("srcmac")
        found.add(OF_CHAIN["stp"])
        for name, place in _STP_FIELDS.items():
            mask = f"{name}-mask" if name.endswith("address") else None
            found.raw(name, "ll", place, mask, "" if mask else f"{name}-hi")
    elif protocol in ("arp", "rarp"):
        _arp(found, protocol, turned)
    elif protocol in ("ip", "ipv6"):
        found.macs()
        found.add(OF_CHAIN["ipv4" if protocol == "ip" else "ipv6"])
        found.addresses("ip" if protocol == "ip" else "ip6")
        found.number("protocol", "meta l4proto")
        found.ports()
        found.number("dscp", "ip dscp")
        found.span("type", "typeend", "icmpv6 type")
        found.span("code", "codeend", "icmpv6 code")
    verdict = {"reject": "drop"}.get(rule.action, rule.action)
    return " ".join([*found.parts, verdict])


def _arp(found: _Matches, protocol: str, turned: bool) -> None:
    found.macs()
    found.add(OF_CHAIN[protocol])
    if found.get("gratuitous"):
        raise _unsupported("gratuitous='true' in a rule about ARP is not supported: nftables compares no two fields")
    for name, place in _ARP_FIELDS.items():
        other = name.replace("src", "dst") if "src" in name else name.replace("dst", "src")
        mask = name.replace("addr", "mask") if name.endswith("ipaddr") else None
        found.raw(name, "nh", _ARP_FIELDS[other] if turned else place, mask)


def protocol_rules(rule: Rule, values: dict[str, Any], direction: str, able: Abilities) -> list[str]:
    """What a rule of the second stage asks of packets in ``direction`` ("out": from the guest), or nothing.

    A rule that accepts speaks of a connection, so it lets the answers through too, unless it says which states it is
    about. Raises ConfigUnsupported where the kernel, or nftables, cannot do it.
    """
    turned = direction == "out" if rule.direction == "inout" else direction != rule.direction
    own = rule.direction in ("inout", direction)
    kind, _, version = rule.protocol.partition("-")
    family = "ip6" if version or kind == "icmpv6" else "ip"
    _refuse(values)
    if kind in ("icmp", "icmpv6") and "type" in values and (not own or rule.direction == "inout"):
        return []
    states = values.get("state") if rule.statematch else None
    if states is not None and not own:
        return []
    found = _Matches(rule, values, turned)
    found.add(OF_CHAIN["ipv6" if family == "ip6" else "ipv4"])
    number = _OVER_IP[kind]
    if number:
        found.add(f"meta l4proto {number}")
    if not turned:
        found.mac("srcmac")
    elif set(values) <= {"srcmacaddr", "comment"} and "srcmacaddr" in values:
        return []  # there is nothing but the sender's address, which answers do not have
    found.addresses(family)
    found.number("dscp", f"{family} dscp")
    found.ports()
    if kind == "tcp":
        _tcp(found, values)
    if kind in ("icmp", "icmpv6"):
        found.number("type", f"{kind} type")
        found.number("code", f"{kind} code")
    if states is not None:
        found.parts += _states(states, able)
    elif rule.action == "accept" and rule.statematch and rule.direction != "inout":
        found.parts += _implied(kind, own, "type" in values, able)
    verdict = rule.action
    if verdict == "reject" and (direction == "in" or not able.reject):
        verdict = "drop"
    return [" ".join([*found.parts, verdict])]


def _tcp(found: _Matches, values: dict[str, Any]) -> None:
    if "option" in values:
        op = "missing" if found.op("option") == "!=" else "exists"
        found.add(f"tcp option {values['option']} {op}")
    if "flags" in values:
        mask, flags = values["flags"]
        found.add(f"tcp flags & {mask:#x} {found.op('flags')} {flags:#x}")


def _states(states: tuple[str, ...], able: Abilities) -> list[str]:
    if states == ("NONE",):
        return []
    if not able.conntrack:
        raise _no_conntrack(f"a rule about the state {','.join(states)}")
    return [f"ct state {{ {', '.join(state.lower() for state in states)} }}"] if states else []


def _implied(kind: str, own: bool, typed: bool, able: Abilities) -> list[str]:
    """What a rule without a word about states means: new connections one way, and their packets both ways."""
    if able.conntrack:
        states = "ct state { new, established }" if own else "ct state established"
        return [states] if typed else [states, f"ct direction {'original' if own else 'reply'}"]
    if typed:
        return []
    if kind == "tcp":
        return [] if own else [_TCP_OPENING.format(op="!=")]
    raise _no_conntrack(f"a rule that accepts '{kind}' in one direction")


def _refuse(values: dict[str, Any]) -> None:
    if "ipset" in values:
        raise _unsupported("ipset is not supported: nftables has no access to the sets of ipset")
    if "connlimit-above" in values:
        raise _unsupported("connlimit-above is not supported yet")


def _unsupported(text: str) -> ConfigUnsupported:
    return ConfigUnsupported(text, domain=Domain.NWFILTER)


def _no_conntrack(what: str) -> ConfigUnsupported:
    text = "this kernel does not track connections over bridges (CONFIG_NF_CONNTRACK_BRIDGE)"
    return _unsupported(f"{what} cannot be had: {text}; rules with statematch='false' do without")
