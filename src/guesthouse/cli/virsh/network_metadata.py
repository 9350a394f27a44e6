"""XML that programs keep with a network (libvirt's virsh has this command since 9.7)."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, string
from guesthouse.cli.virsh.domain_metadata import own_xml
from guesthouse.cli.virsh.given import Given
from guesthouse.cli.virsh.objects import NETWORK, network
from guesthouse.cli.virsh.shell import Shell

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
    own_xml(shell, given, lambda: network(shell, given)[0], _NO_METADATA)
