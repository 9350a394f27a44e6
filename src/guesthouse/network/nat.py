"""The firewall rules of virtual networks, in one nftables table of our own (``inet guesthouse``).

Each network has base chains of its own in it, so that adding and removing a network's rules is one atomic change that
touches neither other networks' rules nor other programs' tables. Who forwards to whom is libvirt's: guests of one
bridge reach each other; a NAT or routed network's guests reach out, and only replies (NAT) or everything for their
subnet (routed) comes in; everything else to or from the bridge is rejected. There are no "accept" rules for DHCP and
DNS from guests: nftables lets no table overrule another's drop, so they could not help.

A :class:`Target` is a port of the host's that leads to a guest, for whoever asks: the outside, the host, other guests.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guesthouse.errors import Domain, InternalError
from guesthouse.model.network import Ip, IPAddress, Nat, Network, PortRange
from guesthouse.model.port_forward import PortForward
from guesthouse.network.netlink import IPNetwork

TABLE = "guesthouse"
_TABLE = {"family": "inet", "name": TABLE}
_LOCAL_MULTICAST = {4: "224.0.0.0/24", 6: "ff02::/16"}
#: A guest must not come from a privileged port of the host: NFS servers, for one, trust those.
_UNPRIVILEGED = (1024, 65535)

Json = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Where a forwarded port leads now: an address of the guest's."""

    forward: PortForward
    address: IPAddress


def _chains(bridge: str) -> tuple[str, ...]:
    return tuple(f"{hook}_{bridge}" for hook in ("forward", "postrouting", "prerouting", "output", "loopback"))


