from __future__ import annotations

import json
from typing import Any

import pytest

from guesthouse.errors import InternalError
from guesthouse.network import bridges, nat
from support.netns import Host, in_netns, run
from support.networks import document, network


def listed(*chain: str) -> str:
    what = ["chain", "inet", "guesthouse", *chain] if chain else ["ruleset"]
    return run("nft", "list", *what)


def rules(made: Any, chain: str) -> list[Any]:
    commands = [c["add"]["rule"] for c in nat.ruleset(made)["nftables"] if "rule" in c.get("add", {})]
    return [rule["expr"] for rule in commands if rule["chain"] == chain]


def test_an_isolated_network_has_no_nat_chain() -> None:
    made = network()
    assert '"hook": "postrouting"' not in json.dumps(nat.ruleset(made))
    assert len(rules(made, "forward_gh0")) == 3


@in_netns
def test_rules_of_a_nat_network() -> None:
    nat.install(network("<forward mode='nat'/>"))
    text = listed("forward_gh0")
    assert [line.strip() for line in text.splitlines()[3:-2]] == [
        'iifname "gh0" oifname "gh0" accept',
        'iifname "gh0" ip saddr 10.20.30.0/24 accept',
        'oifname "gh0" ip daddr 10.20.30.0/24 ct state established,related accept',
        'iifname "gh0" reject',
        'oifname "gh0" reject',
    ]
    text = listed("postrouting_gh0")
    assert [line.strip() for line in text.splitlines()[3:-2]] == [
        "ip saddr 10.20.30.0/24 ip daddr 224.0.0.0/24 return",
        "ip saddr 10.20.30.0/24 ip daddr 255.255.255.255 return",
        "ip saddr 10.20.30.0/24 ip daddr != 10.20.30.0/24 meta l4proto tcp masquerade to :1024-65535",
        "ip saddr 10.20.30.0/24 ip daddr != 10.20.30.0/24 meta l4proto udp masquerade to :1024-65535",
        "ip saddr 10.20.30.0/24 ip daddr != 10.20.30.0/24 masquerade",
    ]


@in_netns
def test_nat_with_device_ranges_and_ipv6() -> None:
    nat.install(
        document(
            "<forward mode='nat' dev='eth1'><nat ipv6='yes'><address start='192.0.2.5' end='192.0.2.9'/>"
            "<port start='2000' end='3000'/></nat></forward><bridge name='gh0'/>",
            "<ip address='10.20.30.1' prefix='24'/><ip family='ipv6' address='fd00::1' prefix='64'/>",
        )
    )
    text = listed()
    assert 'iifname "gh0" oifname "eth1" ip saddr 10.20.30.0/24 accept' in text
    assert "meta l4proto tcp snat ip to 192.0.2.5-192.0.2.9:2000-3000" in text
    assert 'oifname "eth1" ip6 saddr fd00::/64 ip6 daddr != fd00::/64 meta l4proto udp masquerade to :2000-3000' in text


@in_netns
def test_routed_and_open_networks() -> None:
    nat.install(network("<forward mode='open'/>"))
    assert listed() == ""
    nat.install(network("<forward mode='route'/>"))
    assert 'oifname "gh0" ip daddr 10.20.30.0/24 accept' in listed()
    assert "masquerade" not in listed()


@in_netns
def test_install_replaces_and_remove_touches_nothing_else() -> None:
    run("nft", "add table inet theirs; add chain inet theirs forward { type filter hook forward priority 0; }")
    theirs = listed()
    nat.install(network("<forward mode='nat'/>"))
    nat.install(network("<forward mode='nat'/>"))
    nat.install(network(bridge="gh1"))
    assert listed("forward_gh0").count("iifname") == 3
    nat.remove("gh0")
    assert "gh0" not in listed() and "gh1" in listed()
    nat.remove("gh1")
    nat.remove("gh1")
    assert theirs in listed()


@in_netns
def test_nfts_words_are_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nat, "_REJECT", {"nonsense": None})
    with pytest.raises(InternalError, match="Failed to apply firewall rules with nft: "):
        nat.install(network())
    assert "forward_gh0" not in listed()


def test_nft_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InternalError, match="install the package nftables"):
        nat.remove("gh0")


@pytest.mark.parametrize(("mode", "reaches"), [("nat", True), ("route", True), ("", False)])
def test_traffic_between_a_guest_and_the_world(mode: str, reaches: bool) -> None:
    check_traffic(mode, reaches)


@in_netns
def check_traffic(mode: str, reaches: bool) -> None:
    made = network(f"<forward mode='{mode}'/>" if mode else "")
    bridges.create(made)
    bridges.enable_forwarding(made)
    nat.install(made)
    with (
        Host("world", address="198.51.100.1/24") as server,
        Host("guest", bridge="gh0") as guest,
        Host("other", bridge="gh0") as other,
    ):
        server.run("ip", "address", "add", "198.51.100.2/24", "dev", "eth0")
        if mode == "route":
            server.run("ip", "route", "add", "10.20.30.0/24", "via", "198.51.100.1")
        for host, address in ((guest, "10.20.30.50/24"), (other, "10.20.30.51/24")):
            host.run("ip", "address", "add", address, "dev", "eth0")
            host.run("ip", "route", "add", "default", "via", "10.20.30.1")
        assert guest.reaches("10.20.30.51"), "guests of one network reach each other"
        assert guest.reaches("198.51.100.2") == reaches
        # the world reaches a guest on a routed network alone
        if mode != "route":
            server.run("ip", "route", "add", "10.20.30.0/24", "via", "198.51.100.1")
        assert server.reaches("10.20.30.50") == (mode == "route")
