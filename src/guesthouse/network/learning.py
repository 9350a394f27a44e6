"""Learning which IPv4 address a guest has, from the packets at its tap."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable

from guesthouse.errors import SystemFailure

_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_OUTGOING = 4  # to the guest, as a socket at its tap sees it
_ARP, _IPV4, _UDP = 0x0806, 0x0800, 17
_SERVER_PORT, _CLIENT_PORT = 67, 68
_COOKIE = b"\x63\x82\x53\x63"
_OPTION_TYPE, _OPTION_END, _ACK = 53, 255, 5
_AT_ONCE = 64
# unfragmented UDP to port 68, in classic BPF: everything else costs nothing
_TO_CLIENTS = (
    *((0x28, 0, 0, 12), (0x15, 0, 8, _IPV4), (0x30, 0, 0, 23), (0x15, 0, 6, _UDP), (0x28, 0, 0, 20)),
    *((0x45, 4, 0, 0x1FFF), (0xB1, 0, 0, 14), (0x48, 0, 0, 16), (0x15, 0, 1, _CLIENT_PORT)),
    *((0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)),
)


def address_used(frame: bytes, mac: str) -> str | None:
    """The address that a frame from the guest with this MAC speaks of as its own, if it does."""
    if len(frame) < 42 or frame[6:12].hex(":") != mac:
        return None
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == _ARP and frame[22:28].hex(":") == mac:
        return _plausible(frame[28:32])
    return _plausible(frame[26:30]) if kind == _IPV4 else None


def address_leased(frame: bytes, mac: str, servers: list[str]) -> str | None:
    """The address that a DHCP server (one of ``servers``, where there are any) acknowledges to this MAC."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != _UDP:
        return None
    udp = 14 + (frame[14] & 15) * 4
    dhcp = udp + 8
    if len(frame) < dhcp + 240 or struct.unpack_from("!HH", frame, udp) != (_SERVER_PORT, _CLIENT_PORT):
        return None
    if servers and socket.inet_ntoa(frame[26:30]) not in servers:
        return None
    if frame[dhcp] != 2 or frame[dhcp + 28 : dhcp + 34].hex(":") != mac or frame[dhcp + 236 : dhcp + 240] != _COOKIE:
        return None
    return _plausible(frame[dhcp + 16 : dhcp + 20]) if _is_ack(frame[dhcp + 240 :]) else None


def _is_ack(options: bytes) -> bool:
    at = 0
    while at < len(options) and options[at] != _OPTION_END:
        if options[at] == 0:
            at += 1
        elif at + 1 >= len(options):
            return False
        elif options[at] == _OPTION_TYPE:
            return options[at + 2 : at + 3] == bytes([_ACK])
        else:
            at += 2 + options[at + 1]
    return False


def _plausible(raw: bytes) -> str | None:
    address = ipaddress.IPv4Address(raw)
    unfit = address.is_unspecified or address.is_multicast or address.is_loopback or raw == b"\xff\xff\xff\xff"
    return None if unfit else str(address)


class Watch:
    """Watches a tap from the running loop, and tells ``found`` each address that it sees, until it is closed.

    ``any_packet``: what the guest uses counts too, not only what a DHCP server gives it. Raises SystemFailure where
    the tap cannot be watched.
    """

    def __init__(
        self, tap: str, mac: str, *, any_packet: bool, servers: list[str], found: Callable[[str], None]
    ) -> None:
        self._mac, self._any, self._servers, self._found = mac, any_packet, servers, found
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
            if not any_packet:
                _attach(self._socket)
            self._socket.bind((tap, _ETH_P_ALL))
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot watch the packets of '{tap}'") from error
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Watch no longer; can be called again."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket.fileno() < 0:
                return
            try:
                frame, source = self._socket.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # a link that is down may come up
                    self.close()
                return
            outgoing = source[2] == _OUTGOING
            address = address_leased(frame, self._mac, self._servers) if outgoing else None
            if not outgoing and self._any:
                address = address_used(frame, self._mac)
            if address is not None:
                self._found(address)


def _attach(sock: socket.socket) -> None:
    code = b"".join(struct.pack("HBBI", *step) for step in _TO_CLIENTS)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(_TO_CLIENTS), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
