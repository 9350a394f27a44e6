"""Where screens listen that do not say, or not in full."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guesthouse.errors import GuesthouseError
from guesthouse.model.domain import Domain
from guesthouse.model.network import Network
from guesthouse.services import screens
from guesthouse.services.context import Config
from guesthouse.services.guests import Guest
from support.domains import define
from support.netns import in_netns, run

FOLDER = Path("/run/x/domain-1-g")
UUID = "53764d0e-85a0-42b4-af5c-2046b460b1dc"


def guest(*displays: str) -> Domain:
    return define(
        "<domain type='qemu'><name>g</name><memory>1048576</memory><os><type machine='pc'>hvm</type></os>"
        f"<devices>{''.join(displays)}</devices></domain>"
    )


def networks(**known: str) -> Any:
    return SimpleNamespace(by_name=lambda name: SimpleNamespace(current=Network.from_xml(known[name])))


def chosen(*displays: str, config: Config | None = None, others: Any = (), known: Any = None) -> list[str]:
    live = guest(*displays)
    screens.choose(live, FOLDER, config or Config(), known or networks(), others)
    return [line.strip() for line in live.to_xml().splitlines() if "<graphics" in line or "<listen" in line]


@in_netns
def test_ports_that_are_free() -> None:
    other = Guest("other", UUID)
    other.live = guest("<graphics type='vnc' port='5901'/>", "<graphics type='spice' port='5903' tlsPort='5904'/>")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 5900))
        held.listen()
        vnc, _, spice, _ = chosen(
            "<graphics type='vnc' websocket='-1'/>",
            "<graphics type='spice' autoport='yes'/>",
            others=[other],
            config=Config(),
        )
    assert "port='5902' autoport='yes' websocket='5700' listen='127.0.0.1'" in vnc
    assert "port='5905' autoport='yes'" in spice and "tlsPort" not in spice


@in_netns
@pytest.mark.parametrize(
    ("spice", "tls", "wanted"),
    [
        ("<graphics type='spice' autoport='yes'/>", True, (5900, 5901)),
        ("<graphics type='spice' autoport='yes'/>", False, (5900, None)),
        ("<graphics type='spice' autoport='yes' defaultMode='secure'/>", True, (None, 5900)),
        (
            "<graphics type='spice' autoport='yes' defaultMode='insecure'><channel name='main' mode='secure'/></graphics>",
            True,
            (5900, 5901),
        ),
        ("<graphics type='spice' autoport='yes' defaultMode='insecure'/>", True, (5900, None)),
        (
            "<graphics type='spice' autoport='yes' defaultMode='secure'/>",
            False,
            "Auto allocation of spice TLS port requested but spice TLS is",
        ),
    ],
)
def test_which_ports_spice_gets(spice: str, tls: bool, wanted: Any) -> None:
    live = guest(spice)
    if isinstance(wanted, str):
        with pytest.raises(GuesthouseError, match=wanted):
            screens.choose(live, FOLDER, Config(spice_tls=tls), networks(), [])
        return
    screens.choose(live, FOLDER, Config(spice_tls=tls), networks(), [])
    assert (live.dev.graphics[0].port, live.dev.graphics[0].tls_port) == wanted


@in_netns
def test_addresses_and_sockets() -> None:
    run("ip", "link", "add", "br7", "type", "bridge")
    run("ip", "address", "add", "192.0.2.7/24", "dev", "br7")
    known = networks(
        nat="<network><name>nat</name><forward mode='nat'/><ip address='127.0.0.9' netmask='255.255.255.0'/></network>",
        bridge="<network><name>bridge</name><forward mode='bridge'/><bridge name='br7'/></network>",
        bare="<network><name>bare</name></network>",
        empty="<network><name>empty</name><forward mode='vepa'/></network>",
    )

    def listening(name: str) -> list[str]:
        return chosen(f"<graphics type='vnc'><listen type='network' network='{name}'/></graphics>", known=known)

    assert "port='5900' autoport='yes' listen='127.0.0.9'" in listening("nat")[0]
    assert "<listen type='network' address='192.0.2.7' network='bridge'/>" in listening("bridge")[1]
    for name, words in (
        ("bare", "network 'bare' doesn't have an IP address"),
        ("empty", "network 'empty' has no associated interface or bridge"),
    ):
        with pytest.raises(GuesthouseError, match=words):
            listening(name)
    both = Config(vnc_auto_unix_socket=True, spice_auto_unix_socket=True)
    plain = (
        "<graphics type='vnc'/>",
        "<graphics type='spice' autoport='yes'/>",
        "<graphics type='vnc' port='5999' listen='0.0.0.0'/>",
    )
    found = chosen(*plain, config=both)
    assert found[0] == f"<graphics type='vnc' socket='{FOLDER}/vnc.sock'>"
    assert found[1] == f"<listen type='socket' socket='{FOLDER}/vnc.sock'/>"
    assert found[2:4] == ["<graphics type='spice'>", f"<listen type='socket' socket='{FOLDER}/spice.sock'/>"]
    assert "port='5999' autoport='no' listen='0.0.0.0'" in found[4]


def test_what_a_command_line_shows_that_nothing_is_started_with() -> None:
    live = guest("<graphics type='vnc'/>", "<graphics type='spice' autoport='yes' defaultMode='secure'/>")
    screens.choose(live, FOLDER, Config(), networks(), None)
    assert [(screen.port, screen.tls_port) for screen in live.dev.graphics] == [(5900, None), (None, 5902)]
