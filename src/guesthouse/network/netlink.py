"""As much of the kernel's routing netlink as bridges and taps need: links, addresses and routes.

pyroute2 would do it all, but importing it costs the daemon 24 MB and 80 ms, more than all its guests' bookkeeping;
this needs a handful of messages. Numbers are from linux/rtnetlink.h, if_link.h, if_addr.h and if_bridge.h.
Calls are synchronous and take some ten microseconds, but for those that make the kernel wait (deleting a link).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _GETROUTE = 24, 26
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 1, 4, 0x300, 0x200, 0x400
_MSG_ERROR, _MSG_DONE = 2, 3
_IFF_UP = 1

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
_INFO_KIND, _INFO_DATA = 1, 2
_IFLA_VFINFO_LIST, _IFLA_EXT_MASK, _VF_INFO, _VF_MAC, _VF_VLAN, _WITH_VFS = 22, 29, 1, 1, 2, 1
_MACVLAN_MODE = 1
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthrough": 8}
_BR_FORWARD_DELAY, _BR_STP_STATE, _BR_VLAN_FILTERING = 1, 5, 7
_IFLA_PROTINFO_NESTED = 12 | 0x8000
_BRPORT_LEARNING, _BRPORT_UNICAST_FLOOD, _BRPORT_ISOLATED = 8, 9, 33
_NEWNEIGH = 28
_NUD_REACHABLE, _NTF_MASTER, _NDA_LLADDR = 0x02, 0x04, 2
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST = 254, 4, 1
RTPROT_RA = 9


@dataclass(frozen=True)
class Link:
    """A network device: its index, name, MAC ('' where it has none), MTU, whether it is up, and what it is a port of
    (the bridge's index, 0 for none). ``kind`` is "bridge", "tun", "veth", ..., '' for hardware."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    master: int
    kind: str


@dataclass(frozen=True)
class Route:
    """A route of the main table; ``protocol`` says who made it (9: a router advertisement)."""

    destination: IPNetwork
    device: int
    protocol: int


def attr(kind: int, payload: bytes) -> bytes:
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + bytes(-size % 4)


def _text(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def _u8(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=B", value))


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def attrs_of(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


def link_header(index: int, *, up: bool | None = None, family: int = 0) -> bytes:
    flags, change = (0, 0) if up is None else (_IFF_UP if up else 0, _IFF_UP)
    return struct.pack("=BxHiII", family, 0, index, flags, change)


class Netlink:
    """One netlink socket in the network namespace of the thread that made it; a context manager.

    Every method raises OSError with the kernel's errno (ENODEV: no such device; EPERM: no right).
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._serial = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._serial += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, self._serial, 0) + body)

    def _replies(self) -> Iterator[tuple[int, bytes]]:
        while True:
            data = self._socket.recv(1 << 18)
            while data:
                size, kind, _flags, serial, _pid = struct.unpack_from("=IHHII", data)
                body, data = data[16:size], data[(size + 3) & ~3 :]
                if serial != self._serial:
                    continue
                if kind == _MSG_DONE:
                    return
                if kind == _MSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield kind, body

    def _do(self, kind: int, flags: int, body: bytes) -> None:
        self._send(kind, flags | _ACK, body)
        for _ in self._replies():
            pass

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        self._send(kind, _DUMP, body)
        for _, reply in self._replies():
            yield reply

    def batch(self, messages: list[tuple[int, int, bytes]]) -> list[int]:
        """Send (kind, flags, body) of several changes in one system call, so that the kernel makes them one right after
        the other; it goes on behind one that it refuses. The errno of each, 0 for what was done."""
        first, data = self._serial + 1, b""
        for kind, flags, body in messages:
            self._serial += 1
            body += bytes(-len(body) % 4)
            data += struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST | _ACK, self._serial, 0) + body
        self._socket.send(data)
        codes = []
        for serial in range(first, first + len(messages)):
            self._serial = serial
            try:
                for _ in self._replies():
                    pass
            except OSError as error:
                codes.append(error.errno or errno.EIO)
            else:
                codes.append(0)
        return codes

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All replies to a question, as the kernel wrote them."""
        return list(self._dump(kind, body))

    def link(self, name: str) -> Link | None:
        """The device called ``name``, or None. Raises nothing for a name that no device could have."""
        if not name or len(name.encode()) > 15:
            return None
        self._send(_GETLINK, _ACK, link_header(0) + _text(_IFLA_IFNAME, name))
        found = None
        try:
            for _, body in self._replies():
                found = _parse_link(body)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
        return found

    def links(self) -> list[Link]:
        """All devices of this namespace."""
        return [_parse_link(body) for body in self._dump(_GETLINK, link_header(0))]

    def addresses(self) -> list[tuple[int, IPInterface]]:
        """All addresses, with the index of their device."""
        found = []
        for body in self._dump(_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
            _family, prefix, _flags, _scope, index = struct.unpack_from("=BBBBi", body)
            attrs = attrs_of(body[8:])
            raw = attrs.get(_IFA_LOCAL) or attrs.get(_IFA_ADDRESS)
            if raw:
                found.append((index, ipaddress.ip_interface((raw, prefix))))
        return found

    def routes(self) -> list[Route]:
        """The main table's routes of both families; default routes have the destination 0.0.0.0/0 or ::/0."""
        found = []
        for body in self._dump(_GETROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, size, _, _, table, protocol, _, kind, _ = struct.unpack_from("=BBBBBBBBI", body)
            if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
                continue
            attrs = attrs_of(body[12:])
            raw = attrs.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
            (device,) = struct.unpack("=i", attrs.get(_RTA_OIF, bytes(4)))
            found.append(Route(ipaddress.ip_network((raw, size), strict=False), device, protocol))
        return found

    def create_bridge(
        self, name: str, *, mac: str, mtu: int | None, stp: bool, delay: int, vlan_filtering: bool = False
    ) -> None:
        """Make a bridge that is down. ``delay`` is the forward delay in seconds. EEXIST where the name is taken."""
        # the kernel counts this delay in hundredths of a second
        data = u32(_BR_FORWARD_DELAY, delay * 100) + u32(_BR_STP_STATE, int(stp))
        if vlan_filtering:
            data += _u8(_BR_VLAN_FILTERING, 1)
        info = _text(_INFO_KIND, "bridge") + attr(_INFO_DATA, data)
        body = link_header(0) + _text(_IFLA_IFNAME, name) + attr(_IFLA_ADDRESS, _mac_bytes(mac))
        if mtu:
            body += u32(_IFLA_MTU, mtu)
        self._do(_NEWLINK, _CREATE | _EXCL, body + attr(_IFLA_LINKINFO, info))

    def create_macvtap(self, name: str, lower: int, *, mac: str, mode: str) -> None:
        """Make a macvtap device that is down, on the device ``lower``. ``mode`` is "private", "vepa", "bridge" or
        "passthrough". EEXIST where the name is taken, EBUSY or EINVAL where the device below is another's already."""
        info = _text(_INFO_KIND, "macvtap") + attr(_INFO_DATA, u32(_MACVLAN_MODE, _MACVLAN_MODES[mode]))
        body = link_header(0) + _text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, lower)
        body += attr(_IFLA_ADDRESS, _mac_bytes(mac)) + attr(_IFLA_LINKINFO, info)
        self._do(_NEWLINK, _CREATE | _EXCL, body)

    def delete_link(self, index: int) -> None:
        self._do(_DELLINK, 0, link_header(index))

    def set_link(
        self,
        index: int,
        *,
        up: bool | None = None,
        mac: str | None = None,
        mtu: int | None = None,
        master: int | None = None,
    ) -> None:
        """Change what is given, in one message; the kernel applies MAC, MTU, master and state in this order."""
        body = link_header(index, up=up)
        if mac is not None:
            body += attr(_IFLA_ADDRESS, _mac_bytes(mac))
        if mtu is not None:
            body += u32(_IFLA_MTU, mtu)
        if master is not None:
            body += u32(_IFLA_MASTER, master)
        self._do(_SETLINK, 0, body)

    def function(self, index: int, number: int) -> tuple[str, int]:
        """The MAC and the VLAN that a network card, device ``index``, has for its virtual function ``number``. Raises
        OSError (ENODEV) where it has no such function."""
        self._send(_GETLINK, _ACK, link_header(index) + u32(_IFLA_EXT_MASK, _WITH_VFS))
        mac, vlan = "", 0
        for _, body in self._replies():
            entries = attrs_of(body[16:]).get(_IFLA_VFINFO_LIST, b"")
            while len(entries) >= 4:
                (size,) = struct.unpack_from("=H", entries)
                info, entries = attrs_of(entries[4:size]), entries[max((size + 3) & ~3, 4) :]
                address, tag = info.get(_VF_MAC, b""), info.get(_VF_VLAN, b"")
                if len(address) >= 10 and struct.unpack_from("=I", address)[0] == number:
                    mac = address[4:10].hex(":")
                    vlan = struct.unpack_from("=I", tag, 4)[0] if len(tag) >= 8 else 0
        if not mac:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return mac, vlan

    def set_function(self, index: int, number: int, mac: str, vlan: int) -> None:
        """Have a network card give its virtual function ``number`` this MAC and VLAN (0: none)."""
        address = attr(_VF_MAC, struct.pack("=I32s", number, _mac_bytes(mac)))
        tag = attr(_VF_VLAN, struct.pack("=III", number, vlan, 0))
        self._do(_SETLINK, 0, link_header(index) + attr(_IFLA_VFINFO_LIST, attr(_VF_INFO, address + tag)))

    def isolate_port(self, index: int) -> None:
        """Make the bridge port that device ``index`` is reach no other isolated one."""
        data = _u8(_BRPORT_ISOLATED, 1)
        self._do(_SETLINK, 0, link_header(index, family=socket.AF_BRIDGE) + attr(_IFLA_PROTINFO_NESTED, data))

    def fix_port(self, index: int, mac: str) -> None:
        """Have a bridge know that ``mac`` alone is behind its port ``index``: nothing is learned from what comes, and
        nothing else is sent there (but what is for many)."""
        data = _u8(_BRPORT_LEARNING, 0) + _u8(_BRPORT_UNICAST_FLOOD, 0)
        self._do(_SETLINK, 0, link_header(index, family=socket.AF_BRIDGE) + attr(_IFLA_PROTINFO_NESTED, data))
        entry = struct.pack("=BxxxiHBB", socket.AF_BRIDGE, index, _NUD_REACHABLE, _NTF_MASTER, 0)
        self._do(_NEWNEIGH, _CREATE | _EXCL, entry + attr(_NDA_LLADDR, _mac_bytes(mac)))

    def add_address(self, index: int, address: IPInterface) -> None:
        """Give a device an address. An IPv6 one is usable at once: a bridge without ports has no carrier, so
        duplicate address detection would not end before its first guest."""
        raw = address.packed
        v4 = isinstance(address, ipaddress.IPv4Interface)
        family, flags = (socket.AF_INET, 0) if v4 else (socket.AF_INET6, _IFA_F_NODAD)
        prefix = address.network.prefixlen
        body = struct.pack("=BBBBi", family, prefix, flags, 0, index)
        body += attr(_IFA_LOCAL, raw) + attr(_IFA_ADDRESS, raw)
        if v4 and prefix < 31:
            body += attr(_IFA_BROADCAST, address.network.broadcast_address.packed)
        self._do(_NEWADDR, _CREATE | _EXCL, body)

    def add_route(self, index: int, destination: IPNetwork, gateway: IPAddress, metric: int) -> None:
        """Add a static route to the main table."""
        family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
        body = struct.pack(
            "=BBBBBBBBI", family, destination.prefixlen, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, _RTN_UNICAST, 0
        )
        body += attr(_RTA_DST, destination.network_address.packed) + attr(_RTA_GATEWAY, gateway.packed)
        body += u32(_RTA_OIF, index) + u32(_RTA_PRIORITY, metric)
        self._do(_NEWROUTE, _CREATE | _EXCL, body)


def _parse_link(body: bytes) -> Link:
    _family, _kind, index, flags, _change = struct.unpack_from("=BxHiII", body)
    attrs = attrs_of(body[16:])
    raw_mac = attrs.get(_IFLA_ADDRESS, b"")
    info = attrs_of(attrs.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=attrs[_IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"),
        mac=raw_mac.hex(":") if len(raw_mac) == 6 else "",
        mtu=struct.unpack("=I", attrs.get(_IFLA_MTU, bytes(4)))[0],
        up=bool(flags & _IFF_UP),
        master=struct.unpack("=I", attrs.get(_IFLA_MASTER, bytes(4)))[0],
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
    )
