"""Where a guest's card is plugged in when nobody says, and addresses that nobody has."""

from __future__ import annotations

from pathlib import Path

from guesthouse import units
from guesthouse.model.devices.interface import Interface, InterfaceSource
from guesthouse.provision.host import Host


def set_default_source(nic: Interface, host: Host) -> None:
    """The bridge that carries the host's own default route, else the network "default"; a user's daemon has QEMU's
    own network."""
    if host.is_session or host.driver == "test":
        nic.type = "user"
        return
    bridge = default_bridge(host)
    if bridge is not None:
        nic.type = "bridge"
        nic.source = InterfaceSource(bridge=bridge)
    else:
        nic.type = "network"
        nic.source = InterfaceSource(network="default")


def can_boot(nic: Interface, host: Host) -> bool:
    """Whether a guest may find a boot server through ``nic``, as far as one can tell."""
    if nic.type == "user":
        return False
    name = nic.source.network if nic.source is not None else None
    if nic.type != "network" or not name:
        return True
    from lxml import etree

    root = etree.fromstring(host.conn.network_lookup_by_name(name).get_xml_desc().encode())
    forward = root.find("forward")
    if forward is not None and forward.get("mode", "nat") not in ("nat", "route"):
        return True  # somebody else's network
    return root.find("ip/dhcp/bootp") is not None


def default_bridge(host: Host) -> str | None:
    """The bridge through which this host reaches the world, None where it is none or another machine's."""
    if host.is_remote:
        return None
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        name, destination, *_ = line.split()
        if destination == "00000000" and Path(f"/sys/class/net/{name}/bridge").is_dir():
            return name
    return None


def free_mac(host: Host) -> str:
    """A MAC address under QEMU's prefix that no guest of the host has."""
    used = macs(host)
    while True:
        mac = units.new_mac()
        if mac not in used:
            return mac


def macs(host: Host) -> dict[str, str]:
    """The MAC addresses of the host's guests, with the guest's name."""
    found = {}
    for name, root in host.domain_documents.items():
        for node in root.findall("devices/interface/mac"):
            found[(node.get("address") or "").lower()] = name
    return found
