"""Commands that add, remove and change devices of any kind, described in XML."""

from __future__ import annotations

from guesthouse.cli.virsh.command import command, data, flag, number, string
from guesthouse.cli.virsh.device_xml import change_flags, change_options, document, send, text, with_live
from guesthouse.cli.virsh.domain_metadata import affect_flags, affected
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain, read_file
from guesthouse.cli.virsh.shell import Shell

_FORCE = 4
_CONFIG = 2
_FILE = data("file", "file with the device's XML", "file")
_LIVE, _DEFINED, _CURRENT = affected()


@command(
    "domain",
    "attach-device",
    "add a device to a guest",
    DOMAIN,
    _FILE,
    *change_options(),
    description="Add the device that an XML file describes to a guest.",
)
def attach(shell: Shell, given: Given) -> None:
    flags = change_flags(given)
    guest, _ = domain(shell, given)
    file = given.need("file")
    flags = with_live(given, guest, flags)
    xml = read_file(file)
    with shell.explain(f"Failed to attach device from {file}"):
        send(given, guest, "attach", xml, flags)
    shell.extra("Device attached successfully\n")


@command(
    "domain",
    "detach-device",
    "remove a device from a guest",
    DOMAIN,
    _FILE,
    *change_options(),
    description="Remove the device that an XML file describes from a guest.",
)
def detach(shell: Shell, given: Given) -> None:
    flags = change_flags(given)
    guest, _ = domain(shell, given)
    file = given.need("file")
    flags = with_live(given, guest, flags)
    xml = read_file(file)
    with shell.explain(f"Failed to detach device from {file}"):
        send(given, guest, "detach", xml, flags)
    shell.extra("Device detached successfully\n")


@command(
    "domain",
    "detach-device-alias",
    "remove a device from a guest, by its alias",
    DOMAIN,
    data("alias", "the device's alias"),
    _DEFINED,
    _LIVE,
    _CURRENT,
    description="Ask for a device to be removed, and do not wait until it is: an event tells.",
)
def detach_alias(shell: Shell, given: Given) -> None:
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    name = given.need("alias")
    with shell.explain(f"Failed to detach device with alias {name}"):
        guest.call("detach_device_alias", alias=name, flags=flags)
    shell.extra("Device detach request sent successfully\n")


@command(
    "domain",
    "update-device",
    "change a device of a guest",
    DOMAIN,
    _FILE,
    *change_options(),
    flag("force", "even where the guest holds on to it"),
    description="Make a device of a guest like the one that an XML file describes.",
)
def update(shell: Shell, given: Given) -> None:
    flags = change_flags(given)
    guest, _ = domain(shell, given)
    file = given.need("file")
    flags = with_live(given, guest, flags)
    xml = read_file(file)
    if given.has("force"):
        flags |= _FORCE
    with shell.explain(f"Failed to update device from {file}"):
        guest.call("update_device_flags", xml=xml, flags=flags)
    shell.extra("Device updated successfully\n")


@command(
    "domain",
    "update-memory-device",
    "change a memory device of a guest",
    DOMAIN,
    _DEFINED,
    _LIVE,
    _CURRENT,
    flag("print-xml", "show the device's changed XML, and change nothing"),
    string("alias", "the device's alias"),
    number("node", "the NUMA node of the guest that the device belongs to"),
    number("requested-size", "how much of it the guest shall use; a bare number is KiB"),
    description="Say how much of a virtio memory device a guest shall use.",
)
def update_memory(shell: Shell, given: Given) -> None:
    given.exclusive("node", "alias")
    flags = affect_flags(given)
    guest, _ = domain(shell, given)
    root = document(shell, guest, inactive=bool(flags & _CONFIG))
    name, node = given.text("alias"), given.unsigned("node")
    found = root.findall("devices/memory")
    if node is not None:
        found = [memory for memory in found if memory.findtext("target/node") == str(node)]
    elif name is not None:
        found = [
            memory for memory in found if memory.find("alias") is not None and memory.find("alias").get("name") == name
        ]
    if not found:
        raise Failed("no memory device found")
    if len(found) > 1:
        raise Failed("multiple memory devices found, use --alias or --node to select one")
    size = given.scaled("requested-size", 1024)
    if size is not None:
        requested = found[0].find("target/requested")
        if requested is None:
            raise Failed("virtio-mem device is missing <requested/>")
        requested.text = str(-(-size // 1024))
    xml = text(found[0])
    if given.has("print-xml"):
        shell.out(xml)
    else:
        guest.call("update_device_flags", xml=xml, flags=flags)
