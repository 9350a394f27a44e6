"""Commands that list a guest's disks and network interfaces."""

from __future__ import annotations

from guesthouse.cli.tables import format_table
from guesthouse.cli.virsh.command import alias, command, data, flag, string
from guesthouse.cli.virsh.devices import attribute, guest_xml
from guesthouse.cli.virsh.given import Failed, Given
from guesthouse.cli.virsh.objects import DOMAIN, domain
from guesthouse.cli.virsh.shell import Shell
from guesthouse.errors import Domain, InternalError, XMLError
from guesthouse.units import parse_mac, pretty_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from xml.etree.ElementTree import Element

_XML_INACTIVE = 2
_SOURCES = {"lease": 0, "agent": 1, "arp": 2}
_INACTIVE = flag("inactive", "as defined, rather than as it runs")


@command(
    "monitor",
    "domblklist",
    "list a guest's disks",
    DOMAIN,
    _INACTIVE,
    flag("details", "with type and device"),
    description="List a guest's disks and what is behind them.",
)
def list_disks(shell: Shell, given: Given) -> None:
    details = given.has("details")
    guest, _ = domain(shell, given)
    root = guest_xml(shell, guest, _XML_INACTIVE if given.has("inactive") else 0)
    rows = []
    for disk in root.findall("devices/disk"):
        target = attribute(disk, "target", "dev")
        if target is None:
            raise Failed("unable to query block list")
        kind = disk.get("type", "")
        source = _nvme(disk) if kind == "nvme" else attribute(disk, "source", *_SOURCE_ATTRIBUTES)
        cells = [target, source or "-"]
        rows.append([kind, disk.get("device", ""), *cells] if details else cells)
    head = ["Type", "Device", "Target", "Source"] if details else ["Target", "Source"]
    shell.out(format_table(head, rows, header=not shell.quiet))


_SOURCE_ATTRIBUTES = ("file", "dev", "dir", "name", "volume", "path")


def _nvme(disk: Element) -> str:
    address = disk.find("source/address")
    namespace = attribute(disk, "source", "namespace")
    if address is None or namespace is None:
        raise Failed("Unable to query NVMe disk address")
    domain_, bus, slot, function = (int(address.get(n, "0"), 0) for n in ("domain", "bus", "slot", "function"))
    return f"nvme://{domain_:04x}:{bus:02x}:{slot:02x}.{function}/{namespace}"


@command(
    "monitor",
    "domiflist",
    "list a guest's network interfaces",
    DOMAIN,
    _INACTIVE,
    description="List a guest's network interfaces and what they are plugged into.",
)
def list_interfaces(shell: Shell, given: Given) -> None:
    guest, _ = domain(shell, given)
    root = guest_xml(shell, guest, _XML_INACTIVE if given.has("inactive") else 0)
    rows = [
        [
            attribute(interface, "target", "dev") or "-",
            interface.get("type", ""),
            attribute(interface, "source", "bridge", "dev", "network", "name", "path") or "-",
            attribute(interface, "model", "type") or "-",
            attribute(interface, "mac", "address") or "-",
        ]
        for interface in root.findall("devices/interface")
    ]
    head = ["Interface", "Type", "Source", "Model", "MAC"]
    shell.out(format_table(head, rows, header=not shell.quiet))


