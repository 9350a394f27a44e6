"""What a network filter's rules can match: each protocol's attributes, in libvirt 9.0's order, and how each reads.

An attribute's value is an :class:`Item`: the text that libvirt shows for it, and the value itself; or a variable, whose
value each interface brings along.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, NamedTuple

ETHER_TYPES = {"ipv4": 0x0800, "ipv6": 0x86DD, "arp": 0x0806, "rarp": 0x8035, "vlan": 0x8100}
IP_PROTOCOLS = {
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "esp": 50,
    "ah": 51,
    "icmp": 1,
    "igmp": 2,
    "sctp": 132,
    "icmpv6": 58,
}
ARP_OPCODES = {
    "Request": 1,
    "Reply": 2,
    "Request_Reverse": 3,
    "Reply_Reverse": 4,
    "DRARP_Request": 5,
    "DRARP_Reply": 6,
    "DRARP_Error": 7,
    "InARP_Request": 8,
    "ARP_NAK": 9,
}
STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID")
TCP_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}
_MAX_COMMENT = 256
_MAX_ITERATOR = 1000
_IPSET_NAME = re.compile(r"[a-zA-Z0-9.:_+\- ]{0,31}")
_VARIABLE = re.compile(r"([a-zA-Z0-9_]*)(?:\[[ \t]*(@?)(\d+)[ \t]*\])?")


class Variable(NamedTuple):
    """A variable in a rule. A list's items are gone through; those of variables with the same ``iterator`` together.
    ``place``: this one item alone (``iterator`` is None)."""

    name: str
    iterator: int | None = 0
    place: int | None = None

    def __str__(self) -> str:
        if self.place is not None:
            return f"${self.name}[{self.place}]"
        return f"${self.name}[@{self.iterator}]" if self.iterator else f"${self.name}"


class Item(NamedTuple):
    """The value of an attribute: as text, and as what it means; a variable's value is None."""

    text: str
    value: Any
    variable: Variable | None = None


def parse_variable(text: str) -> Variable:
    """The variable that ``text``, without its dollar sign, names. Raises ValueError."""
    match = _VARIABLE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    name, at, number = match.groups()
    if number is None:
        return Variable(name)
    if at and int(number) > _MAX_ITERATOR:
        raise ValueError(text)
    return Variable(name, int(number)) if at else Variable(name, None, int(number))


def _number(high: int, low: int = 0, *, words: dict[str, int] | None = None) -> Callable[[str], Item]:
    """A number up to ``high``, decimal or else hexadecimal, shown as it came; or one of ``words``, in any case."""
    by_value = {value: word for word, value in (words or {}).items()}
    by_word = {word.lower(): value for word, value in (words or {}).items()}

    def parse(text: str) -> Item:
        if text.lower() in by_word:
            value = by_word[text.lower()]
            return Item(by_value[value], value)
        if re.fullmatch(r"\+?[0-9]+", text) and int(text) <= high:
            value, shown = int(text), str(int(text))
        elif re.fullmatch(r"(0[xX])?[0-9a-fA-F]+", text):
            value = int(text, 16)
            shown = f"0x{value:x}"
        else:
            raise ValueError(text)
        if not low <= value <= high:
            raise ValueError(text)
        return Item(by_value.get(value, shown), value)

    return parse


def _connlimit(text: str) -> Item:
    if not text.isascii() or not text.isdigit() or int(text) > 0xFFFF:
        raise ValueError(text)
    return Item(str(int(text)), int(text))


def _mac(text: str) -> Item:
    if not re.fullmatch(r"([0-9a-fA-F]{1,2}:){5}[0-9a-fA-F]{1,2}", text):
        raise ValueError(text)
    value = ":".join(f"{int(part, 16):02x}" for part in text.split(":"))
    return Item(value, value)


def _mac_mask(text: str) -> Item:
    item = _mac(text)
    bits = f"{int(item.value.replace(':', ''), 16):048b}"
    if "01" in bits:
        raise ValueError(text)
    return item


