"""Frames as a guest or another host sends them, and a bridge to send them over."""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.netns import run

GUEST, OTHER, LIAR = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:66"
ALL = "ff:ff:ff:ff:ff:ff"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ether(kind: int, body: bytes, source: str = GUEST, target: str = OTHER) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", kind) + body


def arp(
    op: int = 1,
    sha: str = GUEST,
    spa: str = "10.0.0.1",
    *,
    kind: int = 0x0806,
    source: str = GUEST,
    tpa: str = "10.0.0.2",
) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + mac(sha) + socket.inet_aton(spa)
    return ether(kind, body + mac(sha if op == 3 else OTHER) + socket.inet_aton(tpa), source, ALL)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(protocol: int, body: bytes, source: str, target: str, tos: int = 0) -> bytes:
    if ":" in source:
        head = struct.pack("!IHBB", 0x60000000 | tos << 20, len(body), protocol, 64)
        return head + ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed + body
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(body), 1, 0, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def udp(sport: int, dport: int, source: str = "10.0.0.1", target: str = "10.0.0.2", tos: int = 0) -> bytes:
    body = struct.pack("!HHHH", sport, dport, 12, 0) + b"data"
    return ip(17, body, source, target, tos)


def tcp(sport: int, dport: int, flags: int, source: str = "10.0.0.1", target: str = "10.0.0.2") -> bytes:
    body = struct.pack("!HHIIBBHHH", sport, dport, 1, 1 if flags & 16 else 0, 0x50, flags, 1000, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(body))
    return ip(6, body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:], source, target)


def icmp(kind: int, code: int = 0, source: str = "10.0.0.1", target: str = "10.0.0.2") -> bytes:
    body = struct.pack("!BBHHH", kind, code, 0, 1, 1)
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ip(58 if ":" in source else 1, body, source, target)


def out(body: bytes, source: str = GUEST, target: str = OTHER) -> bytes:
    return ether(0x86DD if body[0] >> 4 == 6 else 0x0800, body, source, target)


def back(body: bytes) -> bytes:
    return out(body, OTHER, GUEST)


class Cable:
    """A bridge between the tap "t0" of a guest and another host; :meth:`passes` sends a frame one way."""

    def __init__(self) -> None:
        run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        for near, far in (("t0", "guest"), ("u0", "other")):
            run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
            for device in (near, far):
                # the kernel's own packets would be in the way
                run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
                run("ip", "link", "set", device, "up")
            run("ip", "link", "set", near, "master", "br0")
        run("sysctl", "-qw", "net.ipv6.conf.br0.disable_ipv6=1")
        run("ip", "link", "set", "br0", "up")
        self.ends = {
            name: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for name in ("guest", "other")
        }
        for name, end in self.ends.items():
            end.bind((name, 3))
            end.settimeout(5)
        deadline = time.monotonic() + 5
        while not self.passes(out(udp(9, 9))):
            assert time.monotonic() < deadline, "the bridge forwards nothing"

    def passes(self, frame: bytes, sender: str = "guest") -> bool:
        """Whether ``frame`` arrives. A frame that must arrive, of a type of its own, is sent after it."""
        receiver = self.ends["other" if sender == "guest" else "guest"]
        name = "guest" if sender == "guest" else "other"
        mark = ether(
            0x88B5, struct.pack("!d", time.monotonic()) * 6, *((GUEST, ALL) if name == "guest" else (OTHER, ALL))
        )
        padded = frame.ljust(60, b"\0")
        # a socket gets a tagged frame without its tag
        expected = (frame[:12] + frame[16:] if frame[12:14] == b"\x81\x00" else frame).ljust(60, b"\0")
        self.ends[name].send(padded)
        # by way of a third port there is no filter, and the order is kept within the bridge's one softirq
        self.ends[name].send(mark)
        seen = False
        receiver.settimeout(0.05)
        deadline = time.monotonic() + 0.25
        while time.monotonic() < deadline:
            try:
                got, source = receiver.recvfrom(2048)
            except TimeoutError:
                break
            if source[2] == 4:
                continue
            if got == mark:
                break
            # where bridges ask iptables, they cut the padding off
            seen = seen or got.ljust(60, b"\0") == expected
        return seen

    def close(self) -> None:
        for end in self.ends.values():
            end.close()


@contextmanager
def cable() -> Iterator[Cable]:
    made = Cable()
    try:
        yield made
    finally:
        made.close()
