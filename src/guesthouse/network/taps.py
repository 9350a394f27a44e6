"""Tap devices: the host's end of a guest's network card.

A tap lives as long as a descriptor of it is open: QEMU inherits the descriptor, so the device vanishes with QEMU, and
a daemon that dies leaves none behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from guesthouse.errors import Domain, InvalidArg, OperationFailed, SystemFailure
from guesthouse.network.netlink import Link, Netlink

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")
# linux/ethtool.h: struct ethtool_coalesce
_SIOCETHTOOL, _ETHTOOL_GCOALESCE, _ETHTOOL_SCOALESCE = 0x8946, 0x0E, 0x0F
_COALESCE, _RX_FRAMES = struct.Struct("=23I"), 2


@dataclass
class Tap:
    """A tap that this process holds: its name and a descriptor a queue. Whoever has it closes the descriptors."""

    name: str
    fds: list[int]
    bridge: str

    def close(self) -> None:
        """Close the descriptors; where nobody else has one, the device is gone."""
        while self.fds:
            os.close(self.fds.pop())


def tap_mac(guest_mac: str) -> str:
    """The MAC of a tap: the guest's with first byte fe (fa where the guest's is fe), high enough that a bridge never
    takes it for its own. Source: libvirt 9.0's qemuInterfaceBridgeConnect."""
    return ("fa" if guest_mac[:2].lower() == "fe" else "fe") + guest_mac[2:]


def find_bridge(netlink: Netlink, bridge: str) -> Link:
    """The bridge called ``bridge``. Raises SystemFailure (ENODEV, libvirt's text) where there is none, InvalidArg
    where the device is no bridge."""
    link = netlink.link(bridge)
    if link is None:
        raise SystemFailure(
            f"Cannot get interface MTU on '{bridge}': {os.strerror(errno.ENODEV)}\nmake the bridge first "
            f"('ip link add {bridge} type bridge; ip link set {bridge} up') or use <source network='default'/>",
            domain=Domain.QEMU,
            int1=errno.ENODEV,
        )
    if link.kind != "bridge":
        raise InvalidArg(f"the network device '{bridge}' is not a bridge", domain=Domain.NETWORK)
    return link


def create_tap(
    bridge: str,
    mac: str,
    *,
    name: str | None = None,
    queues: int = 1,
    mtu: int | None = None,
    vnet_hdr: bool = True,
    isolated: bool = False,
    fixed: bool = False,
    up: bool = True,
) -> Tap:
    """Make a tap, give it :func:`tap_mac` of the guest's ``mac``, the bridge's MTU (or ``mtu``), and make it a port
    of ``bridge``. ``name`` may hold a %d; without it the kernel picks the next free vnet%d. ``isolated`` ports reach
    no other isolated port; behind a ``fixed`` one is the guest's MAC and no other.

    Raises SystemFailure; then no device is left. Takes about a millisecond.
    """
    pattern = _pattern(name)
    flags = _flags(queues, vnet_hdr)
    with contextlib.ExitStack() as undo, Netlink() as netlink:
        link = find_bridge(netlink, bridge)
        tap = Tap(pattern, [], bridge)
        undo.callback(tap.close)
        for _ in range(queues):
            _open_queue(tap, flags)
        try:
            device = netlink.link(tap.name)
            if device is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            netlink.set_link(device.index, mac=tap_mac(mac), mtu=mtu or link.mtu, master=link.index, up=up)
            if isolated:
                netlink.isolate_port(device.index)
            if fixed:
                netlink.fix_port(device.index, mac)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Unable to add bridge {bridge} port {tap.name}") from error
        undo.pop_all()
    return tap


