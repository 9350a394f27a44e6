"""What a network device can offload, as the kernel tells it to ethtool; numbers are from linux/ethtool.h."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GFLAGS, _GFEATURES = 0x25, 0x3A
# libvirt's word -> the command that asks for it alone
_SINGLE = {"rx": 0x14, "tx": 0x16, "sg": 0x18, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}
# libvirt's word -> its bit in the answer to GFLAGS
_FLAGS = {"lro": 1 << 15, "rxvlan": 1 << 8, "txvlan": 1 << 7, "ntuple": 1 << 27, "rxhash": 1 << 28}
_TX_UDP_TNL = 25  # its bit of all features


def features(name: str) -> list[str]:
    """What is on, in libvirt's words and order; empty for a device that is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        found = [word for word, command in _SINGLE.items() if _value(sock, name, command)]
        flags = _value(sock, name, _GFLAGS)
        found += [word for word, bit in _FLAGS.items() if flags & bit]
        if _has_feature(sock, name, _TX_UDP_TNL):
            found.append("txudptnl")
    return found


def _ask(sock: socket.socket, name: str, request: bytes) -> bytes | None:
    """What the kernel makes of ``request``; None where it cannot be asked."""
    buffer = ctypes.create_string_buffer(request, len(request))
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("=16sQ16x", name.encode(), ctypes.addressof(buffer)))
    except OSError:
        return None
    return buffer.raw


def _value(sock: socket.socket, name: str, command: int) -> int:
    answer = _ask(sock, name, struct.pack("=II", command, 0))
    return int(struct.unpack("=II", answer)[1]) if answer else 0


def _has_feature(sock: socket.socket, name: str, bit: int) -> bool:
    blocks = bit // 32 + 1
    # a block: available, requested, active, never changed
    answer = _ask(sock, name, struct.pack("=II", _GFEATURES, blocks) + bytes(16 * blocks))
    if answer is None:
        return False
    (active,) = struct.unpack_from("=I", answer, 8 + 16 * (bit // 32) + 8)
    return bool(active >> bit % 32 & 1)
