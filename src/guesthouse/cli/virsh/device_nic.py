"""Commands that add and remove network cards, and pull their cables."""

from __future__ import annotations

from guesthouse.cli.virsh.command import alias, command, data, flag, string
from guesthouse.cli.virsh.device_xml import (
    CONFIG,
    LIVE,
    address,
    change_flags,
    change_options,
    document,
    element,
    send,
    text,
    value,
    with_live,
)
from guesthouse.cli.virsh.domain_limits import rates
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import XMLError
from guesthouse.units import parse_mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guesthouse.client import Domain

_SERVED = ("network", "bridge", "direct", "hostdev", "vhostuser")


@command(
    "domain",
    "attach-interface",
    "add a network card to a guest",
    DOMAIN,
    data("type", "what it is plugged into: network, bridge, direct, hostdev, vhostuser"),
    data("source", "the network, bridge, device or socket"),
    string("target", "its name on the host"),
    string("mac", "its MAC address"),
    string("script", "a script that sets it up"),
    string("model", "the card's model"),
    string("alias", "an alias of your own"),
    string("inbound", "what may go to the guest: AVERAGE,PEAK,BURST,FLOOR"),
    string("outbound", "what may come from the guest: AVERAGE,PEAK,BURST"),
    *change_options(),
    flag("print-xml", "show the XML, and add nothing"),
    flag("managed", "the host lets go of a device of its own, and takes it back"),
    string("source-mode", "of a socket, who listens: server or client"),
    description="Add a network card to a guest.",
)
def attach(shell: Shell, given: Given) -> None:
    flags = change_flags(given)
    xml = _card_xml(given)
    if given.has("print-xml"):
        shell.out(xml)
        return
    guest, _ = domain(shell, given)
    flags = with_live(given, guest, flags)
    with shell.explain("Failed to attach interface"):
        send(given, guest, "attach", xml, flags)
    shell.extra("Interface attached successfully\n")


def _card_xml(given: Given) -> str:
    names = ("type", "source", "target", "mac", "script", "model", "alias", "inbound", "outbound", "source-mode")
    got = {name: given.text(name) for name in names}
    kind, source, mode = got["type"] or "", got["source"] or "", got["source-mode"]
    if kind not in _TYPES:
        raise Failed(f"No support for {kind} in command 'attach-interface'")
    if mode is not None and mode not in ("server", "client"):
        raise Failed(f"Invalid source mode: {mode}")
    limits = {way: _rates(way, got[way] or "") for way in ("inbound", "outbound") if got[way] is not None}
    if kind not in _SERVED:
        raise Failed(f"No support for {kind} in command 'attach-interface'")
    if kind == "direct":
        inside = f"<source dev='{source}'/>\n"
    elif kind == "hostdev":
        place = address(f"pci:{source}", False)
        if place is None:
            raise Failed(f"cannot parse pci address '{source}' for network interface")
        inside = f"<source>\n  {place[1]}</source>\n"
    elif kind == "vhostuser":
        if mode is None:
            raise Failed("source-mode is mandatory")
        inside = f"<source type='unix' path='{source}' mode='{mode}'/>\n"
    else:
        inside = f"<source {kind}='{source}'/>\n"
    plain = {"target": "target dev", "mac": "mac address", "script": "script path", "model": "model type"}
    for name, start in {**plain, "alias": "alias name"}.items():
        if got[name] is not None:
            inside += f"<{start}='{got[name]}'/>\n"
    if limits:
        ways = "".join(element(way, _limits(way, found)) for way, found in limits.items())
        inside += f"<bandwidth>\n{_indented(ways)}</bandwidth>\n"
    managed = " managed='yes'" if given.has("managed") else ""
    return f"<interface type='{kind}'{managed}>\n{_indented(inside)}</interface>\n"


_TYPES = (
    *("user", "ethernet", "vhostuser", "server", "client", "mcast", "network", "bridge", "internal", "direct"),
    *("hostdev", "udp", "vdpa", "null", "vds"),
)


def _rates(way: str, text: str) -> dict[str, tuple[str, Any]]:
    """What a card may send or receive, which is something. Raises Failed."""
    found = rates(way, text)
    numbers = [found.get(f"{way}.{name}", ("uint", 0))[1] for name in ("average", "floor")]
    if not any(numbers):
        raise Failed(
            "either inbound average or floor is mandatory" if way == "inbound" else "outbound average is mandatory"
        )
    return found


