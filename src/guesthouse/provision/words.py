"""What people write for sizes and for ports of the host, on command lines and in files."""

from __future__ import annotations

import ipaddress
import re

from guesthouse.errors import InvalidArg
from guesthouse.model.port_forward import PortForward
from guesthouse.units import GIB, MIB

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?")
_PUBLISHED = re.compile(
    r"(?P<address>(\[[^]]+\]|[^:/]*[^:/0-9-][^:/]*):)?(?P<first>\d{1,5})(-(?P<last>\d{1,5}))?(:(?P<port>\d{1,5}))?(/(?P<proto>tcp|udp))?"
)


def size(text: str, unit: int) -> float:
    """ "1G" or "512M" in units of ``unit`` bytes; a number alone is of that unit. Raises InvalidArg."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise InvalidArg(f"'{text}' is no size, such as 512M or 10G")
    factor = {"": unit, "k": 1 << 10, "m": MIB, "g": GIB, "t": GIB << 10}[match[2].lower()]
    return float(match[1]) * factor / unit


def published(text: str, guest: str) -> PortForward:
    """What "8080:80", "127.0.0.1:8080:80/udp", "[2001:db8::1]:8080:80" or "8000-8010" stands for. Raises InvalidArg."""
    match = _PUBLISHED.fullmatch(text)
    if match is None:
        raise InvalidArg(f"'{text}' is no port to publish, such as 8080:80, 127.0.0.1:8080:80, 53:53/udp or 8000-8010")
    first, last = int(match["first"]), int(match["last"] or match["first"])
    port = int(match["port"]) if match["port"] else None
    if not (0 < first <= last < 65536) or (port is not None and not 0 < port < 65536):
        raise InvalidArg(f"'{text}': ports are 1 to 65535")
    if port is not None and last != first:
        raise InvalidArg(f"'{text}': several ports lead to the same ones of the guest: {first}-{last}")
    try:
        address = ipaddress.ip_address(match["address"][:-1].strip("[]")) if match["address"] else None
    except ValueError:
        raise InvalidArg(f"'{text}': '{match['address'][:-1]}' is no IP address of this host") from None
    return PortForward(match["proto"] or "tcp", (first, last), guest, port, address)
