"""<network>: the reference documents come out as libvirt writes them; what is wrong is refused; bridges get names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, InternalError, UnknownError, XMLDetail, XMLError
from guesthouse.model.network import Network
from guesthouse.model.network_rules import complete, parse
from support.reference import REFERENCE, needs_reference


def cases() -> list[tuple[Path, Path]]:
    base = REFERENCE / "xml/network"
    if not base.exists():
        return []
    found = json.loads((base / "cases.json").read_text())["cases"]
    return [(base / case["xml"], base / case["out"]) for case in found if "out" in case]


@needs_reference
@pytest.mark.parametrize(("given", "wanted"), cases(), ids=lambda p: p.name)
def test_comes_out_as_libvirt_writes_it(given: Path, wanted: Path) -> None:
    network = parse(given.read_text())
    assert network.to_xml().strip() == wanted.read_text().strip()
    assert parse(network.to_xml()) == network


def made(rest: str = "", *, mode: str = "nat") -> str:
    forward = f"<forward mode='{mode}'/>" if mode else ""
    return f"<network><name>n</name>{forward}{rest}</network>"


IP = "<ip address='192.168.5.1' netmask='255.255.255.0'>{}</ip>"
FREE = frozenset[str]()


def test_defaults_and_what_is_not_declared() -> None:
    network = parse(made(IP.format("") + "<tea kind='green'>hot</tea>"))
    complete(network, lambda name: name == "virbr0", frozenset({"virbr1"}))
    assert network.uuid and network.bridge_name == "virbr2"
    assert network.mac is not None and (network.mac.address or "").startswith("52:54:00:")
    xml = network.to_xml()
    assert "<bridge name='virbr2' stp='on' delay='0'/>" in xml and "<tea kind='green'>hot</tea>" in xml
    assert parse(xml) == network


def test_a_bridge_keeps_the_name_that_it_was_given() -> None:
    network = parse(made("<bridge name='br-mine'/>", mode=""))
    complete(network, lambda name: True, FREE)
    assert network.bridge_name == "br-mine"
    with pytest.raises(InternalError, match="bridge name 'br-mine' already in use"):
        complete(network, lambda name: False, frozenset({"br-mine"}))


def test_names_after_a_pattern() -> None:
    network = parse(made("<bridge name='lab%d'/>", mode=""))
    complete(network, lambda name: name == "lab0", FREE)
    assert network.bridge_name == "lab1"


def test_names_come_to_an_end() -> None:
    with pytest.raises(InternalError, match="Bridge generation exceeded max id"):
        complete(parse(made(mode="")), lambda name: True, FREE)


@pytest.mark.parametrize(
    ("xml", "error", "words"),
    [
        ("<network", XMLDetail, "(network_definition):1"),
        ("<network/>", UnknownError, "missing name information"),
        ("<network><name>a/b</name></network>", XMLDetail, "invalid char in name: /"),
        (made(), XMLError, "nat forwarding requested, but no IP address provided for network 'n'"),
        (made("<mac address='53:54:00:00:00:01'/>", mode=""), XMLError, "multicast bridge mac address"),
        (made("<ip address='nowhere' netmask='255.0.0.0'/>"), GuesthouseError, "nowhere"),
        (made("<ip address='10.0.0.1' netmask='255.0.0.0' prefix='8'/>"), ConfigUnsupported, "both a prefix and"),
        (made("<ip address='10.0.0.1' prefix='40'/>"), ConfigUnsupported, "Invalid IPv4 prefix '40'"),
        (made("<ip family='ipv6' address='10.0.0.1' prefix='8'/>"), ConfigUnsupported, "non-IPv6 address '10.0.0.1'"),
        (
            made(IP.format("<dhcp><range start='192.168.6.2' end='192.168.6.9'/></dhcp>")),
            InternalError,
            "range 192.168.6.2 - 192.168.6.9 is not entirely within network 192.168.5.1/24",
        ),
        (
            made(IP.format("<dhcp><range start='192.168.5.9' end='192.168.5.2'/></dhcp>")),
            InternalError,
            "range 192.168.5.9 - 192.168.5.2 is reversed",
        ),
        (
            made(IP.format("<dhcp><range start='192.168.5.9' end='192.168.5.255'/></dhcp>")),
            InternalError,
            "is the broadcast address",
        ),
        (made(IP.format("<dhcp><range start='192.168.5.9'/></dhcp>")), XMLError, "Missing 'end' attribute"),
        (made("<bridge stp='on'/>", mode="bridge"), XMLError, "bridge delay/stp/zone options only allowed"),
        (made("<mtu size='9000'/>", mode="bridge"), XMLError, "mtu size only allowed in open"),
        (made("<portgroup/>", mode=""), XMLError, "Missing required name attribute in portgroup"),
        (made("<dns><forwarder/></dns>", mode=""), XMLError, "must contain at least one of addr or domain"),
        (made("<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>", mode=""), XMLError, "trunk='yes' is required"),
    ],
)
def test_what_is_wrong_is_refused(xml: str, error: type[GuesthouseError], words: str) -> None:
    with pytest.raises(error) as caught:
        parse(xml)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (made(IP.format(""), mode="bridge"), "Unsupported <ip> element in network n with forward mode='bridge'"),
        (made("<vlan><tag id='1'/></vlan>", mode=""), "doesn't support vlan configuration"),
        (made("<portgroup name='a'/><portgroup name='a'/>", mode=""), "multiple <portgroup> elements with the same"),
        (
            made("<portgroup name='a' default='yes'/><portgroup name='b' default='yes'/>", mode=""),
            "multiple default <portgroup> elements (a and b)",
        ),
        (
            made(
                IP.format("<dhcp><range start='192.168.5.2' end='192.168.5.9'/></dhcp>")
                + IP.format("<dhcp><range start='192.168.5.12' end='192.168.5.19'/></dhcp>")
            ),
            "Multiple IPv4 dhcp sections found",
        ),
    ],
)
def test_what_only_the_whole_shows_is_refused(xml: str, words: str) -> None:
    network: Network = parse(xml)
    with pytest.raises(ConfigUnsupported) as caught:
        complete(network, lambda name: False, FREE)
    assert words in str(caught.value)
