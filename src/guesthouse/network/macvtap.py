"""Macvtap devices: a guest's card right on one of the host's, beside its other traffic or (passthrough) in its place.

Unlike a tap it stays when its last descriptor is closed, and a card passed through keeps the guest's address: who makes
one writes down its name, and the address that :func:`take_over` found, before it is made.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from guesthouse.errors import ConfigUnsupported, Domain, SystemFailure
from guesthouse.network.netlink import Link, Netlink

MODES = ("vepa", "bridge", "private", "passthrough")

_TUNSETIFF, _TUNGETIFF = 0x400454CA, 0x800454D2
_IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x0100, 0x4000
_IFREQ = struct.Struct("16sH22x")
_NODE_COMES = 0.2  # seconds that udev has for a device's node


@dataclass
class Macvtap:
    """A macvtap device: its name, and a descriptor a queue. Whoever has it closes the descriptors."""

    name: str
    fds: list[int]

    def close(self) -> None:
        """Close the descriptors; the device stays."""
        while self.fds:
            os.close(self.fds.pop())


def find_device(netlink: Netlink, device: str) -> Link:
    """The host's device that a guest gets a part of. Raises SystemFailure (ENODEV) where there is none."""
    link = netlink.link(device)
    if link is None:
        text = f"Unable to get index for interface {device}"
        raise SystemFailure.from_os(OSError(errno.ENODEV, os.strerror(errno.ENODEV)), text)
    return link


def free_name() -> str:
    """The first of macvtap0, macvtap1, ... that no device has."""
    with Netlink() as netlink:
        taken = {link.name for link in netlink.links()}
    return next(name for number in range(len(taken) + 1) if (name := f"macvtap{number}") not in taken)


def current_mac(device: str) -> str:
    """The address that a device has now. Raises SystemFailure where there is none."""
    with Netlink() as netlink:
        return find_device(netlink, device).mac


def check_vlan(device: str) -> None:
    """Raises ConfigUnsupported: a tag is given to a virtual function of a network card only, and none is known here."""
    raise ConfigUnsupported(f"vlan can only be set for SR-IOV VFs, but {device} is not a VF", domain=Domain.NONE)


def take_over(device: str, mac: str) -> None:
    """Give ``device`` the address of the guest that it is passed through to. Raises SystemFailure."""
    with Netlink() as netlink:
        link = find_device(netlink, device)
        try:
            if link.mac != mac.lower():
                netlink.set_link(link.index, mac=mac)
        except OSError as error:
            raise SystemFailure.from_os(error, f"Cannot set interface MAC to {mac} on '{device}'") from None


def create(name: str, device: str, mac: str, mode: str, *, queues: int = 1, vnet_hdr: bool = True) -> Macvtap:
    """Make the macvtap device ``name`` on the host's ``device``, with the guest's ``mac``, and take it up.

    ``mode`` is one of :data:`MODES`. ``vnet_hdr``: the guest's card is virtio. Raises SystemFailure; then there is
    no such device, or another's. Takes some milliseconds, and up to 0.2 s where udev is slow.
    """
    with Netlink() as netlink:
        lower = find_device(netlink, device)
        try:
            netlink.create_macvtap(name, lower.index, mac=mac, mode=mode)
        except OSError as error:
            text = f"error creating macvtap interface {name}@{device} ({mac})"
            raise SystemFailure.from_os(error, text) from None
        made = Macvtap(name, [])
        try:
            link = netlink.link(name)
            if link is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            for _ in range(queues):
                made.fds.append(_open(link))
                _set_flags(made.fds[-1], vnet_hdr, queues > 1)
            netlink.set_link(link.index, up=True)
        except BaseException as error:
            made.close()
            delete(name, mac)
            if isinstance(error, OSError):
                raise SystemFailure.from_os(error, f"Cannot set interface flags on '{name}'") from None
            raise
    return made


def open_queues(name: str, queues: int, *, vnet_hdr: bool) -> Macvtap:
    """Open a macvtap device that somebody else made. Raises SystemFailure."""
    made = Macvtap(name, [])
    try:
        with Netlink() as netlink:
            link = find_device(netlink, name)
        for _ in range(queues):
            made.fds.append(_open(link))
            _set_flags(made.fds[-1], vnet_hdr, queues > 1)
    except BaseException:
        made.close()
        raise
    return made


def delete(name: str, mac: str) -> None:
    """Take the device away; nothing happens where there is none, or where another has the name. Raises SystemFailure."""
    with Netlink() as netlink:
        link = netlink.link(name)
        if link is None or link.kind != "macvtap" or link.mac != mac.lower():
            return
        try:
            netlink.delete_link(link.index)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise SystemFailure.from_os(error, f"error destroying network device {name}") from None


def _open(link: Link) -> int:
    """A descriptor of the device's next queue, known by its number: /dev/tapN may be another namespace's."""
    node = f"/dev/tap{link.index}"
    number = _number(link)
    deadline = time.monotonic() + _NODE_COMES
    while True:
        try:
            info = os.stat(node)  # noqa: PTH116
            if stat.S_ISCHR(info.st_mode) and number in (None, info.st_rdev):
                return os.open(node, os.O_RDWR | os.O_CLOEXEC)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except FileNotFoundError as error:
            # a node of another's stays: a wait would be for nothing
            foreign = os.path.exists(node)  # noqa: PTH110
            if not foreign and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            if number is not None:
                return _open_number(node, number)
            raise SystemFailure.from_os(error, f"cannot open macvtap tap device {node}") from None
        except OSError as error:
            raise SystemFailure.from_os(error, f"cannot open macvtap tap device {node}") from None


def _number(link: Link) -> int | None:
    """The device's number as its kernel tells it; None where /sys shows another namespace."""
    try:
        text = Path(f"/sys/class/net/{link.name}/tap{link.index}/dev").read_text()
    except OSError:
        return None
    major, minor = text.split(":")
    return os.makedev(int(major), int(minor))


def _open_number(node: str, number: int) -> int:
    """Open a device that /dev has no node for: by the name that udev gives it, or by one that is gone at once."""
    try:
        return os.open(f"/dev/char/{os.major(number)}:{os.minor(number)}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        pass
    try:
        with tempfile.TemporaryDirectory(prefix=".guesthouse-", dir="/dev") as folder:
            own = f"{folder}/tap"
            os.mknod(own, stat.S_IFCHR | 0o600, number)
            return os.open(own, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.from_os(error, f"cannot open macvtap tap device {node}") from None


def _set_flags(fd: int, vnet_hdr: bool, several: bool) -> None:
    """Frames come with virtio's header or without, from one queue or from several."""
    try:
        name, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    except OSError as error:
        raise SystemFailure.from_os(error, "cannot get interface flags on macvtap tap") from None
    wanted = flags & ~(_IFF_VNET_HDR | _IFF_MULTI_QUEUE)
    wanted |= (_IFF_VNET_HDR if vnet_hdr else 0) | (_IFF_MULTI_QUEUE if several else 0)
    try:
        if wanted != flags:
            fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name, wanted))
    except OSError as error:
        raise SystemFailure.from_os(error, "unable to set vnet or multiqueue flags on macvtap") from None
