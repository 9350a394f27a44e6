"""Ports of the host's that lead to guests, which libvirt has no words for: an extension, in a network's metadata.

    <metadata>
      <guesthouse:forwards xmlns:guesthouse="urn:guesthouse:network:1">
        <guesthouse:portForward proto="tcp" host="8080" guest="web" port="80" address="192.0.2.1"/>
      </guesthouse:forwards>
    </metadata>

One alone may stand in the metadata without the element around it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from lxml import etree

from guesthouse.errors import ConfigUnsupported, Domain, XMLError
from guesthouse.model import metadata
from guesthouse.model.network import IPAddress, Network

NAMESPACE = "urn:guesthouse:network:1"
#: Modes in which a guest's answers find their way back.
_MODES = ("nat", "route", "open")
_ATTRIBUTES = ("proto", "host", "guest", "port", "address")


@dataclass(frozen=True)
class PortForward:
    """``host`` are the host's ports, first and last; ``guest`` is a guest's name, MAC or IP address; ``port`` is the
    guest's, None for the same as the host's; ``address`` is the host's address that counts, None for all of them."""

    proto: str
    host: tuple[int, int]
    guest: str
    port: int | None = None
    address: IPAddress | None = None

    def overlaps(self, other: PortForward) -> bool:
        """Whether a connection could be meant by both."""
        same = self.proto == other.proto and (None in (self.address, other.address) or self.address == other.address)
        return same and self.host[0] <= other.host[1] and other.host[0] <= self.host[1]

    def __str__(self) -> str:
        first, last = self.host
        ports = str(first) if first == last else f"{first}-{last}"
        return f"{self.proto} {ports}" + (f" of {self.address}" if self.address else "")


def of(network: Network) -> list[PortForward]:
    """The forwards of a network, in their order. Raises XMLError for what is none, for two that want the same port, and
    ConfigUnsupported where the network's mode has no use for them."""
    found: list[PortForward] = []
    root: Any = network.metadata
    for node in root if root is not None else ():
        if not isinstance(node.tag, str) or etree.QName(node).namespace != NAMESPACE:
            continue
        for item in node.iter("portForward", f"{{{NAMESPACE}}}portForward"):
            made = _read(item)
            twice = next((other for other in found if made.overlaps(other)), None)
            if twice is not None:
                raise _wrong(f"port {made} is forwarded twice, to '{twice.guest}' and to '{made.guest}'")
            found.append(made)
    if found and network.mode not in _MODES:
        text = f"network '{network.name}' cannot have <portForward>: its guests' answers do not leave it"
        raise ConfigUnsupported(f"{text} (forward mode nat, route or open)", domain=Domain.NETWORK)
    return found


def _wrong(text: str) -> XMLError:
    return XMLError(text, domain=Domain.NETWORK)


def _read(node: Any) -> PortForward:
    for name in node.attrib:
        if name not in _ATTRIBUTES:
            raise _wrong(f"unknown attribute '{name}' of <portForward>; expected {', '.join(_ATTRIBUTES)}")
    proto, guest = node.get("proto", "tcp"), node.get("guest")
    if proto not in ("tcp", "udp"):
        raise _wrong(f"bad proto '{proto}' of <portForward>; expected tcp or udp")
    if not guest:
        raise _wrong("<portForward> needs a guest: its name, MAC or IP address")
    first, _, last = node.get("host", "").partition("-")
    host = (_port(first, "host"), _port(last or first, "host"))
    if host[1] < host[0]:
        raise _wrong(f"bad ports '{node.get('host')}' of <portForward>: the last is before the first")
    port = _port(node.get("port"), "port") if node.get("port") else None
    if port is not None and host[0] != host[1]:
        raise _wrong("<portForward> of several ports leads to the same ones: leave 'port' out")
    address = None
    if node.get("address"):
        try:
            address = ipaddress.ip_address(node.get("address"))
        except ValueError:
            raise _wrong(f"bad address '{node.get('address')}' of <portForward>") from None
    return PortForward(proto, host, guest, port, address)


def _port(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise _wrong(f"bad {what} '{text}' of <portForward>; expected 1 to 65535")
    return int(text)


def with_forwards(before: str | None, add: list[PortForward], without: str = "") -> str | None:
    """The metadata element (the text under :data:`NAMESPACE`, None where there is none) with more forwards, and without
    those to the guest called ``without``; None where none is left. What stands there else is kept."""
    root: Any = etree.fromstring(before) if before else etree.Element("forwards")
    if etree.QName(root).localname == "portForward":
        alone, root = root, etree.Element("forwards")
        root.append(alone)
    for item in list(root.iter("portForward", f"{{{NAMESPACE}}}portForward")):
        if without and item.get("guest") == without:
            item.getparent().remove(item)
    for forward in add:
        first, last = forward.host
        item = etree.SubElement(root, f"{{{NAMESPACE}}}portForward", nsmap={"guesthouse": NAMESPACE})
        item.set("proto", forward.proto)
        item.set("host", str(first) if first == last else f"{first}-{last}")
        item.set("guest", forward.guest)
        if forward.port is not None:
            item.set("port", str(forward.port))
        if forward.address is not None:
            item.set("address", str(forward.address))
    return etree.tostring(root, encoding="unicode") if len(root) else None


def element(network: Network) -> str | None:
    """What the network has under :data:`NAMESPACE`."""
    node = metadata.find(network.metadata, NAMESPACE)
    return None if node is None else etree.tostring(node, encoding="unicode", with_tail=False)
