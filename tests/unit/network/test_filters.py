"""Network filters in the kernel: frames sent on one side of a bridge, and what comes out on the other."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError
from guesthouse.model.nwfilter import Filter, Parameters, parse_filter
from guesthouse.model.nwfilter_fields import PROTOCOLS
from guesthouse.network import filters
from guesthouse.network.filter_rules import Abilities, protocol_rules
from guesthouse.services.standard_filters import standard_filters
from support.frames import ALL, GUEST, LIAR, OTHER, arp, back, cable, ether, icmp, ip, out, tcp, udp
from support.netns import in_netns, run

VALUES: Parameters = {
    "MAC": [GUEST],
    "IP": ["10.0.0.1", "10.0.0.3"],
    "GATEWAY_MAC": [OTHER],
    "DHCPSERVER": ["10.0.0.2"],
}
STANDARD = {name: parse_filter(xml) for name, xml in standard_filters().items()}


# a bridge's configuration: flags, root (priority, MAC, cost), sender, port, and four times
BPDU = bytes.fromhex("00000000 81 8001 525400aabbcc 00000007 9000 525400ddeeff 8002 0100 1400 0200 0f00")


def made(content: str, head: str = "") -> Filter:
    return parse_filter(f"<filter name='test' {head}>{content}</filter>")


def give(found: Filter, values: Parameters = VALUES) -> None:
    filters.install("t0", filters.compile_filter(found, values, STANDARD.__getitem__))


CLEAN_OUT: list[tuple[str, bytes, bool]] = [
    ("honest ARP", arp(), True),
    ("ARP for its second address", arp(spa="10.0.0.3"), True),
    ("ARP with another's MAC", arp(2, sha=LIAR), False),
    ("ARP with another's address", arp(2, spa="10.0.0.99"), False),
    ("ARP from another's MAC", arp(source=LIAR), False),
    ("honest UDP", out(udp(1, 2)), True),
    ("honest ping", out(icmp(8)), True),
    ("its second address", out(udp(1, 2, "10.0.0.3")), True),
    ("another's address", out(udp(1, 2, "10.0.0.99")), False),
    ("another's MAC", out(udp(1, 2), LIAR), False),
    ("a request for an address", out(udp(68, 67, "0.0.0.0", "255.255.255.255"), GUEST, ALL), True),
    ("no address, and no UDP", out(tcp(1, 2, 2, "0.0.0.0")), False),
    ("IPv6", out(udp(1, 2, "fd00::1", "fd00::2")), False),
    ("IPv4 with a VLAN tag", ether(0x8100, b"\x00\x05\x08\x00" + udp(1, 2, "10.0.0.99")), False),
    ("QEMU's announcement", arp(3, spa="0.0.0.0", tpa="0.0.0.0", kind=0x8035), True),
    ("another's announcement", arp(3, sha=LIAR, spa="0.0.0.0", tpa="0.0.0.0", kind=0x8035), False),
    ("something else", ether(0x88CC, b"lldp"), False),
]
CLEAN_IN: list[tuple[str, bytes, bool]] = [
    ("ARP", arp(2, sha=OTHER, source=OTHER, spa="10.0.0.2"), True),
    ("UDP", back(udp(1, 2, "10.9.9.9", "10.0.0.1")), True),
    ("IPv6", back(udp(1, 2, "fd00::2", "fd00::1")), False),
]


@in_netns
def test_clean_traffic_stops_who_lies() -> None:
    with cable() as line:
        liars = [frame for _, frame, passes in CLEAN_OUT if not passes]
        assert all(line.passes(frame) for frame in liars), "without a filter everything passes"
        run("nft", "add table bridge somebody; add chain bridge somebody c; add rule bridge somebody c accept")
        before = run("nft", "list", "table", "bridge", "somebody")
        give(STANDARD["clean-traffic"])
        assert {name: line.passes(frame) for name, frame, _ in CLEAN_OUT} == {name: want for name, _, want in CLEAN_OUT}
        assert {name: line.passes(frame, "other") for name, frame, _ in CLEAN_IN} == {
            n: want for n, _, want in CLEAN_IN
        }
        # another filter in its place, at once; another tap's is its own; then none
        filters.install("t1", filters.compile_filter(STANDARD["clean-traffic"], VALUES, STANDARD.__getitem__))
        give(STANDARD["no-mac-spoofing"])
        assert line.passes(out(udp(1, 2, "10.0.0.99"))) and not line.passes(out(udp(1, 2), LIAR))
        filters.remove("t0")
        assert all(line.passes(frame) for frame in liars)
        rest = run("nft", "list", "table", "bridge", "guesthouse")
        assert '"t1"' in rest and "t0" not in rest
        filters.remove("t1")
        assert run("nft", "list", "chains", "bridge").count("chain ") == 5
        assert run("nft", "list", "table", "bridge", "somebody") == before


SYN, SYN_ACK, ACK = 2, 18, 16
SSH = """<rule action='accept' direction='in' priority='100'><tcp dstportstart='22' dstportend='23'/></rule>
<rule action='accept' direction='out' priority='100'><tcp srcipaddr='$IP' dstportstart='$PORTS[@1]'/></rule>
<rule action='accept' direction='in' priority='100'><icmp type='8'/></rule>
<rule action='accept' direction='out' priority='100'><icmp type='0'/></rule>
<rule action='accept' direction='inout' priority='100'><udp srcportstart='500' dstportstart='600'/></rule>
<rule action='drop' direction='inout' priority='900'><all/></rule>"""


@in_netns
def test_ports_and_answers() -> None:
    with cable() as line:
        give(made(SSH), {**VALUES, "PORTS": ["80", "443"]})
        them = ("10.0.0.2", "10.0.0.1")
        for name, frame, sender, want in [
            ("a connection to port 22", back(tcp(999, 22, SYN, *them)), "other", True),
            ("its answer", out(tcp(22, 999, SYN_ACK)), "guest", True),
            ("port 24", back(tcp(999, 24, SYN, *them)), "other", False),
            ("a new connection from port 22", out(tcp(22, 1000, SYN)), "guest", False),
            ("to a web server", out(tcp(1000, 443, SYN)), "guest", True),
            ("its answer", back(tcp(443, 1000, SYN_ACK, *them)), "other", True),
            ("a web server that calls", back(tcp(443, 1001, SYN, *them)), "other", False),
            ("to another port", out(tcp(1000, 81, SYN)), "guest", False),
            ("from an address that is not its own", out(tcp(1000, 443, SYN, "10.0.0.9")), "guest", False),
            ("a ping", back(icmp(8, 0, *them)), "other", True),
            ("its answer", out(icmp(0)), "guest", True),
            ("a ping from the guest", out(icmp(8)), "guest", False),
            # both ways are written as for what comes in: the packet that leaves has the ports the other way round
            ("UDP in", back(udp(500, 600, *them)), "other", True),
            ("UDP out", out(udp(600, 500)), "guest", True),
            ("UDP out, the wrong way round", out(udp(500, 600)), "guest", False),
            ("ARP is another stage's", arp(), "guest", True),
            ("IPv6 is not spoken of", out(udp(5, 6, "fd00::1", "fd00::2")), "guest", True),
        ]:
            assert line.passes(frame, sender) is want, name


STP = ether(38, b"\x42\x42\x03" + BPDU, GUEST, "01:80:c2:00:00:00")
VLAN = ether(0x8100, b"\x00\x05\x08\x06" + arp()[14:])
# content of a rule that drops the frame; one that does not
DROPS: list[tuple[bytes, str, str]] = [
    (VLAN, "<vlan vlanid='5'/>", "<vlan vlanid='6'/>"),
    (VLAN, "<vlan encap-protocol='arp'/>", "<vlan match='no' vlanid='5'/>"),
    (arp(), "<arp arpsrcipaddr='10.0.0.77' arpsrcipmask='24'/>", "<arp arpsrcipaddr='10.0.1.77' arpsrcipmask='24'/>"),
    (arp(), "<arp arpdstipaddr='10.0.0.2' opcode='Request'/>", "<arp arpdstipaddr='10.0.0.2' opcode='Reply'/>"),
    (arp(), f"<arp arpsrcmacaddr='{GUEST}' hwtype='1' protocoltype='0x800'/>", f"<arp arpdstmacaddr='{GUEST}'/>"),
    (arp(), f"<mac srcmacaddr='{GUEST}' srcmacmask='ff:ff:ff:00:00:00'/>", f"<mac match='no' srcmacaddr='{GUEST}'/>"),
    (
        out(udp(7, 8)),
        "<ip srcipaddr='10.0.0.9' srcipmask='28'/>",
        "<ip match='no' srcipaddr='10.0.0.9' srcipmask='28'/>",
    ),
    (out(udp(7, 8)), "<ip protocol='udp' dstportstart='8' dstportend='9'/>", "<ip protocol='tcp' dstportstart='8'/>"),
    (out(udp(7, 8, tos=8)), "<ip dscp='2'/>", "<ip dscp='3'/>"),
    (out(udp(7, 8, tos=8)), "<udp dscp='2' srcipfrom='10.0.0.1' srcipto='10.0.0.4'/>", "<udp dscp='0'/>"),
    (out(tcp(7, 8, SYN)), "<tcp flags='SYN,ACK/SYN'/>", "<tcp flags='ALL/NONE'/>"),
    (out(icmp(8, 3)), "<icmp type='8' code='3'/>", "<icmp type='8' code='4'/>"),
    (
        out(icmp(128, 0, "fd00::1", "fd00::2")),
        "<ipv6 protocol='icmpv6' type='127' typeend='129'/>",
        "<icmpv6 type='129'/>",
    ),
    (out(icmp(128, 0, "fd00::1", "fd00::2")), "<icmpv6 type='128'/>", "<icmp type='8'/>"),
    (out(udp(7, 8, "fd00::1", "fd00::2")), "<udp-ipv6 dstipaddr='fd00::' dstipmask='64'/>", "<udp/>"),
    (out(ip(136, b"12345678", "10.0.0.1", "10.0.0.2")), "<udplite/>", "<esp/>"),
    (out(ip(51, b"12345678", "10.0.0.1", "10.0.0.2")), "<ah/>", "<sctp/>"),
    (out(ip(2, b"12345678", "10.0.0.1", "10.0.0.2")), "<igmp/>", "<igmp match='no' srcipaddr='10.0.0.1'/>"),
    (out(ip(132, struct.pack("!HHII", 5, 6, 1, 1), "10.0.0.1", "10.0.0.2")), "<sctp dstportstart='6'/>", "<all-ipv6/>"),
    (arp(), "", "<rarp/>"),
    (STP, "<stp type='0' flags='0x81' root-priority='0x8001' root-cost='7'/>", "<stp flags='0x80'/>"),
    (STP, "<stp root-address='52:54:00:aa:bb:01' root-address-mask='ff:ff:ff:ff:ff:00'/>", "<stp root-cost='8'/>"),
    (STP, "<stp sender-priority='0x8000' sender-priority-hi='0x9000'/>", "<stp sender-address='52:54:00:aa:bb:cc'/>"),
    (STP, "<stp sender-address='52:54:00:dd:ee:ff' port='0x8002' age='256'/>", "<stp port='2'/>"),
    (
        STP,
        "<stp max-age='0x1400' hello-time='512' forward-delay='0xf00'/>",
        "<stp hello-time='513' hello-time-hi='515'/>",
    ),
]


@in_netns
def test_each_kind_of_rule_finds_its_packets() -> None:
    with cable() as line:
        for frame, hit, miss in DROPS:
            give(made(f"<rule action='drop' direction='out'>{miss}</rule>"))
            assert line.passes(frame), miss
            give(made(f"<rule action='drop' direction='out'>{hit}</rule>"))
            assert not line.passes(frame), hit


SAMPLES = {
    "srcmacmask": "ff:ff:ff:00:00:00",
    "dstmacmask": "ff:ff:00:00:00:00",
    "comment": "it's a test",
    "protocolid": "0x88cc",
    "encap-protocol": "ipv4",
    "opcode": "Reply",
    "protocol": "tcp",
    "flags": "SYN/ACK",
    "root-address-mask": "ff:ff:ff:ff:00:00",
    "sender-address-mask": "ff:00:00:00:00:00",
    "state": "NONE",
}


def sample(protocol: str, name: str) -> str:
    if name in ("flags", "type") and protocol == "stp":
        return "0x1"
    if name in SAMPLES:
        return SAMPLES[name]
    if name.endswith("mask"):
        return "9"
    if name.endswith("address") or "mac" in name:
        return GUEST
    if "ip" in name and name != "ipset":
        return "fd00::9" if "v6" in protocol else "10.0.0.9"
    return "9"


@in_netns
def test_the_kernel_takes_every_attribute() -> None:
    rules = []
    refused = {"gratuitous", "connlimit-above", "ipset", "ipsetflags"}
    for protocol, names in PROTOCOLS.items():
        for name in names.keys() - refused:
            needs = {"protocol": "tcp"} if protocol in ("ip", "ipv6") and "port" in name else {}
            if name.endswith(("mask", "-hi")) and name != "srcmacmask":
                leader = name.removesuffix("-hi").removesuffix("-mask")
                leader = leader.removesuffix("mask") + "addr" if leader.endswith("mask") else leader
                needs[leader] = sample(protocol, leader)
            for end, start in (("to", "from"), ("end", "start"), ("typeend", "type"), ("codeend", "code")):
                if name.endswith(end) and name.removesuffix(end) + start in names:
                    needs[name.removesuffix(end) + start] = sample(protocol, name.removesuffix(end) + start)
            texts = {**needs, name: sample(protocol, name)}
            words = " ".join(f'{key}="{value}"' for key, value in texts.items())
            for match in ("yes", "no"):
                for direction in ("in", "out", "inout"):
                    rules.append(
                        f"<rule action='drop' direction='{direction}'><{protocol} match='{match}' {words}/></rule>"
                    )
    assert len(rules) > 1000
    filters.check(filters.compile_filter(made("".join(rules)), VALUES, STANDARD.__getitem__))
    for name, found in STANDARD.items():
        values = {**VALUES, "IPV6": ["fd00::1"], **({"DHCPSERVER": ["fd00::2"]} if "v6" in name else {})}
        filters.check(filters.compile_filter(found, values, STANDARD.__getitem__))
    filters.check(filters.dhcp_only(GUEST, ["10.0.0.2"]))


def texts(content: str, direction: str, able: Abilities) -> list[str]:
    rule = made(content).entries[0]
    assert not hasattr(rule, "filter")
    return protocol_rules(rule, {name: item.value for name, item in rule.items.items()}, direction, able)


def test_connections_where_the_kernel_follows_them() -> None:
    follows, blind = Abilities(conntrack=True, reject=True), Abilities(conntrack=False, reject=False)
    accept = "<rule action='accept' direction='in'><udp dstportstart='53'/></rule>"
    base = "ether type 0x0800 meta l4proto 17"
    assert texts(accept, "in", follows) == [
        f"{base} th dport == 53 ct state {{ new, established }} ct direction original accept"
    ]
    assert texts(accept, "out", follows) == [f"{base} th sport == 53 ct state established ct direction reply accept"]
    with pytest.raises(ConfigUnsupported, match="does not track connections over bridges"):
        texts(accept, "in", blind)
    stateless = accept.replace("'in'", "'in' statematch='false'")
    assert texts(stateless, "out", blind) == [f"{base} th sport == 53 accept"]
    new = "<rule action='accept' direction='out'><tcp state='NEW,RELATED'/></rule>"
    assert texts(new, "in", follows) == []
    assert texts(new, "out", follows) == ["ether type 0x0800 meta l4proto 6 ct state { new, related } accept"]
    reject = "<rule action='reject' direction='inout'><all/></rule>"
    assert [texts(reject, way, follows) for way in ("out", "in")] == [
        ["ether type 0x0800 reject"],
        ["ether type 0x0800 drop"],
    ]
    assert texts(reject, "out", blind) == ["ether type 0x0800 drop"]
    for bad in ("<tcp connlimit-above='3'/>", "<all ipset='a' ipsetflags='src'/>"):
        with pytest.raises(ConfigUnsupported):
            texts(f"<rule action='drop' direction='in'>{bad}</rule>", "in", follows)


def lines_of(content: str, values: Parameters, find: Callable[[str], Filter] = STANDARD.__getitem__) -> list[str]:
    plan = filters.compile_filter(made(content), values, find)
    return [line for chains in plan.chains.values() for chain in chains for line in chain]


def test_variables() -> None:
    def rule(match: str) -> str:
        return f"<rule action='drop' direction='out'><mac {match}/></rule>"

    macs: Parameters = {"A": [GUEST, OTHER], "B": [ALL, LIAR], "ONE": [OTHER]}
    assert lines_of(rule("srcmacaddr='$A'"), macs) == [f"ether saddr == {GUEST} drop", f"ether saddr == {OTHER} drop"]
    # the same iterator: side by side; different ones: each with each; an index: that one alone
    assert len(lines_of(rule("srcmacaddr='$A' dstmacaddr='$B'"), macs)) == 2
    assert len(lines_of(rule("srcmacaddr='$A[@1]' dstmacaddr='$B[@2]'"), macs)) == 4
    assert lines_of(rule("srcmacaddr='$A[1]' dstmacaddr='$B[0]'"), macs) == [
        f"ether saddr == {OTHER} ether daddr == {ALL} drop"
    ]
    with pytest.raises(InternalError, match="Cardinality of list items must be the same"):
        lines_of(rule("srcmacaddr='$A' dstmacaddr='$ONE'"), macs)
    with pytest.raises(InternalError, match=r"unavailable list elements: A\[2\], C\[@3\]$"):
        lines_of(rule("srcmacaddr='$A[2]' dstmacaddr='$C[@3]'"), macs)
    with pytest.raises(
        InternalError, match=r"the value '10\.0\.0\.1' of the variable IP does not fit the attribute 'srcmacaddr'"
    ):
        lines_of(rule("srcmacaddr='$IP'"), VALUES)
    # what an include gives counts unless the interface gives it too
    source = rule("srcmacaddr='$A'")
    other = parse_filter(f"<filter name='other'>{source}</filter>")
    include = f"<filterref filter='other'><parameter name='A' value='{LIAR}'/></filterref>"
    assert lines_of(include, {}, lambda name: other) == [f"ether saddr == {LIAR} drop"]
    assert len(lines_of(include, macs, lambda name: other)) == 2


def test_order_of_chains_and_rules() -> None:
    content = "".join(
        f"<rule action='return' direction='out' priority='{priority}'><mac protocolid='{0x1000 + number}'/></rule>"
        for number, priority in enumerate((500, -700, -710, 500))
    )
    both = {
        "chain": made("<rule action='drop' direction='out'/>", "chain='ipv4-x'"),
        "late": made("<rule action='drop' direction='out'/>", "chain='arp' priority='600'"),
    }
    plan = filters.compile_filter(
        made(content + "<filterref filter='late'/><filterref filter='chain'/>"), {}, both.__getitem__
    )
    first, *others = plan.chains["out", "link"]
    assert first == [
        "ether type == 4098 return",
        "ether type 0x0800 jump {1}",
        "ether type == 4097 return",
        "ether type == 4096 return",
        "ether type == 4099 return",
        "ether type 0x0806 jump {2}",
    ]
    assert others == [["drop"], ["drop"]]


@in_netns
def test_a_refused_change_leaves_what_was() -> None:
    with cable() as line:
        give(STANDARD["no-mac-spoofing"])
        before = run("nft", "list", "ruleset")
        with pytest.raises(GuesthouseError, match="Failed to apply firewall rules with nft"):
            filters.install("t0", filters.Plan({("out", "link"): [["drop", "nonsense"]]}))
        assert run("nft", "list", "ruleset") == before
        assert not line.passes(out(udp(1, 2), LIAR)) and line.passes(out(udp(1, 2)))