def create_loose(
    mac: str, *, name: str | None = None, queues: int = 1, mtu: int | None = None, vnet_hdr: bool = True
) -> Tap:
    """Make a tap that is no bridge's port, up, with :func:`tap_mac` of the guest's ``mac``; or take one of that name
    that is there and has no user. Raises SystemFailure; then a device that was made is gone."""
    tap = Tap(_pattern(name), [], "")
    try:
        for _ in range(queues):
            _open_queue(tap, _flags(queues, vnet_hdr))
        with Netlink() as netlink:
            device = netlink.link(tap.name)
            if device is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            netlink.set_link(device.index, mac=tap_mac(mac), mtu=mtu, up=True)
    except OSError as error:
        tap.close()
        raise SystemFailure.from_os(error, f"Cannot set interface MAC to {tap_mac(mac)} on '{tap.name}'") from error
    except BaseException:
        tap.close()
        raise
    return tap


def open_existing(name: str, *, queues: int = 1, vnet_hdr: bool = True) -> Tap:
    """A tap that somebody else made and looks after. Raises SystemFailure."""
    tap = Tap(name, [], "")
    try:
        for _ in range(queues):
            _open_queue(tap, _flags(queues, vnet_hdr))
    except BaseException:
        tap.close()
        raise
    return tap


def coalesce(name: str, frames: int) -> int:
    """Have the tap gather up to ``frames`` frames before it tells of them; how many it does gather. Raises
    SystemFailure where it cannot."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            asked = bytearray(_COALESCE.size)
            _ethtool(sock, name, _ETHTOOL_GCOALESCE, asked)
            values = list(_COALESCE.unpack(asked))
            values[_RX_FRAMES] = frames
            changed = bytearray(_COALESCE.pack(*values))
            _ethtool(sock, name, _ETHTOOL_SCOALESCE, changed)
            _ethtool(sock, name, _ETHTOOL_GCOALESCE, asked)
            return int(_COALESCE.unpack(asked)[_RX_FRAMES])
    except OSError as error:
        raise SystemFailure.from_os(error, f"Cannot set coalesce info on '{name}'") from None


def _ethtool(sock: socket.socket, name: str, command: int, data: bytearray) -> None:
    """Have the driver read or write ``data``, whose first word is the command."""
    struct.pack_into("=I", data, 0, command)
    place = (ctypes.c_char * len(data)).from_buffer(data)
    request = struct.pack("16sQ16x", name.encode(), ctypes.addressof(place))
    fcntl.ioctl(sock, _SIOCETHTOOL, request)


def _pattern(name: str | None) -> str:
    pattern = name or "vnet%d"
    if len(pattern.encode()) > 15:
        text = f"Network interface name '{pattern}' is too long: {os.strerror(errno.ERANGE)}"
        raise SystemFailure(text, domain=Domain.NONE, int1=errno.ERANGE)
    return pattern


def _flags(queues: int, vnet_hdr: bool) -> int:
    return _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if vnet_hdr else 0) | (_IFF_MULTI_QUEUE if queues > 1 else 0)


def _open_queue(tap: Tap, flags: int) -> None:
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.from_os(error, "Unable to open /dev/net/tun, is tun module loaded?") from error
    tap.fds.append(fd)
    try:
        answer = fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(tap.name.encode(), flags))
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to create tap device {tap.name}") from error
    tap.name = _IFREQ.unpack(answer)[0].rstrip(b"\0").decode()


def move(name: str, bridge: str) -> None:
    """Make a tap a port of another bridge. Raises SystemFailure, InvalidArg; then it is where it was."""
    with Netlink() as netlink:
        if not bridge or netlink.link(bridge) is None:
            raise OperationFailed(f"bridge {bridge} doesn't exist", domain=Domain.QEMU)
        link = find_bridge(netlink, bridge)
        try:
            device = netlink.link(name)
            if device is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            netlink.set_link(device.index, master=link.index)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Unable to add bridge {bridge} port {name}") from error


def set_link_state(name: str, up: bool) -> None:
    """Take a tap up or down. Raises SystemFailure where that fails, or there is no such device."""
    try:
        with Netlink() as netlink:
            link = netlink.link(name)
            if link is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            netlink.set_link(link.index, up=up)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Cannot set interface flags on '{name}'") from error


def exists(name: str) -> bool:
    """Whether there is a network device of that name."""
    with Netlink() as netlink:
        return netlink.link(name) is not None
