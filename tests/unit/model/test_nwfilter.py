"""<filter> and <filterbinding>: what libvirt makes of them, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lxml import etree

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, InvalidArg, XMLDetail, XMLError
from guesthouse.model.devices.interface import Interface
from guesthouse.model.nwfilter import Include, Rule, parse_binding, parse_filter
from guesthouse.services.standard_filters import standard_filters
from support.reference import REFERENCE, needs_reference

SCHEMAS = Path("/usr/share/libvirt/schemas")


def cases() -> list[Path]:
    base = REFERENCE / "xml/nwfilter"
    found = json.loads((base / "cases.json").read_text())["cases"] if base.exists() else []
    return [base / case["xml"] for case in found]


@needs_reference
@pytest.mark.parametrize("file", cases(), ids=lambda file: file.name)
def test_reference_documents_come_out_as_libvirts(file: Path) -> None:
    text = file.read_text()
    # libvirt refuses a document with a value that cannot be; what it has made of it by then leaves the value out
    found = parse_filter(text, lenient=True)
    assert found.to_xml() == file.with_suffix(".out.xml").read_text()
    assert parse_filter(found.to_xml()) == found
    if "invalid" in file.name:
        with pytest.raises(InternalError, match="has illegal value"):
            parse_filter(text)
    else:
        assert parse_filter(text) == found


def schema_says(name: str, xml: str) -> str:
    schema = etree.RelaxNG(etree.parse(SCHEMAS / f"{name}.rng"))
    return "" if schema.validate(etree.fromstring(xml)) else str(schema.error_log)


def rule(content: str, head: str = "action='accept' direction='in'") -> str:
    return f"<filter name='t'><rule {head}>{content}</rule></filter>"


BINDING = """<filterbinding>
  <owner>
    <name>vm</name>
    <uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid>
  </owner>
  <portdev name='vnet0'/>
  <linkdev name='eth0'/>
  <mac address='52:54:00:7b:35:93'/>
  <filterref filter='clean-traffic'>
    <parameter name='A' value='1'/>
    <parameter name='IP' value='10.0.0.2'/>
    <parameter name='IP' value='10.0.0.1'/>
  </filterref>
