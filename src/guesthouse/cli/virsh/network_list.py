"""The list of networks, and of the addresses that a network has given out."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, flag, string
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import NETWORK, network, yes_no
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from guesthouse.client import Network

_INACTIVE, _ACTIVE = 1, 2
_FILTERS = {"persistent": 4, "transient": 8, "autostart": 16, "no-autostart": 32}
_LEASE_HEAD = ("Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID")
_PROTOCOLS = {0: "ipv4", 1: "ipv6"}


@command(
    "network",
    "net-list",
    "list networks",
    flag("inactive", "networks that are not active"),
    flag("all", "networks that are active, and those that are not"),
    flag("persistent", "networks with a definition"),
    flag("transient", "networks without a definition"),
    flag("autostart", "networks that start with the host"),
    flag("no-autostart", "networks that do not start with the host"),
    flag("uuid", "show UUIDs alone"),
    flag("name", "show names alone"),
    flag("table", "show a table; the default"),
    description="List the networks that are active, or those that the options choose.",
)
def show_list(shell: Shell, given: Given) -> None:
    flags = _INACTIVE if given.has("inactive") else _ACTIVE
    if given.has("all"):
        flags = _ACTIVE | _INACTIVE
    flags |= given.flags(_FILTERS)
    if sum(given.has(way) for way in ("table", "name", "uuid")) > 1:
        raise Failed("Only one argument from --table, --name and --uuid may be specified.")
    with shell.explain("Failed to list networks"):
        networks = shell.conn.list_all_networks(flags)
    networks.sort(key=lambda net: net.name.lower())
    if given.has("uuid") or given.has("name"):
        for net in networks:
            shell.out(f"{net.uuid if given.has('uuid') else net.name}\n")
        return
    rows = [_cells(net) for net in networks]
    shell.out(format_table(("Name", "State", "Autostart", "Persistent"), rows, header=not shell.quiet))


def _cells(net: Network) -> list[str]:
    state = "active" if net.is_active() else "inactive"
    return [net.name, state, yes_no(net.get_autostart()), yes_no(net.is_persistent())]


@command(
    "network",
    "net-dhcp-leases",
    "list the addresses that a network has given out",
    NETWORK,
    string("mac", "of the guest's interface with this MAC address alone"),
    description="List the DHCP leases of an active network.",
)
def leases(shell: Shell, given: Given) -> None:
    mac = given.text("mac")
    net, name = network(shell, given)
    with shell.explain(f"Failed to get leases info for {name}"):
        found = net.get_dhcp_leases(mac)
    found.sort(key=lambda lease: (lease.mac or "").lower())
    shell.out(format_table(_LEASE_HEAD, [_lease(lease) for lease in found], header=not shell.quiet))


def _lease(lease: Any) -> list[str]:
    import time

    return [
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lease.expirytime)),
        lease.mac or "-",
        _PROTOCOLS.get(lease.type, "-"),
        f"{lease.ipaddr}/{lease.prefix}",
        lease.hostname or "-",
        lease.clientid or "-",
    ]
