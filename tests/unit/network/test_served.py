"""What a network would not have is named before anything is made; what its ports get of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from guesthouse.errors import ConfigUnsupported, GuesthouseError, OperationUnsupported, XMLDetail
from guesthouse.model.network_port import NetworkPort, settle
from guesthouse.model.network_port import parse as parse_port
from guesthouse.network import dnsmasq, served
from support.networks import document

IP = "<ip address='10.20.30.1' netmask='255.255.255.0'/>"
SLOW = "<portgroup name='slow'><bandwidth><inbound average='5'/></bandwidth></portgroup>"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("<bridge name='b0' zone='public'/>", "zone public requested for network net but firewalld is not active"),
        ("<tea/>", "<tea> of network 'net' is not supported"),
        ("<bridge name='b0' colour='red'/>", "attribute 'colour' of <bridge> of network 'net' is not supported"),
        ("<ip address='10.20.30.1' netmask='255.255.255.0'><dhcp><range start='10.20.30.2' end='10.20.30.9'>"
         "<tea/></range></dhcp></ip>", "<tea> of network 'net' is not supported"),
    ],
)  # fmt: skip
def test_refused_by_name(given: str, words: str) -> None:
    with pytest.raises(ConfigUnsupported) as caught:
        served.check(document(given))
    assert words in str(caught.value)


def test_not_refused() -> None:
    made = document("<title>t</title><metadata><a/></metadata><bridge name='b0' macTableManager='libvirt'/>", IP, SLOW)
    served.check(made)


def test_lines_for_dnsmasq() -> None:
    space = "xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'"
    options = f"<dnsmasq:options {space}><dnsmasq:option value='no-negcache'/></dnsmasq:options>"
    made = document("<bridge name='b0'/>", IP, options)
    served.check(made)
    files = dnsmasq.Files.of(Path("/state"), Path("/run"), made)
    assert dnsmasq.configuration(made, files).endswith("\nno-negcache\n")


def port(group: str | None = None, parts: str = "") -> NetworkPort:
    name = f"<group>{group}</group>" if group else ""
    uuid = "7ae53100-022b-49e0-9ca0-6e5d6ec2d301"
    owner = f"<owner><name>g</name><uuid>{uuid}</uuid></owner>"
    return parse_port(
        f"<networkport><uuid>{uuid}</uuid>{owner}{name}<mac address='52:54:00:00:00:01'/>{parts}</networkport>"
    )


def test_a_port_gets_what_its_group_and_network_say() -> None:
    default = "<portgroup name='fast' default='yes' trustGuestRxFilters='no'/>"
    made = document("<bridge name='b0'/>", "<port isolated='yes'/>", IP, default, SLOW)
    for group, average in ((None, None), ("slow", 5), ("nope", None)):
        one = port(group)
        settle(one, made)
        inbound = one.bandwidth.inbound if one.bandwidth else None
        assert (inbound.average if inbound else None) == average
        assert one.port is not None and one.port.isolated and one.plug is not None and one.plug.bridge == "b0"
        assert (one.rxfilters is not None) == (group is None)
    own = port("slow", "<bandwidth><outbound average='3'/></bandwidth><port isolated='no'/>")
    settle(own, made)
    assert own.bandwidth is not None and own.bandwidth.inbound is None
    assert own.port is not None and own.port.isolated is False


@pytest.mark.parametrize(
    ("parts", "network", "error", "words"),
    [
        ("<virtualport type='openvswitch'/>", "<bridge name='b0'/>", ConfigUnsupported, "which uses IP forwarding"),
        ("<virtualport type='openvswitch'/>", "<forward mode='bridge'/><bridge name='b0'/>", ConfigUnsupported, "yet"),
        ("<bandwidth><inbound floor='3'/></bandwidth>", "", OperationUnsupported, "has no inbound QoS set"),
        (
            "<bandwidth><inbound floor='3'/></bandwidth>",
            "<bandwidth><inbound average='9'/></bandwidth>",
            ConfigUnsupported,
            "'floor' in <bandwidth> of interface 52:54:00:00:00:01",
        ),
    ],
)
def test_what_a_port_cannot_have(parts: str, network: str, error: type[GuesthouseError], words: str) -> None:
    with pytest.raises(error) as caught:
        settle(port(parts=parts), document(network, IP if "forward" not in network else ""))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("bandwidth", "error", "words"),
    [
        ("<inbound/>", XMLDetail, "Missing mandatory average or floor attributes"),
        ("<outbound peak='3'/>", XMLDetail, "Missing mandatory average or floor attributes"),
        ("<inbound floor='3'/>", ConfigUnsupported, "floor attribute is not supported for this config"),
        ("<outbound average='3' floor='3'/>", ConfigUnsupported, "'floor' attribute allowed only in <inbound> element"),
    ],
)
def test_wrong_limits(bandwidth: str, error: type[GuesthouseError], words: str) -> None:
    for text in (
        f"<bandwidth>{bandwidth}</bandwidth>",
        f"<portgroup name='p'><bandwidth>{bandwidth}</bandwidth></portgroup>",
    ):
        with pytest.raises(error) as caught:
            document(text)
        assert words in str(caught.value)


def test_limits_that_limit_nothing_are_not_kept() -> None:
    assert document("<bandwidth/>").bandwidth is None
    assert document("<bandwidth><inbound average='0'/></bandwidth>").bandwidth is None