def _match(left: Json, right: Any, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _in(device: str) -> Json:
    return _match({"meta": {"key": "iifname"}}, device)


def _out(device: str) -> Json:
    return _match({"meta": {"key": "oifname"}}, device)


def _prefix(network: IPNetwork | str) -> Json | str:
    address, size = str(network).split("/")
    full = "128" if ":" in address else "32"
    return address if size == full else {"prefix": {"addr": address, "len": int(size)}}


def _address(field: str, version: int, network: IPNetwork | str, op: str = "==") -> Json:
    payload = {"payload": {"protocol": "ip" if version == 4 else "ip6", "field": field}}
    return _match(payload, _prefix(network), op)


_ACCEPT: Json = {"accept": None}
_RETURN: Json = {"return": None}
_REJECT: Json = {"reject": {"type": "icmpx", "expr": "port-unreachable"}}
_REPLY = _match({"ct": {"key": "state"}}, ["established", "related"], "in")
_DNATTED = _match({"ct": {"key": "status"}}, "dnat", "in")


def _forward_rules(network: Network, bridge: str, targets: Sequence[Target]) -> list[list[Json]]:
    rules = [[_in(bridge), _out(bridge), _ACCEPT]]
    rules += [[_out(bridge), _DNATTED, *_to_guest(target), _ACCEPT] for target in targets]
    if targets:
        rules.append([_in(bridge), _DNATTED, _REPLY, _ACCEPT])
    device = network.forward_dev
    for ip in network.ips if network.mode in ("nat", "route") else []:
        net, version = ip.interface.network, ip.version
        outward = [_in(bridge), *([_out(device)] if device else []), _address("saddr", version, net)]
        inward = [*([_in(device)] if device else []), _out(bridge), _address("daddr", version, net)]
        if _is_natted(network, ip):
            inward.append(_REPLY)
        rules += [[*outward, _ACCEPT], [*inward, _ACCEPT]]
    return [*rules, [_in(bridge), _REJECT], [_out(bridge), _REJECT]]


def _to_guest(target: Target) -> list[Json]:
    """What a connection looks like that has been led to the guest."""
    forward = target.forward
    first, last = forward.host if forward.port is None else (forward.port, forward.port)
    return [_address("daddr", target.address.version, _whole(target.address)), _ports(forward.proto, first, last)]


def _whole(address: IPAddress) -> str:
    return f"{address}/{address.max_prefixlen}"


def _ports(proto: str, first: int, last: int) -> Json:
    field = {"payload": {"protocol": proto, "field": "dport"}}
    return _match(field, first if first == last else {"range": [first, last]})


def _lead(target: Target) -> list[Json]:
    """Lead connections with the forwarded port to the guest."""
    forward, version = target.forward, target.address.version
    family = "ip" if version == 4 else "ip6"
    to: Json = {"family": family, "addr": str(target.address)}
    if forward.port is not None:
        to["port"] = forward.port
    rule = [_match({"meta": {"key": "nfproto"}}, "ipv4" if version == 4 else "ipv6")]
    if forward.address is not None:
        rule = [_address("daddr", version, _whole(forward.address))]
    elif version == 6:
        # nothing that comes from ::1 may leave by another device
        rule.append(_address("daddr", 6, "::1/128", "!="))
    local = _match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
    return [*rule, local, _ports(forward.proto, *forward.host), {"dnat": to}]


def _returns(network: Network, targets: Sequence[Target]) -> list[list[Json]]:
    """Who is of the guest's own subnet, or came by the host's loopback, must get its answers by way of the host."""
    rules = []
    for target in targets:
        version = target.address.version
        subnets = [str(ip.interface.network) for ip in network.ips_of(version)] + ["127.0.0.0/8"] * (version == 4)
        for subnet in subnets:
            source = _address("saddr", version, subnet)
            rules.append([source, _DNATTED, *_to_guest(target), {"masquerade": None}])
    return rules


def _leads_nowhere(target: Target) -> bool:
    """Whether the forward's own address is of another family than the guest's, or IPv6's loopback."""
    address = target.forward.address
    return address is not None and (
        address.version != target.address.version or (address.version == 6 and address.is_loopback)
    )


def _is_natted(network: Network, ip: Ip) -> bool:
    nat = network.forward.nat if network.forward else None
    return network.mode == "nat" and (ip.version == 4 or bool(nat and nat.ipv6))


def _nat_rules(network: Network) -> list[list[Json]]:
    rules: list[list[Json]] = []
    for ip in network.ips:
        if not _is_natted(network, ip):
            continue
        net, version = ip.interface.network, ip.version
        base = [*([_out(network.forward_dev)] if network.forward_dev else []), _address("saddr", version, net)]
        # never leave the link, and strict DHCP clients refuse answers whose source was rewritten
        rules.append([*base, _address("daddr", version, _LOCAL_MULTICAST[version]), _RETURN])
        if version == 4:
            rules.append([*base, _address("daddr", version, "255.255.255.255/32"), _RETURN])
        base.append(_address("daddr", version, net, "!="))
        for protocol in ("tcp", "udp", None):
            which = [_match({"meta": {"key": "l4proto"}}, protocol)] if protocol else []
            rules.append([*base, *which, _rewrite(network, version, bool(protocol))])
    return rules


def complete(network: Network) -> None:
    """Say in a network that is about to run which ports its connections leave by, as libvirt's live document does."""
    if network.mode != "nat" or network.forward is None or not any(_is_natted(network, ip) for ip in network.ips):
        return
    if network.forward.nat is None:
        network.forward.nats.append(Nat())
    nat = network.forward.nats[0]
    if not nat.ports:
        nat.ports.append(PortRange(start=_UNPRIVILEGED[0], end=_UNPRIVILEGED[1]))


def _rewrite(network: Network, version: int, has_ports: bool) -> Json:
    nat = network.forward.nat if network.forward else None
    ports = _UNPRIVILEGED
    if nat and nat.ports and nat.ports[0].end:
        ports = (nat.ports[0].start or 0, nat.ports[0].end)
    details: Json = {}
    if nat and nat.addresses and version == 4:
        start, end = nat.addresses[0].start, nat.addresses[0].end
        details = {"family": "ip", "addr": start if start == end else {"range": [start, end]}}
    if has_ports:
        details["port"] = {"range": list(ports)}
    if "addr" in details:
        return {"snat": details}
    return {"masquerade": details or None}


def ruleset(network: Network, targets: Sequence[Target] = ()) -> Json:
    """What ``nft -j -f -`` shall do to have this network's rules, whatever it had before. The bridge has a name."""
    bridge = network.bridge_name or ""
    forward, postrouting, prerouting, output, loopback = _chains(bridge)
    targets = [target for target in targets if not _leads_nowhere(target)]
    hooks = {
        forward: {"type": "filter", "hook": "forward", "prio": 0, "policy": "accept"},
        postrouting: {"type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"},
        prerouting: {"type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"},
        output: {"type": "nat", "hook": "output", "prio": -100, "policy": "accept"},
        loopback: {"type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept"},
    }
    is_open = network.mode == "open"
    leads = [_lead(target) for target in targets]
    plan = {
        forward: [] if is_open else _forward_rules(network, bridge, targets),
        postrouting: _returns(network, targets) + ([] if is_open else _nat_rules(network)),
        prerouting: leads,
        output: leads,
        # the bridge takes 127.0.0.1's packets for the host's own sake (see install); not its guests'
        loopback: [[_in(bridge), _address("daddr", 4, "127.0.0.0/8"), {"drop": None}]] if leads else [],
    }
    commands: list[Json] = [{"add": {"table": _TABLE}}]
    for chain, rules in plan.items():
        here = {"family": "inet", "table": TABLE, "name": chain}
        if not rules:
            # a nat chain, even an empty one, makes the kernel track every connection
            commands += _without(chain)
            continue
        commands += [{"add": {"chain": here | hooks[chain]}}, {"flush": {"chain": here}}]
        where = {"family": "inet", "table": TABLE, "chain": chain}
        commands += [{"add": {"rule": where | {"expr": rule}}} for rule in rules]
    return {"nftables": commands}


def _without(chain: str) -> list[Json]:
    here = {"family": "inet", "table": TABLE, "name": chain}
    # an "add" first, since deleting what is not there fails
    return [{"add": {"chain": here}}, {"flush": {"chain": here}}, {"delete": {"chain": here}}]


def install(network: Network, targets: Sequence[Target] = ()) -> None:
    """Put the network's rules in place, replacing former ones at once. Mode "open" has those of forwarded ports alone.

    Where ports are forwarded, the host's own 127.0.0.1 leads there too, which the bridge must allow: the answers come to
    an address that no other device may use. Raises InternalError with nft's words; then the kernel has what it had.
    """
    bridge = network.bridge_name or ""
    if not network.owns_bridge or (network.mode == "open" and not targets):
        return
    _nft(json.dumps(ruleset(network, targets)))
    if any(target.address.version == 4 for target in targets):
        _allow_loopback(bridge, True)


def _allow_loopback(bridge: str, on: bool) -> None:
    setting = Path(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet")
    try:
        if setting.read_text().strip() != str(int(on)):
            setting.write_text(f"{int(on)}\n")
    except OSError:
        pass  # the outside and other guests are led to the guest all the same


def remove(bridge: str) -> None:
    """Take the rules of the network with this bridge away; none there is fine. The table stays: it costs nothing."""
    commands: list[Json] = [{"add": {"table": _TABLE}}]
    for chain in _chains(bridge):
        commands += _without(chain)
    _allow_loopback(bridge, False)
    _nft(json.dumps({"nftables": commands}))


def _nft(script: str) -> None:
    try:
        done = subprocess.run(["nft", "-j", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        text = "Cannot find 'nft' in path: install the package nftables"
        raise InternalError(text, domain=Domain.FIREWALL) from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise InternalError(f"Failed to apply firewall rules with nft: {words}", domain=Domain.FIREWALL)
