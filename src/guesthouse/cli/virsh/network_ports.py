"""Commands for the ports of networks: who is plugged in, and how."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, data, flag
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import NETWORK, dump_xml, network, read_file, xpath_options
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_VALIDATE = 2  # VIR_NETWORK_PORT_CREATE_VALIDATE
_PORT = data("port", "UUID of the port")


def _find(shell: Shell, given: Given) -> Any:
    """The port that the options name, as calls want it. Raises Failed."""
    from guesthouse.units import parse_uuid

    net, _ = network(shell, given)
    name = given.need("port")
    try:
        return shell.conn.call("network_port_lookup_by_uuid", network=net, uuid=parse_uuid(name)).port
    except GuesthouseError:
        raise Failed(f"failed to get network port '{name}'") from None


@command(
    "network",
    "net-port-list",
    "list a network's ports",
    NETWORK,
    flag("uuid", "show UUIDs alone"),
    flag("table", "show a table; the default"),
    description="List the ports of an active network: each interface of a running guest on it has one.",
)
def show_list(shell: Shell, given: Given) -> None:
    if given.has("uuid") and given.has("table"):
        raise Failed("Only one argument from --table and --uuid may be specified.")
    net, _ = network(shell, given)
    found = shell.conn.call("network_list_all_ports", network=net, need_results=1, flags=0).ports
    uuids = sorted(port.uuid for port in found)
    if given.has("uuid"):
        for uuid in uuids:
            shell.out(f"{uuid}\n")
        return
    shell.out(format_table(("UUID",), [[uuid] for uuid in uuids], header=not shell.quiet))


@command(
    "network",
    "net-port-create",
    "make a network port from an XML file",
    NETWORK,
    data("file", "a file with the port's XML", "file"),
    flag("validate", "check the XML against its schema"),
    description="Make a port that an active network counts, for a program that plugs in something of its own.",
)
def create(shell: Shell, given: Given) -> None:
    net, _ = network(shell, given)
    path = given.need("file")
    xml = read_file(path)
    flags = _VALIDATE if given.has("validate") else 0
    with shell.explain(f"Failed to create network from {path}"):
        port = shell.conn.call("network_port_create_xml", network=net, xml=xml, flags=flags).port
    shell.extra(f"Network port {port.uuid} created from {path}\n")


@command(
    "network",
    "net-port-dumpxml",
    "show a network port's XML",
    NETWORK,
    _PORT,
    *xpath_options(),
    description="Print the XML that describes a network port.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    port = _find(shell, given)
    dump_xml(shell, given, str(shell.conn.call("network_port_get_xml_desc", port=port, flags=0).xml))


@command(
    "network",
    "net-port-delete",
    "remove a network port",
    NETWORK,
    _PORT,
    description="Count a port out of its network. A guest that is plugged in stays so.",
)
def delete(shell: Shell, given: Given) -> None:
    port = _find(shell, given)
    with shell.explain(f"Failed to delete network port {port.uuid}"):
        shell.conn.call("network_port_delete", port=port, flags=0)
    shell.extra(f"Network port {port.uuid} deleted\n")
