"""Moving what a network device has, addresses and routes, to another one, and asking whether a gateway answers.

Addresses and routes are carried over as the kernel wrote them, but for the device, so that metrics, lifetimes, preferred
sources and tables survive. Numbers are from linux/rtnetlink.h, if_addr.h and neighbour.h.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from guesthouse.errors import OperationFailed, SystemFailure
from guesthouse.network.netlink import IPAddress, Link, Netlink, attr, attrs_of, link_header, u32

_SETLINK, _NEWADDR, _DELADDR, _GETADDR = 19, 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE, _GETNEIGH = 24, 25, 26, 30
_CREATE, _APPEND = 0x400, 0x800
_IFLA_MASTER = 10
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_FLAGS = 1, 2, 3, 8
_TEMPORARY, _NODAD, _DADFAILED, _TENTATIVE, _PERMANENT = 0x01, 0x02, 0x08, 0x40, 0x80
_SCOPE_LINK = 253
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_CACHEINFO, _RTA_TABLE, _RTA_EXPIRES = 1, 4, 5, 9, 12, 15, 23
_TABLE_LOCAL, _UNICAST, _CLONED, _ONLINK = 255, 1, 0x200, 4
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_KNOWN = 0x02 | 0x04 | 0x08 | 0x10  # reachable, stale, delay, probe
_ANSWER_S = 5.0

Attrs = dict[int, bytes]


@dataclass(frozen=True)
class Belongings:
    """A device's addresses and routes: headers of struct ifaddrmsg and rtmsg with their attributes, in hex."""

    addresses: list[tuple[str, dict[str, str]]]
    routes: list[tuple[str, dict[str, str]]]

    def texts(self) -> list[str]:
        """The addresses, as "192.0.2.5/24"."""
        found = []
        for header, attrs in self.addresses:
            _, prefix, *_ = struct.unpack("=BBBBi", bytes.fromhex(header))
            raw = bytes.fromhex(attrs.get(str(_IFA_LOCAL)) or attrs[str(_IFA_ADDRESS)])
            found.append(str(ipaddress.ip_interface((raw, prefix))))
        return found

    def gateways(self) -> list[IPAddress]:
        """Where the default routes lead."""
        found: list[IPAddress] = []
        for header, attrs in self.routes:
            if bytes.fromhex(header)[1] == 0 and str(_RTA_GATEWAY) in attrs:
                found.append(ipaddress.ip_address(bytes.fromhex(attrs[str(_RTA_GATEWAY)])))
        return found


def _stored(header: bytes, attrs: Attrs) -> tuple[str, dict[str, str]]:
    return header.hex(), {str(kind): value.hex() for kind, value in attrs.items()}