def _limits(way: str, found: dict[str, tuple[str, Any]]) -> dict[str, str | None]:
    names = ("average", "peak", "burst", "floor")
    values = {name: found.get(f"{way}.{name}", ("uint", 0))[1] for name in names}
    return {name: str(number) for name, number in values.items() if number}


def _indented(lines: str) -> str:
    return "".join(f"  {line}\n" for line in lines.splitlines())


@command(
    "domain",
    "detach-interface",
    "remove a network card from a guest",
    DOMAIN,
    data("type", "what it is plugged into"),
    string("mac", "its MAC address"),
    *change_options(),
    flag("print-xml", "show the XML, and remove nothing"),
    description="Remove a network card from a guest.",
)
def detach(shell: Shell, given: Given) -> None:
    change_flags(given)
    guest, _ = domain(shell, given)
    kind, mac = given.need("type"), given.text("mac")
    defined = given.has("config") or given.has("persistent")
    runs = given.has("live") or (given.has("persistent") and guest.is_active())
    with shell.explain("Failed to detach interface"):
        try:
            if defined:
                _detach(shell, given, guest, kind, mac, CONFIG)
            if runs or not defined:
                _detach(shell, given, guest, kind, mac, LIVE if runs else 0)
        except Failed as failed:
            shell.error(str(failed))
            raise Failed("" if given.has("print-xml") else "Failed to detach interface") from None
    if not given.has("print-xml"):
        shell.extra("Interface detached successfully\n")


def _detach(shell: Shell, given: Given, guest: Domain, kind: str, mac: str | None, flags: int) -> None:
    root = document(shell, guest, inactive=bool(flags & CONFIG))
    cards = [card for card in root.findall("devices/interface") if card.get("type") == kind]
    if not cards:
        raise Failed(f"No interface found whose type is {kind}")
    if mac is None:
        if len(cards) > 1:
            raise Failed(f"Domain has {len(cards)} interfaces. Please specify which one to detach using --mac")
        found = cards
    else:
        found = [card for card in cards if _same_mac(value(card, "mac", "address"), mac)]
        if len(found) > 1:
            raise Failed(
                f"Domain has multiple interfaces matching MAC address {mac}. You must use detach-device and specify the"
                " device pci address to remove it."
            )
    if not found:
        raise Failed(f"No interface with MAC address {mac} was found")
    xml = text(found[0])
    if given.has("print-xml"):
        shell.out(xml)
    else:
        send(given, guest, "detach", xml, flags)


def _same_mac(one: str | None, other: str) -> bool:
    try:
        return one is not None and parse_mac(one) == parse_mac(other)
    except XMLError:
        return False


@command(
    "domain",
    "domif-setlink",
    "plug in or pull a guest's network cable",
    DOMAIN,
    data("interface", "the card: its device or MAC address"),
    data("state", "up or down"),
    alias("persistent", "config"),
    flag("config", "of the guest as it is defined"),
    flag("print-xml", "show the XML, and change nothing"),
    description="Say whether the link of a guest's network card is up.",
)
def set_link(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    wanted, state = given.need("interface"), given.need("state")
    if state not in ("up", "down"):
        raise Failed(f"invalid link state '{state}'")
    flags = CONFIG if given.has("config") else LIVE
    if not guest.is_active():
        flags = CONFIG
    root = document(shell, guest, inactive=given.has("config"))
    cards = root.findall("devices/interface")
    if not cards:
        raise Failed("Failed to extract interface information or no interfaces found")
    names = [
        {(value(card, "mac", "address") or "").lower(), (value(card, "target", "dev") or "").lower()} for card in cards
    ]
    found = next((card for card, known in zip(cards, names, strict=True) if wanted.lower() in known), None)
    if found is None:
        raise Failed(f"interface '{wanted}' not found")
    link = found.find("link")
    if link is None:
        link = found.makeelement("link", {})
        found.append(link)
    link.set("state", state)
    xml = text(found)
    if given.has("print-xml"):
        shell.out(xml)
        return
    with shell.explain("Failed to update interface link state"):
        guest.call("update_device_flags", xml=xml, flags=flags)
    shell.extra("Device updated successfully\n")
