"""Commands about the host's network interfaces."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import command, data, flag
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import dump_xml, read_file, xpath_options
from guesthouse.cli.virsh.shell import DEBUG, INFO, Shell
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client import Interface

NAME, MAC = 1, 2
_XML_INACTIVE = 1
_INACTIVE, _ACTIVE = 1, 2
_INTERFACE = data("interface", "name or MAC address of the interface", "interface")
_MAC_GROUPS = 6


def find_interface(shell: Shell, given: Given, option: str = "interface", by: int = NAME | MAC) -> Interface:
    """The interface that ``option`` names. Raises Failed, with the daemon's word where it was asked."""
    name = given.need(option)
    words = given.command.name
    shell.debug(INFO, f"{words}: found option <{option}>: {name}")
    try:
        if _is_mac(name):
            if by & MAC:
                shell.debug(DEBUG, f"{words}: <{option}> trying as interface MAC")
                return shell.conn.interface_lookup_by_mac_string(name)
        elif by & NAME:
            shell.debug(DEBUG, f"{words}: <{option}> trying as interface NAME")
            return shell.conn.interface_lookup_by_name(name)
    except GuesthouseError as error:
        raise Failed(f"failed to get interface '{name}'") from error
    raise Failed(f"failed to get interface '{name}'")


def _is_mac(text: str) -> bool:
    groups = text.split(":")
    hexadecimal = set("0123456789abcdefABCDEF")
    return len(groups) == _MAC_GROUPS and all(1 <= len(group) <= 2 and set(group) <= hexadecimal for group in groups)


@command(
    "interface",
    "iface-list",
    "list the host's network interfaces",
    flag("inactive", "interfaces that are not active"),
    flag("all", "interfaces that are active, and those that are not"),
    description="List the network interfaces of the host that are active, or those that the options choose.",
)
def show_list(shell: Shell, given: Given) -> None:
    flags = _INACTIVE if given.has("inactive") else _ACTIVE
    if given.has("all"):
        flags = _ACTIVE | _INACTIVE
    with shell.explain("Failed to list interfaces"):
        interfaces = shell.conn.list_all_interfaces(flags)
    interfaces.sort(key=lambda interface: interface.name)
    rows = [(each.name, "active" if each.is_active() else "inactive", each.mac) for each in interfaces]
    shell.out(format_table(("Name", "State", "MAC Address"), rows, header=not shell.quiet))


@command(
    "interface",
    "iface-dumpxml",
    "show an interface's XML",
    _INTERFACE,
    flag("inactive", "the definition, even while the interface is active"),
    *xpath_options(),
    description="Print the XML that describes a network interface of the host.",
)
def dumpxml(shell: Shell, given: Given) -> None:
    interface = find_interface(shell, given)
    dump_xml(shell, given, interface.get_xml_desc(_XML_INACTIVE if given.has("inactive") else 0))


@command(
    "interface",
    "iface-name",
    "show the name that belongs to a MAC address",
    data("interface", "MAC address of the interface", "interface"),
)
def show_name(shell: Shell, given: Given) -> None:
    shell.out(f"{find_interface(shell, given, by=MAC).name}\n")


@command(
    "interface",
    "iface-mac",
    "show the MAC address that belongs to a name",
    data("interface", "name of the interface", "interface"),
)
def show_mac(shell: Shell, given: Given) -> None:
    shell.out(f"{find_interface(shell, given, by=NAME).mac}\n")


@command(
    "interface",
    "iface-define",
    "define an interface from an XML file, without starting it",
    data("file", "a file with the interface's XML", "file"),
    flag("validate", "check the XML against its schema"),
    description="Define a network interface of the host, or change its definition.",
)
def define(shell: Shell, given: Given) -> None:
    path = given.need("file")
    xml = read_file(path)
    with shell.explain(f"Failed to define interface from {path}"):
        interface = shell.conn.interface_define_xml(xml, 1 if given.has("validate") else 0)
    shell.extra(f"Interface {interface.name} defined from {path}\n")


@command(
    "interface",
    "iface-edit",
    "change an interface's definition in an editor",
    _INTERFACE,
    description="Open the interface's XML in an editor and define what comes back.",
)
def edit_interface(shell: Shell, given: Given) -> None:
    from guesthouse.cli.virsh.editing import edit

    interface = find_interface(shell, given)
    edited = edit(shell, lambda: interface.get_xml_desc(_XML_INACTIVE), shell.conn.interface_define_xml)
    if edited is None:
        shell.extra(f"Interface {interface.name} XML configuration not changed.\n")
    else:
        shell.extra(f"Interface {edited.name} XML configuration edited.\n")


@command(
    "interface",
    "iface-undefine",
    "remove an interface's definition",
    _INTERFACE,
    description="Forget the definition of a network interface of the host.",
)
def undefine(shell: Shell, given: Given) -> None:
    name = given.text("interface")
    interface = find_interface(shell, given)
    with shell.explain(f"Failed to undefine interface {name}"):
        interface.undefine()
    shell.extra(f"Interface {name} undefined\n")


@command(
    "interface",
    "iface-start",
    "bring an interface up",
    _INTERFACE,
    description="Bring a network interface of the host up, as it is defined.",
)
def start(shell: Shell, given: Given) -> None:
    name = given.text("interface")
    interface = find_interface(shell, given)
    with shell.explain(f"Failed to start interface {name}"):
        interface.create()
    shell.extra(f"Interface {name} started\n")


@command(
    "interface",
    "iface-destroy",
    "take an interface down",
    _INTERFACE,
    description="Take a network interface of the host down; its definition stays.",
)
def destroy(shell: Shell, given: Given) -> None:
    name = given.text("interface")
    interface = find_interface(shell, given)
    with shell.explain(f"Failed to destroy interface {name}"):
        interface.destroy()
    shell.extra(f"Interface {name} destroyed\n")


def _change(shell: Shell, step: str, verb: str, done: str) -> None:
    with shell.explain(f"Failed to {verb} network config change transaction"):
        shell.conn.call(f"interface_change_{step}", flags=0)
    shell.extra(f"Network config change transaction {done}\n")


@command(
    "interface",
    "iface-begin",
    "remember how the interfaces are set up",
    description="Remember how the host's interfaces are set up, to commit changes or to go back later.",
)
def begin(shell: Shell, given: Given) -> None:
    _change(shell, "begin", "begin", "started")


@command(
    "interface",
    "iface-commit",
    "keep the changes since iface-begin",
    description="Keep what was changed since iface-begin.",
)
def commit(shell: Shell, given: Given) -> None:
    _change(shell, "commit", "commit", "committed")


@command(
    "interface",
    "iface-rollback",
    "take back the changes since iface-begin",
    description="Set the host's interfaces up as they were at iface-begin.",
)
def rollback(shell: Shell, given: Given) -> None:
    _change(shell, "rollback", "rollback", "rolled back")