def belongings(port: Link) -> Belongings:
    """What ``port`` has. Raises OperationFailed for a route over several devices, which cannot be moved as one."""
    addresses, routes = [], []
    with Netlink() as netlink:
        for body in netlink.dump(_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
            family, prefix, flags, scope, index = struct.unpack_from("=BBBBi", body)
            attrs = attrs_of(body[8:])
            every = struct.unpack("=I", attrs.get(_IFA_FLAGS, struct.pack("=I", flags)))[0]
            v6 = family == socket.AF_INET6
            # the kernel makes link-local and temporary addresses of a device by itself
            if index != port.index or (v6 and (scope == _SCOPE_LINK or every & _TEMPORARY)):
                continue
            every &= ~(_TEMPORARY | _DADFAILED | _TENTATIVE | _PERMANENT)
            attrs[_IFA_FLAGS] = struct.pack("=I", every | (_NODAD if v6 else 0))
            attrs.pop(_IFA_LABEL, None)  # has the device's name in it
            addresses.append(_stored(struct.pack("=BBBBi", family, prefix, every & 0xFF, scope, 0), attrs))
        for body in netlink.dump(_GETROUTE, bytes(12)):
            family, size, _, _, table, _, _, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
            attrs = attrs_of(body[12:])
            if family not in (socket.AF_INET, socket.AF_INET6) or kind != _UNICAST or flags & _CLONED:
                continue
            if _RTA_MULTIPATH in attrs and struct.pack("=i", port.index) in attrs[_RTA_MULTIPATH]:
                raise OperationFailed(f"a route leads over {port.name} and other devices at once; remove it first")
            full = struct.unpack("=I", attrs.get(_RTA_TABLE, struct.pack("=I", table)))[0]
            if attrs.get(_RTA_OIF) != struct.pack("=i", port.index) or full == _TABLE_LOCAL:
                continue
            if family == socket.AF_INET6 and attrs.get(_RTA_DST, b"")[:1] in (b"\xfe", b"\xff") and size <= 64:
                continue
            (expires,) = struct.unpack_from("=8xi", attrs.pop(_RTA_CACHEINFO, bytes(12)))
            if expires > 0:  # told in hundredths of a second, asked for in seconds
                attrs[_RTA_EXPIRES] = struct.pack("=I", expires // 100)
            routes.append(_stored(body[:8] + struct.pack("=I", flags & _ONLINK), attrs))
    # what a gateway is reached by comes before the routes that lead through it
    routes.sort(key=lambda route: str(_RTA_GATEWAY) in route[1])
    return Belongings(addresses, routes)


def static(addresses: list[str], gateways: list[str]) -> Belongings:
    """What a device has that is given ``addresses`` (with prefix lengths) and default routes.

    Raises OperationFailed where a gateway is on none of their networks.
    """
    found = []
    for text in addresses:
        ip = ipaddress.ip_interface(text)
        v4 = ip.version == 4
        attrs = {_IFA_LOCAL: ip.packed, _IFA_ADDRESS: ip.packed, _IFA_FLAGS: struct.pack("=I", 0 if v4 else _NODAD)}
        if v4 and ip.network.prefixlen < 31:
            attrs[4] = ip.network.broadcast_address.packed
        family = socket.AF_INET if v4 else socket.AF_INET6
        found.append(_stored(struct.pack("=BBBBi", family, ip.network.prefixlen, 0, 0, 0), attrs))
    routes = []
    for text in gateways:
        gateway = ipaddress.ip_address(text)
        if not any(gateway in ipaddress.ip_interface(a).network for a in addresses):
            raise OperationFailed(f"the gateway {gateway} is on no network of {', '.join(addresses) or 'the bridge'}")
        family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
        header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 4, 0, _UNICAST, 0)
        routes.append(_stored(header, {_RTA_GATEWAY: gateway.packed, _RTA_OIF: bytes(4)}))
    return Belongings(found, routes)


def _address_messages(kind: int, flags: int, owned: Belongings, index: int) -> list[tuple[int, int, bytes]]:
    messages = []
    for header, attrs in owned.addresses:
        head = bytes.fromhex(header)[:4] + struct.pack("=i", index)
        messages.append((kind, flags, head + b"".join(attr(int(k), bytes.fromhex(v)) for k, v in attrs.items())))
    return messages


def _route_messages(kind: int, flags: int, owned: Belongings, index: int) -> list[tuple[int, int, bytes]]:
    messages = []
    for header, attrs in owned.routes:
        values = {int(k): bytes.fromhex(v) for k, v in attrs.items()} | {_RTA_OIF: struct.pack("=i", index)}
        body = bytes.fromhex(header) + b"".join(attr(k, v) for k, v in values.items())
        messages.append((kind, flags, body))
    return messages


def move(source: int, had: Belongings, target: int, has: Belongings, port: int, master: int) -> None:
    """In one transaction: device ``port`` becomes a port of ``master`` (0: of none), ``source`` loses what it had, and
    ``target`` gets what it has from now on.

    Raises SystemFailure with the kernel's first refusal; the rest is done then, and the caller moves back. What is there
    already, or gone already, is no refusal.
    """
    changes = [(_SETLINK, 0, link_header(port) + u32(_IFLA_MASTER, master))]
    changes += _route_messages(_DELROUTE, 0, had, source)
    changes += _address_messages(_DELADDR, 0, had, source)
    changes += _address_messages(_NEWADDR, _CREATE, has, target)
    changes += _route_messages(_NEWROUTE, _CREATE | _APPEND, has, target)
    with Netlink() as netlink:
        for code in netlink.batch(changes):
            if code not in (0, errno.EEXIST, errno.EADDRNOTAVAIL, errno.ESRCH):
                raise SystemFailure.from_os(OSError(code, os.strerror(code)), "cannot move the addresses")


def create(name: str, port: Link, *, stp: bool) -> Link:
    """Make bridge ``name``, up, with the port's MAC address and MTU, so that leases and neighbours stay valid.

    Raises SystemFailure (EEXIST where the name is taken, EPERM without rights); then nothing is left.
    """
    with Netlink() as netlink:
        try:
            netlink.create_bridge(name, mac=port.mac, mtu=port.mtu, stp=stp, delay=15 if stp else 0)
            link = netlink.link(name)
            if link is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            try:
                # router advertisements are believed as on the port: the host stays a host there
                _copy_ipv6(port.name, name)
                netlink.set_link(link.index, up=True)
            except OSError:
                netlink.delete_link(link.index)
                raise
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot make the bridge {name}") from error
    return link


def _copy_ipv6(port: str, bridge: str) -> None:
    base = Path("/proc/sys/net/ipv6/conf")
    for setting in ("disable_ipv6", "accept_ra", "autoconf", "addr_gen_mode", "use_tempaddr"):
        with contextlib.suppress(OSError):
            (base / bridge / setting).write_text((base / port / setting).read_text())


def delete(name: str, mac: str) -> None:
    """Remove the bridge of that name and MAC address; none, or another's, is left alone."""
    with Netlink() as netlink:
        link = netlink.link(name)
        if link is not None and link.kind == "bridge" and link.mac == mac:
            try:
                netlink.delete_link(link.index)
            except OSError as error:
                raise SystemFailure.from_os(error, f"cannot remove the bridge {name}") from error


def ports(bridge: Link) -> list[str]:
    with Netlink() as netlink:
        return sorted(link.name for link in netlink.links() if link.master == bridge.index)


def links() -> list[Link]:
    with Netlink() as netlink:
        return netlink.links()


def find(name: str) -> Link | None:
    with Netlink() as netlink:
        return netlink.link(name)


def answers(device: Link, gateway: IPAddress, timeout: float = _ANSWER_S) -> bool:
    """Whether ``gateway`` is heard of on ``device``: a packet is sent its way, and the kernel asked for what ARP or
    neighbour discovery found within ``timeout`` seconds. It need not answer pings."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        # the discard port: what counts is that the kernel must find the neighbour first
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET if gateway.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe,
        ):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.name.encode())
            where = (str(gateway), 9) if gateway.version == 4 else (str(gateway), 9, 0, device.index)
            probe.sendto(b"", where)
        for _ in range(5):
            if _neighbour_known(device.index, gateway):
                return True
            time.sleep(0.1)
    return False


def _neighbour_known(index: int, address: IPAddress) -> bool:
    with Netlink() as netlink:
        for body in netlink.dump(_GETNEIGH, bytes(12)):
            _family, device, state = struct.unpack_from("=BxxxiH", body)
            attrs = attrs_of(body[12:])
            if device == index and attrs.get(_NDA_DST) == address.packed:
                return bool(state & _NUD_KNOWN) and bool(attrs.get(_NDA_LLADDR))
    return False
