"""XML that programs keep with a network (libvirt's virsh has this command since 9.7)."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.domain_metadata import affect_flags
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import NETWORK, network
from guesthouse.cli.virsh.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Network

_ELEMENT = 2  # VIR_NETWORK_METADATA_ELEMENT
_NO_METADATA = 111  # virErrorNumber VIR_ERR_NO_NETWORK_METADATA


@command(
    "network",
    "net-metadata",
    "show or change XML that programs keep with a network",
    NETWORK,
    data("uri", "the namespace that the XML is under"),
    flag("live", "of the network as it runs"),
    flag("config", "of the network as it is defined"),
    flag("current", "of the network as it is now; the default"),
    flag("edit", "change it in an editor"),
    string("key", "the prefix that stands for the namespace"),
    string("set", "the new XML"),
    flag("remove", "remove the XML"),
    description="Show, change or remove the XML that a network carries for others under a namespace.",
)
def show_metadata(shell: Shell, given: Given) -> None:
    given.exclusive("edit", "set")
    given.exclusive("remove", "set")
    given.exclusive("remove", "edit")
    flags = affect_flags(given)
    net, _ = network(shell, given)
    uri, key = given.need("uri"), given.text("key")
    new = given.text("set")
    if (given.has("edit") or new) and not key:
        raise Failed("namespace key is required when modifying metadata")
    if new or given.has("remove"):
        net.set_metadata(_ELEMENT, new, key, uri, flags)
        shell.extra("Metadata modified\n" if new else "Metadata removed\n")
    elif given.has("edit"):
        from guesthouse.cli.virsh.editing import edit

        def define(xml: str) -> Network:
            net.set_metadata(_ELEMENT, xml, key, uri, flags)
            return net

        done = edit(shell, lambda: _element(net, uri, flags), define)
        shell.extra("Metadata not changed" if done is None else "Metadata modified\n")
    else:
        shell.out(f"{net.get_metadata(_ELEMENT, uri, flags)}\n")


def _element(net: Network, uri: str, flags: int) -> str:
    """The XML under the namespace; an empty line where there is none yet, for an editor to start from."""
    from guesthouse.errors import GuesthouseError

    try:
        return net.get_metadata(_ELEMENT, uri, flags)
    except GuesthouseError as error:
        if error.number != _NO_METADATA:
            raise
        return "\n"