def _address(version: int) -> Callable[[str], Item]:
    def parse(text: str) -> Item:
        if version == 4:
            plain = str(ipaddress.IPv4Address(text))
            return Item(plain, plain)
        if "%" in text:
            raise ValueError(text)
        address = ipaddress.IPv6Address(text)
        plain, number = str(address), int(address)
        # libc shows what embeds an IPv4 address as such
        if address.ipv4_mapped is not None:
            plain = f"::ffff:{address.ipv4_mapped}"
        elif 0xFFFF < number < 2**32:
            plain = f"::{ipaddress.IPv4Address(number)}"
        return Item(plain, plain)

    return parse


def _mask(version: int) -> Callable[[str], Item]:
    size = 32 if version == 4 else 128

    def parse(text: str) -> Item:
        if text.isascii() and text.isdigit():
            value = int(text)
        else:
            kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
            bits = f"{int(kind(text)):0{size}b}"
            if "01" in bits:
                raise ValueError(text)
            value = bits.count("1")
        if value > size:
            raise ValueError(text)
        return Item(str(value), value)

    return parse


def _boolean(text: str) -> Item:
    value = text in ("true", "1", "yes")
    return Item("true" if value else "false", value)


def _states(text: str) -> Item:
    words = [word for word in re.split(r"[\s,]+", text.upper()) if word]
    if any(word not in (*STATES, "NONE") for word in words):
        raise ValueError(text)
    found = ("NONE",) if "NONE" in words else tuple(state for state in STATES if state in words)
    return Item(",".join(found), found)


def _tcp_flags(text: str) -> Item:
    mask, slash, flags = text.partition("/")
    if not slash:
        raise ValueError(text)
    values = [_flag_word(part) for part in (mask, flags)]
    return Item("/".join(_flag_text(value) for value in values), tuple(values))


def _flag_word(text: str) -> int:
    value = 0
    for word in re.split(r"[\s,]+", text.upper()):
        if word == "ALL":
            value |= 0x3F
        elif word in TCP_FLAGS:
            value |= TCP_FLAGS[word]
        elif word not in ("", "NONE"):
            raise ValueError(text)
    return value


def _flag_text(value: int) -> str:
    if value in (0, 0x3F):
        return "ALL" if value else "NONE"
    return ",".join(word for word, bit in TCP_FLAGS.items() if value & bit)


def _ipset(text: str) -> Item:
    if not _IPSET_NAME.fullmatch(text):
        raise ValueError(text)
    return Item(text, text)


def _ipset_flags(text: str) -> Item:
    words = text.lower().split(",")
    if len(words) > 6 or any(word not in ("src", "dst") for word in words):
        raise ValueError(text)
    return Item(",".join(words), tuple(words))


def _comment(text: str) -> Item:
    return Item(text[:_MAX_COMMENT], text[:_MAX_COMMENT])


Parser = Callable[[str], Item]
_U8, _U16, _U32 = _number(0xFF), _number(0xFFFF), _number(0xFFFFFFFF)
_COMMENT: dict[str, Parser] = {"comment": _comment}
_SOURCE_MAC: dict[str, Parser] = {"srcmacaddr": _mac, "srcmacmask": _mac_mask}
_MACS: dict[str, Parser] = {**_SOURCE_MAC, "dstmacaddr": _mac, "dstmacmask": _mac_mask}
_PORTS: dict[str, Parser] = dict.fromkeys(("srcportstart", "srcportend", "dstportstart", "dstportend"), _U16)
_ICMP: dict[str, Parser] = {"type": _U8, "code": _U8}


def _addresses(version: int) -> dict[str, Parser]:
    address, mask = _address(version), _mask(version)
    return {"srcipaddr": address, "srcipmask": mask, "dstipaddr": address, "dstipmask": mask}


def _over_ip(version: int, own: dict[str, Parser] | None = None) -> dict[str, Parser]:
    address = _address(version)
    ranges = dict.fromkeys(("srcipfrom", "srcipto", "dstipfrom", "dstipto"), address)
    return {
        "srcmacaddr": _mac,
        **_addresses(version),
        **ranges,
        "dscp": _number(63),
        "connlimit-above": _connlimit,
        "state": _states,
        "ipset": _ipset,
        "ipsetflags": _ipset_flags,
        **(own or {}),
        **_COMMENT,
    }