</filterbinding>
"""


@pytest.mark.skipif(not SCHEMAS.exists(), reason="libvirt's schemas are not installed")
def test_documents_fit_libvirts_schemas() -> None:
    for name, xml in standard_filters().items():
        assert not schema_says("nwfilter", parse_filter(xml).to_xml()), name
    assert not schema_says("nwfilterbinding", parse_binding(BINDING).to_xml())


def test_bindings() -> None:
    found = parse_binding(
        BINDING.replace("<parameter name='A'", "<parameter name='bad-' value='1'/><parameter name='A'")
    )
    assert found.to_xml() == BINDING
    assert found.parameters == {"A": ["1"], "IP": ["10.0.0.2", "10.0.0.1"]}
    for old, new, text in [
        ("<portdev name='vnet0'/>", "", "filter binding has no port dev name"),
        ("<linkdev name='eth0'/>", "<linkdev/>", "filter binding has no link dev name"),
        ("<name>vm</name>", "", "filter binding has no owner name"),
        ("<uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid>", "", "filter binding has no owner UUID"),
        ("d54df46f", "zz", "Unable to parse UUID 'zz-1ab5-4a22-8618-4560ef5fac2c'"),
        ("<mac address='52:54:00:7b:35:93'/>", "", "filter binding has no MAC address"),
        ("52:54", "zz", "Unable to parse MAC 'zz:00:7b:35:93'"),
        ("filter='clean-traffic'", "", "filter binding has no filter reference"),
    ]:
        with pytest.raises(InternalError) as caught:
            parse_binding(BINDING.replace(old, new))
        assert caught.value.detail == text
    with pytest.raises(XMLError):
        parse_binding("<filter/>")


@pytest.mark.parametrize(
    ("given", "formatted"),
    [
        ("<tcp srcportstart='5' match='no' dstportstart='0x7' comment=\"it's &lt;&amp;\"/>",
         "<tcp match='no' srcportstart='5' dstportstart='0x7' comment='it&apos;s &lt;&amp;'/>"),
        # a port's negation is the first port's
        ("<tcp match='no' dstportstart='22'/>", "<tcp dstportstart='22'/>"),
        ("<icmp match='no' code='2'/>", "<icmp code='2'/>"),
        ("<tcp match='no' srcmacaddr='1:2:3:4:5:6'/><udp/><tcp srcportstart='5'/>",
         "<tcp match='no' srcmacaddr='01:02:03:04:05:06'/><tcp srcportstart='5'/>"),
        ("<tcp ipset='ab'/>", "<tcp ipset='ab' ipsetflags='src'/>"),
        ("<tcp connlimit-above='3' state='new, established' flags='SYN,ACK/ALL'/>",
         "<tcp connlimit-above='3' state='NEW,ESTABLISHED' flags='SYN,ACK/ALL'/>"),
        ("<tcp state='NONE,NEW' option='3' flags='ALL/NONE'/>", "<tcp state='NONE' option='3' flags='ALL/NONE'/>"),
        ("<tcp-ipv6 srcipaddr='2001:DB8:0::1' srcipmask='ffff::' srcipfrom='::1' srcipto='::10.0.0.1'/>",
         "<tcp-ipv6 srcipaddr='2001:db8::1' srcipmask='16' srcipfrom='::1' srcipto='::10.0.0.1'/>"),
        ("<arp opcode='reply' gratuitous='yes' arpsrcipaddr='1.2.3.4' arpsrcipmask='255.255.0.0'/>",
         "<arp opcode='Reply' arpsrcipaddr='1.2.3.4' arpsrcipmask='16' gratuitous='true'/>"),
        ("<tcp srcipaddr='$IP[1]' srcportstart='$P[@3]' dstportstart='$Q[ @0 ]'/>",
         "<tcp srcipaddr='$IP[1]' srcportstart='$P[@3]' dstportstart='$Q'/>"),
        ("<ip protocol='6' srcportstart='20'/>", "<ip protocol='tcp' srcportstart='20'/>"),
        ("<bogus/>", ""),
    ],
)  # fmt: skip
def test_rules_as_libvirt_writes_them(given: str, formatted: str) -> None:
    shown = parse_filter(rule(given)).to_xml()
    assert "".join(line.strip() for line in shown.splitlines()[3:-2]) == formatted


@pytest.mark.parametrize(
    "bad",
    ["<tcp connlimit-above='0x3'/>", "<tcp flags='FOO/ALL'/>", "<tcp flags='SYN'/>", "<tcp dscp='64'/>", "<tcp state='X'/>",
     "<tcp srcipaddr='10.0.0.300'/>", "<mac srcmacmask='ff:00:ff:00:00:00'/>", "<mac srcmacaddr='1:2:3'/>",
     "<all srcipaddr='2001:db8::1'/>", "<all-ipv6 srcipmask='129'/>", "<vlan vlanid='5000'/>", "<tcp ipset='bad name!'/>",
     "<tcp ipsetflags='src,up'/>", "<tcp srcportstart='$P [ @3 ]'/>", "<tcp srcportstart='$P[@2000]'/>", "<arp opcode='Ask'/>",
     "<mac protocolid='15'/>", "<all srcipmask='255.0.255.0'/>", "<icmp type='-1'/>"],
)  # fmt: skip
def test_values_that_cannot_be(bad: str) -> None:
    with pytest.raises(InternalError, match="has illegal value"):
        parse_filter(rule(bad))
    assert parse_filter(rule(bad), lenient=True)


@pytest.mark.parametrize(
    ("document", "kind", "text"),
    [
        ("<filter/>", InternalError, "filter has no name"),
        ("<foo/>", XMLError, "expecting root element of 'filter', not 'foo'"),
        ("<filter name='t'><uuid>zz</uuid></filter>", XMLError, "malformed uuid element"),
        ("<filter name='t' chain='foo'/>", InvalidArg, "Invalid chain name 'foo'. Please use a chain name called 'root' or"
         " any of the following prefixes: mac, vlan, stp, arp, rarp, ipv4, ipv6"),
        ("<filter name='t' chain='ipv4-verylongname'/>", InvalidArg, "Name of chain is longer than 12 characters"),
        ("<filter name='t' chain='ip v4'/>", InvalidArg, "Chain name contains invalid characters"),
        ("<filter name='t' chain='arp' priority='2000'/>", InvalidArg,
         "Priority '2000' is outside valid range of [-1000,1000]"),
        ("<filter name='t' chain='arp' priority='x'/>", InvalidArg, "Could not parse chain priority 'x'"),
        ("<filter name='t'><filterref/></filter>", InternalError, "rule node requires action attribute"),
        (rule("", "direction='in'"), InternalError, "rule node requires action attribute"),
        (rule("", "action='drop'"), InternalError, "rule node requires direction attribute"),
        (rule("", "action='foo' direction='in'"), ConfigUnsupported, "unknown rule action attribute value"),
        (rule("", "action='drop' direction='up'"), ConfigUnsupported, "unknown rule direction attribute value"),
        (rule("<ip protocol='icmp' srcportstart='2'/>"), InternalError, "IP rule with port specification requires protocol"
         " specification with protocol to be either one of tcp(6), udp(17), dccp(33), or sctp(132)"),
    ],
)  # fmt: skip
def test_refused_in_libvirts_words(document: str, kind: type[GuesthouseError], text: str) -> None:
    with pytest.raises(kind) as caught:
        parse_filter(document)
    assert caught.value.detail == text


def test_defaults() -> None:
    with pytest.raises(XMLDetail):
        parse_filter("")
    found = parse_filter(
        "<filter name='t' chain='ipv4-x'><rule action='drop' direction='out' priority='5000' statematch='0'/>"
        "<filterref filter='u'><parameter name='B' value='2'/><parameter name='A' value='1'/></filterref></filter>"
    )
    assert (found.chain, found.priority, found.uuid_given, len(found.uuid)) == ("ipv4-x", -700, False, 36)
    first, second = found.entries
    assert isinstance(first, Rule) and (first.priority, first.statematch) == (500, False)
    assert second == Include("u", {"B": ["2"], "A": ["1"]})
    assert [parse_filter(f"<filter name='t' chain='{c}'/>").priority for c in ("root", "stp", "mac", "rarp-z")] == [
        0,
        0,
        -800,
        -400,
    ]


def test_an_interfaces_filter() -> None:
    xml = "<interface type='bridge'><filterref filter='f'>{}</filterref></interface>"
    given = "".join(f"<parameter name='{n}' value='{v}'/>" for n, v in (("IP", "1"), ("IP", "2"), ("X", "3")))
    nic = Interface.from_xml(xml.format(given))
    assert nic.filterref is not None and nic.filterref.values == {"IP": ["1", "2"], "X": ["3"]}
    assert Interface.from_xml(nic.to_xml()) == nic
