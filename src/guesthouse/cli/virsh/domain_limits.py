"""How fast a guest's network cards may be."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, string
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.given import Failed, Given, parse_number
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.params import show
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIVE, _CONFIG, _CURRENT = affected()
_FIELDS = ("average", "peak", "burst", "floor")
_LARGEST = 2**32 - 1


def rates(way: str, text: str) -> dict[str, tuple[str, Any]]:
    """ "AVERAGE,PEAK,BURST,FLOOR", any of which may be left out, as typed parameters. Raises Failed."""
    words = text.split(",")
    if len(words) > len(_FIELDS):
        raise Failed(f"Rate string '{text}' has too many fields")
    found = {}
    for name, word in zip(_FIELDS, words, strict=False):
        if not word:
            continue
        value = parse_number(word)
        if value is None or not 0 <= value <= _LARGEST:
            raise Failed(f"field '{name}' is malformed")
        found[name] = value
    if way == "outbound" and found.get("floor"):
        raise Failed("outbound floor is unsupported yet")
    if "average" not in found and not found.get("floor"):
        raise Failed(
            "either inbound average or floor is mandatory" if way == "inbound" else "outbound average is mandatory"
        )
    found.setdefault("average", 0)
    return {f"{way}.{name}": ("uint", value) for name, value in found.items() if value or name == "average"}


@command(
    "domain",
    "domiftune",
    "show or set the limits of a guest's network card",
    DOMAIN,
    data("interface", "the card's MAC address, or its end on the host", "card"),
    string("inbound", "what may go to the guest: AVERAGE,PEAK,BURST,FLOOR in kB/s and KiB; 0 lifts it"),
    string("outbound", "what may come from the guest: AVERAGE,PEAK,BURST"),
    _CONFIG,
    _LIVE,
    _CURRENT,
    description="Show how fast a guest's network card may send and receive, or set it, also while the guest runs.",
)
def limits(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    device = given.need("interface")
    changes: dict[str, tuple[str, Any]] = {}
    for way in ("inbound", "outbound"):
        if (text := given.text(way)) is not None:
            changes |= rates(way, text)
    if changes:
        with shell.explain("Unable to set interface parameters"):
            guest.call("set_interface_parameters", device=device, params=changes, flags=flags)
        return
    with shell.explain("Unable to get number of interface parameters"):
        count = guest.call("get_interface_parameters", device=device, nparams=0, flags=flags).nparams
    with shell.explain("Unable to get interface parameters"):
        params = guest.call("get_interface_parameters", device=device, nparams=count, flags=flags).params
    show(shell, params, 15)
