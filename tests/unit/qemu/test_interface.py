"""A card's QEMU side: what it is given, and what it is refused for."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree

from guesthouse.errors import ConfigUnsupported
from guesthouse.model.devices.interface import Interface
from guesthouse.model.domain import Domain
from guesthouse.qemu.devices.interface import CardEnd, interface

PLACE = "<address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/>"


def built(parts: str, *, type: str = "bridge") -> tuple[dict[str, Any], dict[str, Any]]:
    text = (
        f"<interface type='{type}'><mac address='52:54:00:00:00:01'/><model type='virtio'/>{parts}{PLACE}</interface>"
    )
    end = CardEnd([7] if type == "bridge" else [])
    made = interface(Domain(name="g"), Interface.parse(etree.fromstring(text)), None, end)
    return made.netdevs[0], made.devices[0]


def test_offloads_as_libvirt_gives_them() -> None:
    """libvirt 9.0's own argument for these, from a guest that it started."""
    _, card = built(
        "<driver><host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off' mrg_rxbuf='off'/>"
        "<guest csum='off' tso4='on' tso6='off' ecn='off' ufo='off'/></driver>"
    )
    wanted = dict.fromkeys(("csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf"), False)
    wanted |= {"guest_csum": False, "guest_tso4": True, "guest_tso6": False, "guest_ecn": False, "guest_ufo": False}
    assert {name: card[name] for name in wanted} == wanted
    assert not wanted.keys() & built("")[1].keys()


def test_addresses_of_qemus_own_network() -> None:
    backend, _ = built(
        "<ip family='ipv4' address='172.17.2.0' prefix='24'/><ip family='ipv6' address='2001:db8::' prefix='64'/>",
        type="user",
    )
    assert (backend["net"], backend["ipv6-prefix"], backend["ipv6-prefixlen"]) == ("172.17.2.0/24", "2001:db8::", 64)


@pytest.mark.parametrize(
    ("parts", "type", "words"),
    [
        ("<vlan><tag id='4'/></vlan>", "bridge", "vlan tag not supported for this connection type"),
        ("<script path='/x'/>", "bridge", "scripts are not supported on interfaces of type bridge"),
        ("<filterref filter='clean-traffic'/>", "user", "not supported for network interfaces of type user"),
        ("<guest dev='eth9'/>", "bridge", "<guest> of interface"),
        ("<coalesce><rx><frames max='3'/></rx></coalesce>", "user", "coalesce settings on interface type user are not"),
        ("<mtu size='1400'/>", "user", "setting MTU on interface type user is not supported yet"),
        ("<port isolated='yes'/>", "direct", "is not supported for network interfaces with type='direct'"),
        (
            "<target dev='x' managed='no'/>",
            "bridge",
            "unmanaged target dev is not supported on interfaces of type 'bri",
        ),
        ("<teaming type='transient'/>", "bridge", "must be type='hostdev', not 'bridge'"),
        ("<driver queues='2'/>", "user", "multiqueue is not supported for network interfaces of type user"),
        ("<driver speed='9'/>", "bridge", "attribute 'speed' of interface"),
        ("<backend tap='/dev/tap9'/>", "bridge", "<backend> of interface"),
        ("<ip family='ipv4' address='172.17.2.0'/>", "bridge", "guest-side IP route and/or address info"),
    ],
)
def test_refused_by_name(parts: str, type: str, words: str) -> None:
    with pytest.raises(ConfigUnsupported) as caught:
        built(parts, type=type)
    assert words in str(caught.value)