_STP: dict[str, Parser] = {
    **_SOURCE_MAC,
    "type": _U8,
    "flags": _U8,
    "root-priority": _U16,
    "root-priority-hi": _U16,
    "root-address": _mac,
    "root-address-mask": _mac_mask,
    "root-cost": _U32,
    "root-cost-hi": _U32,
    "sender-priority": _U16,
    "sender-priority-hi": _U16,
    "sender-address": _mac,
    "sender-address-mask": _mac_mask,
    **{
        f"{name}{end}": _U16
        for name in ("port", "age", "max-age", "hello-time", "forward-delay")
        for end in ("", "-hi")
    },
    **_COMMENT,
}
_ARP: dict[str, Parser] = {
    **_MACS,
    "hwtype": _U16,
    "protocoltype": _U16,
    "opcode": _number(0xFFFF, words=ARP_OPCODES),
    "arpsrcmacaddr": _mac,
    "arpdstmacaddr": _mac,
    **{f"arp{name}": parse for name, parse in _addresses(4).items()},
    "gratuitous": _boolean,
    **_COMMENT,
}
_IP_PROTOCOL: dict[str, Parser] = {"protocol": _number(0xFF, words=IP_PROTOCOLS)}
_TCP: dict[str, Parser] = {**_PORTS, "option": _U8, "flags": _tcp_flags}

#: The attributes of each protocol's rules, by name, in the order in which libvirt writes them.
PROTOCOLS: dict[str, dict[str, Parser]] = {
    "mac": {**_MACS, "protocolid": _number(0xFFFF, 0x600, words=ETHER_TYPES), **_COMMENT},
    "vlan": {
        **_MACS,
        "vlanid": _number(4095),
        "encap-protocol": _number(0xFFFF, 0x3C, words=ETHER_TYPES),
        **_COMMENT,
    },
    "stp": _STP,
    "arp": _ARP,
    "rarp": _ARP,
    "ip": {**_MACS, **_addresses(4), **_IP_PROTOCOL, **_PORTS, "dscp": _number(63), **_COMMENT},
    "ipv6": {
        **_MACS,
        **_addresses(6),
        **_IP_PROTOCOL,
        **_PORTS,
        "type": _U8,
        "typeend": _U8,
        "code": _U8,
        "codeend": _U8,
        **_COMMENT,
    },
    "tcp": _over_ip(4, _TCP),
    "udp": _over_ip(4, _PORTS),
    "udplite": _over_ip(4),
    "esp": _over_ip(4),
    "ah": _over_ip(4),
    "sctp": _over_ip(4, _PORTS),
    "icmp": _over_ip(4, _ICMP),
    "all": _over_ip(4),
    "igmp": _over_ip(4),
    "tcp-ipv6": _over_ip(6, _TCP),
    "udp-ipv6": _over_ip(6, _PORTS),
    "udplite-ipv6": _over_ip(6),
    "esp-ipv6": _over_ip(6),
    "ah-ipv6": _over_ip(6),
    "sctp-ipv6": _over_ip(6, _PORTS),
    "icmpv6": _over_ip(6, _ICMP),
    "all-ipv6": _over_ip(6),
}

#: Whose "not" an attribute takes over: libvirt negates a range's other end, and all ports, as it does their first.
_FOLLOWS_MASK = {
    "srcmacmask": "srcmacaddr",
    "dstmacmask": "dstmacaddr",
    "srcipmask": "srcipaddr",
    "dstipmask": "dstipaddr",
    "srcipto": "srcipfrom",
    "dstipto": "dstipfrom",
}
_FOLLOWS_PORT = {"srcportend": "srcportstart", "dstportstart": "srcportstart", "dstportend": "srcportstart"}
_STP_PAIRS = {name: re.sub("-(hi|mask)$", "", name) for name in _STP if re.search("-(hi|mask)$", name)}


def followed(protocol: str, name: str) -> str | None:
    """The attribute of ``protocol`` whose negation counts for ``name`` too, None for its own."""
    if protocol in ("arp", "rarp"):
        return None
    if protocol == "stp":
        return _STP_PAIRS.get(name)
    if name in _FOLLOWS_MASK:
        return _FOLLOWS_MASK[name]
    if protocol in ("icmp", "icmpv6"):
        return "type" if name == "code" else None
    if protocol == "ipv6":
        return "type" if name in ("typeend", "code", "codeend") else None
    return None if protocol == "ip" else _FOLLOWS_PORT.get(name)
