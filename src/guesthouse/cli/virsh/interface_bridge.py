"""The commands that put an interface of the host under a bridge, and take it out again."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, number
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.interface import find_interface
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import GuesthouseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_XML_INACTIVE = 1
# what stays with the port; the rest (addresses, MTU, start) becomes the bridge's
_PORTS_OWN = ("mac", "bond", "vlan", "link")


@command(
    "interface",
    "iface-bridge",
    "put an interface under a new bridge",
    data("interface", "name or MAC address of the interface", "interface"),
    data("bridge", "name of the new bridge"),
    flag("no-stp", "without the spanning tree protocol"),
    number("delay", "seconds for which a new port forwards nothing"),
    flag("no-start", "define the bridge alone"),
    description="Define a bridge that has an interface's addresses and the interface as its port, and start it.",
)
def bridge(shell: Shell, given: Given) -> None:
    interface = find_interface(shell, given)
    name = given.need("bridge")
    try:
        shell.conn.interface_lookup_by_name(name)
    except GuesthouseError as error:
        missing = error
    else:
        raise Failed(f"Network device {name} already exists")
    delay = given.unsigned("delay") or 0
    root = _read(interface.get_xml_desc(_XML_INACTIVE))
    if root.get("type") == "bridge":
        raise Failed(f"Existing device {interface.name} is already a bridge") from missing
    xml = _bridged(root, name, stp=not given.has("no-stp"), delay=delay)
    with shell.explain(f"Failed to define new bridge interface {name}"):
        made = shell.conn.interface_define_xml(xml)
    shell.extra(f"Created bridge {name} with attached device {interface.name}\n")
    if not given.has("no-start"):
        with shell.explain(f"Failed to start bridge interface {name}"):
            made.create()
        shell.extra(f"Bridge interface {name} started\n")


def _read(xml: str) -> Any:
    from lxml import etree

    return etree.fromstring(xml)


def _text(node: Any) -> str:
    from lxml import etree

    etree.indent(node)
    return str(etree.tostring(node, encoding="unicode")) + "\n"


def _bridged(root: Any, name: str, *, stp: bool, delay: int) -> str:
    """The document of the bridge ``name`` that has the interface ``root`` as its port."""
    port = root.makeelement("interface", {"type": root.get("type", ""), "name": root.get("name", "")})
    port.extend([child for child in root if child.tag in _PORTS_OWN])
    root.set("type", "bridge")
    root.set("name", name)
    # the delay is a matter of the spanning tree protocol
    around = root.makeelement("bridge", {"stp": "on", "delay": str(delay)} if stp else {"stp": "off"})
    around.append(port)
    root.append(around)
    return _text(root)


@command(
    "interface",
    "iface-unbridge",
    "remove a bridge, and give what it has back to its port",
    data("bridge", "name of the bridge", "interface"),
    flag("no-start", "do not start the interface"),
    description="Define the one port of a bridge with the bridge's addresses, remove the bridge, and start the port.",
)
def unbridge(shell: Shell, given: Given) -> None:
    name = given.need("bridge")
    made = find_interface(shell, given, "bridge")
    root = _read(made.get_xml_desc(_XML_INACTIVE))
    around = root.find("bridge")
    if root.get("type") != "bridge" or around is None:
        raise Failed(f"Device {name} is not a bridge")
    ports = around.findall("interface")
    if not ports:
        raise Failed("No interface attached to bridge")
    if len(ports) > 1:
        raise Failed("Multiple interfaces attached to bridge")
    port = ports[0]
    root.remove(around)
    root.set("type", port.get("type", ""))
    root.set("name", port.get("name", ""))
    root.extend(list(port))
    with shell.explain(f"Failed to destroy bridge interface {name}"):
        made.destroy()
    with shell.explain(f"Failed to undefine bridge interface {name}"):
        made.undefine()
    with shell.explain(f"Failed to define new interface {port.get('name')}"):
        freed = shell.conn.interface_define_xml(_text(root))
    shell.extra(f"Device {port.get('name')} un-attached from bridge {name}\n")
    if not given.has("no-start"):
        with shell.explain(f"Failed to start interface {port.get('name')}"):
            freed.create()
        shell.extra(f"Interface {port.get('name')} started\n")
