"""The filters that every host has from the start, under libvirt's names, so that guests that use them run anywhere.

Each is what its name promises. "return" hands a packet on to what comes next, "accept" lets it through for good. Their
variables: MAC is the card's; IP (and IPV6) the addresses that a guest may use, DHCPSERVER and GATEWAY_MAC whom it may
hear.
"""

from __future__ import annotations

_DHCP = """
<rule action='accept' direction='out' priority='100'>
  <ip srcipaddr='0.0.0.0' dstipaddr='255.255.255.255' protocol='udp' srcportstart='68' dstportstart='67'/>
</rule>
<rule action='accept' direction='in' priority='100'>
  <ip {server}protocol='udp' srcportstart='67' dstportstart='68'/>
</rule>
"""
_DHCPV6 = """
<rule action='accept' direction='out' priority='100'>
  <ipv6 srcipaddr='fe80::' srcipmask='10' dstipaddr='ff02::1:2' protocol='udp' srcportstart='546' dstportstart='547'/>
</rule>
<rule action='accept' direction='in' priority='100'>
  <ipv6 {server}protocol='udp' srcportstart='547' dstportstart='546'/>
</rule>
"""
_SERVER = "srcipaddr='$DHCPSERVER' "
_EVERYTHING = "<rule action='accept' direction='inout'/>"
_INCOMING = "<rule action='accept' direction='in'/>"
_ALL_ARP = "<rule action='accept' direction='inout' priority='-500'><mac protocolid='arp'/></rule>"


def _include(*names: str) -> str:
    return "".join(f"<filterref filter='{name}'/>" for name in names)


def _only(match: str, priority: int) -> str:
    """Hand on what leaves and fits ``match``, drop the rest."""
    first = f"<rule action='return' direction='out' priority='{priority}'>{match}</rule>"
    return f"{first}<rule action='drop' direction='out' priority='1000'/>"


def _drop_to(match: str) -> str:
    return f"<rule action='drop' direction='out'>{match}</rule>"


def _announcement(direction: str, source: str) -> str:
    """The RARP packet by which QEMU says where a guest is now."""
    addresses = "arpsrcmacaddr='$MAC' arpdstmacaddr='$MAC' arpsrcipaddr='0.0.0.0' arpdstipaddr='0.0.0.0'"
    match = f"<rarp {source}dstmacaddr='ff:ff:ff:ff:ff:ff' opcode='Request_Reverse' {addresses}/>"
    return f"<rule action='accept' direction='{direction}'>{match}</rule>"


#: Attributes and content of each, by name.
_FILTERS: dict[str, tuple[str, str]] = {
    "allow-arp": ("chain='arp'", _EVERYTHING),
    "allow-dhcp": ("chain='ipv4'", _DHCP.format(server="")),
    "allow-dhcp-server": ("chain='ipv4'", _DHCP.format(server=_SERVER)),
    "allow-dhcpv6": ("chain='ipv6'", _DHCPV6.format(server="")),
    "allow-dhcpv6-server": ("chain='ipv6'", _DHCPV6.format(server=_SERVER)),
    "allow-incoming-ipv4": ("chain='ipv4'", _INCOMING),
    "allow-incoming-ipv6": ("chain='ipv6'", _INCOMING),
    "allow-ipv4": ("chain='ipv4'", _EVERYTHING),
    "allow-ipv6": ("chain='ipv6'", _EVERYTHING),
    "clean-traffic": (
        "chain='root'",
        _include("no-mac-spoofing", "no-ip-spoofing")
        + "<rule action='accept' direction='out' priority='-650'><mac protocolid='ipv4'/></rule>"
        + _include("allow-incoming-ipv4", "no-arp-spoofing")
        + _ALL_ARP
        + _include("no-other-l2-traffic", "qemu-announce-self"),
    ),
    "clean-traffic-gateway": (
        "chain='root'",
        _include("no-mac-spoofing", "no-ip-spoofing", "no-arp-spoofing")
        + _ALL_ARP
        + "<rule action='accept' direction='in'><mac srcmacaddr='$GATEWAY_MAC'/></rule>"
        + "<rule action='accept' direction='out'><mac dstmacaddr='$GATEWAY_MAC'/></rule>"
        + _include("no-other-l2-traffic", "qemu-announce-self"),
    ),
    "no-arp-ip-spoofing": ("chain='arp-ip' priority='-510'", _only("<arp arpsrcipaddr='$IP'/>", 400)),
    "no-arp-mac-spoofing": ("chain='arp-mac' priority='-520'", _only("<arp arpsrcmacaddr='$MAC'/>", 350)),
    "no-arp-spoofing": ("chain='root'", _include("no-arp-mac-spoofing", "no-arp-ip-spoofing")),
    "no-ip-multicast": ("chain='ipv4'", _drop_to("<ip dstipaddr='224.0.0.0' dstipmask='4'/>")),
    # a guest that asks for its address has none yet
    "no-ip-spoofing": (
        "chain='ipv4-ip' priority='-710'",
        "<rule action='return' direction='out' priority='100'><ip srcipaddr='0.0.0.0' protocol='udp'/></rule>"
        + _only("<ip srcipaddr='$IP'/>", 500),
    ),
    "no-ipv6-multicast": ("chain='ipv6'", _drop_to("<ipv6 dstipaddr='ff00::' dstipmask='8'/>")),
    "no-ipv6-spoofing": (
        "chain='ipv6-ip' priority='-610'",
        "<rule action='return' direction='out' priority='100'>"
        "<ipv6 srcipaddr='fe80::' srcipmask='10' protocol='udp'/></rule>" + _only("<ipv6 srcipaddr='$IPV6'/>", 500),
    ),
    "no-mac-broadcast": ("chain='ipv4'", _drop_to("<mac dstmacaddr='ff:ff:ff:ff:ff:ff'/>")),
    "no-mac-spoofing": (
        "chain='mac' priority='-800'",
        "<rule action='return' direction='out'><mac srcmacaddr='$MAC'/></rule>" + _drop_to("<mac/>"),
    ),
    "no-other-l2-traffic": ("chain='root'", "<rule action='drop' direction='inout' priority='1000'/>"),
    "no-other-rarp-traffic": ("chain='rarp'", "<rule action='drop' direction='inout' priority='1000'/>"),
    # old QEMUs sent their announcement with a type of its own
    "qemu-announce-self": (
        "chain='root'",
        "<rule action='accept' direction='out'><mac protocolid='0x835'/></rule>"
        + _include("qemu-announce-self-rarp", "no-other-rarp-traffic"),
    ),
    "qemu-announce-self-rarp": (
        "chain='rarp'",
        _announcement("out", "srcmacaddr='$MAC' ") + _announcement("in", ""),
    ),
}


def standard_filters() -> dict[str, str]:
    """Their documents, without UUIDs, by name; those that others include come first."""
    return {name: f"<filter name='{name}' {head}>{content}</filter>" for name, (head, content) in _FILTERS.items()}