@command(
    "monitor",
    "domblkinfo",
    "show the sizes of a guest's disk",
    DOMAIN,
    string("device", "the disk: its target or source", "disk"),
    flag("human", "in units for people"),
    flag("all", "of all disks"),
    description="Show what a disk can hold, what it takes of the host, and how long its file is.",
)
def disk_sizes(shell: Shell, given: Given) -> None:
    given.exclusive("all", "device")
    guest, _ = domain(shell, given)
    device = given.raw("device")
    if not given.has("all"):
        if not device:
            raise Failed("command 'domblkinfo' requires <device> option")
        sizes = _sizes(guest.call("get_block_info", path=device, flags=0), given.has("human"))
        for label, size in zip(("Capacity:", "Allocation:", "Physical:"), sizes, strict=True):
            shell.out(f"{label:<15} {size}\n")
        return
    active = guest.is_active()
    rows = []
    for disk in guest_xml(shell, guest).findall("devices/disk"):
        target = attribute(disk, "target", "dev") or ""
        info = None
        if disk.find("source") is not None:
            try:
                info = guest.call("get_block_info", path=target, flags=0)
            except InternalError as error:
                # a network disk of a guest that does not run has no figures
                if active or error.domain != Domain.STORAGE or attribute(disk, "source", "protocol") is None:
                    raise
        rows.append([target, *_sizes(info, given.has("human"))])
    shell.out(format_table(["Target", "Capacity", "Allocation", "Physical"], rows, header=not shell.quiet))


def _sizes(info: Any, human: bool) -> list[str]:
    sizes = [0, 0, 0] if info is None else [info.capacity, info.allocation, info.physical]
    if not any(sizes):
        return ["-", "-", "-"]
    if not human:
        return [str(size) for size in sizes]
    return ["{:.3f} {}".format(*pretty_size(size)) for size in sizes]


@command(
    "monitor",
    "domif-getlink",
    "show whether an interface's link is up",
    DOMAIN,
    data("interface", "the interface: its device or MAC address", "card"),
    alias("persistent", "config"),
    flag("config", "as defined, rather than as it runs"),
    description="Show the state of a virtual network cable.",
)
def link_state(shell: Shell, given: Given) -> None:
    wanted = given.need("interface")
    guest, _ = domain(shell, given)
    root = guest_xml(shell, guest, _XML_INACTIVE if given.has("config") else 0)
    try:
        mac = parse_mac(wanted)
    except XMLError:
        mac = ""
    found = [
        interface
        for interface in root.findall("devices/interface")
        if attribute(interface, "mac", "address") == mac or attribute(interface, "target", "dev") == wanted
    ]
    if not found:
        raise Failed(f"Interface ({f'mac: {mac}' if mac else f'dev: {wanted}'}) not found.")
    if len(found) > 1:
        raise Failed("multiple matching interfaces found")
    shell.out(f"{wanted} {attribute(found[0], 'link', 'state') or 'up'}")


@command(
    "monitor",
    "domifaddr",
    "show a guest's network addresses",
    DOMAIN,
    string("interface", "only of this interface", "card"),
    flag("full", "repeat name and MAC address in every line"),
    string("source", "who is asked: lease (the default), agent or arp", " ".join(_SOURCES)),
    description="Show the addresses that a guest's network interfaces have.",
)
def addresses(shell: Shell, given: Given) -> None:
    wanted = given.text("interface")
    source = given.text("source")
    if source is not None and source not in _SOURCES:
        raise Failed(f"Unknown data source '{source}'")
    guest, _ = domain(shell, given)
    with shell.explain("Failed to query for interfaces addresses"):
        interfaces = guest.interface_addresses(_SOURCES[source or "lease"])
    head = f" {'Name':<10} {'MAC address':<20} {'Protocol':<8}     Address\n"
    shell.extra(head + "-" * 79 + "\n")
    for interface in interfaces:
        if wanted is not None and interface.name != wanted:
            continue
        mac = _first(interface.hwaddr)
        if not interface.addrs:
            shell.out(f" {interface.name:<10} {mac or 'N/A':<17}    {'N/A':<12} N/A\n")
        for index, address in enumerate(interface.addrs):
            named = given.has("full") or index == 0
            name, shown = (interface.name, mac or "") if named else ("-", "-")
            family = ("ipv4", "ipv6")[address.type]
            shell.out(f" {name:<10} {shown:<17}    {family:<12} {address.addr}/{address.prefix}\n")


def _first(value: Any) -> str | None:
    """An optional string of the protocol, which may come as a list of one."""
    if isinstance(value, list | tuple):
        return str(value[0]) if value else None
    return None if value is None else str(value)
