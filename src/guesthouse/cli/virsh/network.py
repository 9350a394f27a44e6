"""Commands of a network's life: define, create, start, stop, edit, describe."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, number
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import (
    NAME,
    NETWORK,
    UUID,
    dump_xml,
    network,
    read_file,
    row,
    xpath_options,
    yes_no,
)
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError

_FILE = data("file", "a file with the network's XML", "file")
_VALIDATE = flag("validate", "check the XML against its schema")
_INACTIVE = 1  # VIR_NETWORK_XML_INACTIVE
_COMMANDS = {"modify": 1, "delete": 2, "add": 3, "add-last": 3, "add-first": 4}
_SECTIONS = {
    name: number
    for number, name in enumerate(
        (
            *("bridge", "domain", "ip", "ip-dhcp-host", "ip-dhcp-range", "forward", "forward-interface", "forward-pf"),
            *("portgroup", "dns-host", "dns-txt", "dns-srv"),
        ),
        1,
    )
}
_LIVE, _CONFIG = 1, 2


@command(
    "network",
    "net-define",
    "define a network from an XML file, without starting it",
    _FILE,
    _VALIDATE,
    description="Make a network known to the daemon, or change the configuration of one that is.",
)
def define(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to define network from {path}"):
        net = shell.conn.network_define_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Network {net.name} defined from {path}\n")


@command(
    "network",
    "net-create",
    "start a network from an XML file",
    _FILE,
    _VALIDATE,
    description="Start a network that lives only until it stops, unless it is defined too.",
)
def create(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to create network from {path}"):
        net = shell.conn.network_create_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Network {net.name} created from {path}\n")


@command(
    "network", "net-start", "start a network that is defined", NETWORK, description="Start a network that is defined."
)
def start(shell: Shell, given: Given) -> None:
    net, name = network(shell, given)
    with shell.explain(f"Failed to start network {name}"):
        net.create()
    shell.extra(f"Network {name} started\n")


@command(
    "network",
    "net-destroy",
    "stop a network",
    NETWORK,
    description="Stop a network at once; guests on it lose their connection. Its definition stays.",
)
def destroy(shell: Shell, given: Given) -> None:
    net, name = network(shell, given)
    with shell.explain(f"Failed to destroy network {name}"):
        net.destroy()
    shell.extra(f"Network {name} destroyed\n")


@command(
    "network",
    "net-undefine",
    "remove a network's definition",
    NETWORK,
    description="Forget a network; one that is active goes on until it stops.",
)
def undefine(shell: Shell, given: Given) -> None:
    net, name = network(shell, given)
    with shell.explain(f"Failed to undefine network {name}"):
        net.undefine()
    shell.extra(f"Network {name} has been undefined\n")


@command(
    "network",
    "net-autostart",
    "start a network whenever the host starts",
    NETWORK,
    flag("disable", "do not"),
    description="Say whether a network is started together with the daemon when the host boots.",
)
def autostart(shell: Shell, given: Given) -> None:
    net, name = network(shell, given)
    mark = "unmark" if given.has("disable") else "mark"
    with shell.explain(f"failed to {mark} network {name} as autostarted"):
        net.set_autostart(not given.has("disable"))
    shell.extra(f"Network {name} {mark}ed as autostarted\n")


@command(
    "network",
    "net-dumpxml",
    "show a network's XML",
    NETWORK,
    flag("inactive", "the definition, even while the network is active"),
    *xpath_options(),
    description="Print the XML that describes a network.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    net, _ = network(shell, given)
    dump_xml(shell, given, net.get_xml_desc(_INACTIVE if given.has("inactive") else 0))


@command(
    "network",
    "net-edit",
    "change a network's definition in an editor",
    NETWORK,
    description="Open the network's XML in an editor and define what comes back; an active network changes when it "
    "is started anew.",
)
def edit_network(shell: Shell, given: Given) -> None:
    from guesthouse.cli.virsh.editing import edit

    net, _ = network(shell, given)
    edited = edit(shell, lambda: net.get_xml_desc(_INACTIVE), shell.conn.network_define_xml)
    if edited is None:
        shell.extra(f"Network {net.name} XML configuration not changed.\n")
    else:
        shell.extra(f"Network {edited.name} XML configuration edited.\n")


@command(
    "network",
    "net-info",
    "show what a network is and how it is",
    NETWORK,
    description="Print a network's name and UUID, its bridge, and whether it is active and persistent.",
)
def info(shell: Shell, given: Given) -> None:
    net, _ = network(shell, given)
    shell.out(row("Name:", net.name))
    shell.out(row("UUID:", net.uuid))
    shell.out(row("Active:", yes_no(net.is_active())))
    shell.out(row("Persistent:", yes_no(net.is_persistent())))
    shell.out(row("Autostart:", yes_no(net.get_autostart())))
    try:
        shell.out(row("Bridge:", net.get_bridge_name()))
    except GuesthouseError:
        pass  # a network on the host's own devices has none


@command(
    "network", "net-name", "show the name that belongs to a UUID", data("network", "UUID of the network", "network")
)
def show_name(shell: Shell, given: Given) -> None:
    net, _ = network(shell, given, UUID)
    shell.out(f"{net.name}\n")


@command(
    "network", "net-uuid", "show the UUID that belongs to a name", data("network", "name of the network", "network")
)
def show_uuid(shell: Shell, given: Given) -> None:
    net, _ = network(shell, given, NAME)
    shell.out(f"{net.uuid}\n")


@command(
    "network",
    "net-update",
    "change one part of a network, even while it is active",
    NETWORK,
    data("command", "what to do: add-first, add-last (add), delete or modify", "add add-first add-last delete modify"),
    data("section", f"the part: {', '.join(_SECTIONS)}", " ".join(_SECTIONS)),
    data("xml", "the element (text that begins with '<'), or a file with it", "file"),
    number("parent-index", "the element that holds the part, counted from 0, where there are several"),
    flag("config", "change the definition"),
    flag("live", "change the active network"),
    flag("current", "change the active network, or the definition of one that is not"),
    description="Add, change or remove one element of a network without stopping it.",
)
def update(shell: Shell, given: Given) -> None:
    given.exclusive("current", "live")
    given.exclusive("current", "config")
    net, _ = network(shell, given)
    action = given.need("command")
    if action not in _COMMANDS:
        raise Failed(f"unrecognized command name '{action}'")
    section = given.need("section")
    if section not in _SECTIONS:
        raise Failed(f"unrecognized section name '{section}'")
    parent = given.integer("parent-index")
    xml = given.need("xml")
    if not xml.startswith("<"):
        xml = read_file(xml)
    flags = given.flags({"config": _CONFIG, "live": _LIVE})
    with shell.explain(f"Failed to update network {net.name}"):
        net.update(_COMMANDS[action], _SECTIONS[section], -1 if parent is None else parent, xml, flags)
    if flags == _CONFIG | _LIVE:
        what = "persistent config and live state"
    elif flags == _LIVE or (not flags and net.is_active()):
        what = "live state"
    else:
        what = "persistent config"
    shell.extra(f"Updated network {net.name} {what}")  # without a newline, as libvirt prints it
