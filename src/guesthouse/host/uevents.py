"""The kernel's news of devices (netlink, KOBJECT_UEVENT), as udevd gets them; no udevd need run.

A network namespace hears of its own network devices, and of all other devices.
"""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_BUFFER = 8 << 20  # a machine that gets many devices at once tells of thousands
_MAX_MESSAGE = 16 << 10
_SO_RCVBUFFORCE = 33


class Uevent(NamedTuple):
    """``action`` is "add", "remove", "change", "move", ...; ``path`` the device's place below /sys; ``old_path`` where
    it was before it moved, "" otherwise."""

    action: str
    path: str
    subsystem: str
    old_path: str = ""


class Lost(Exception):
    """The kernel had more to tell than was read: what there is must be looked for anew."""


class Listener:
    """Hears of what happens to devices from now on. Raises OSError where that may not be."""

    def __init__(self) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self.socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
        try:
            self.socket.bind((0, _KERNEL_GROUP))
        except OSError:
            self.socket.close()
            raise
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except OSError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)

    def close(self) -> None:
        self.socket.close()

    def read(self) -> Uevent | None:
        """The next event at hand, None where there is none. Raises Lost."""
        while True:
            try:
                data, (sender, _) = self.socket.recvfrom(_MAX_MESSAGE)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Lost from None
                raise
            # only the kernel's own: anybody with the right could send some
            if sender == 0 and (event := parse(data)) is not None:
                return event


def parse(data: bytes) -> Uevent | None:
    """What a message says; None where it is none of the kernel's."""
    head, *lines = data.split(b"\0")
    if b"@" not in head:
        return None
    words = dict(line.decode(errors="replace").split("=", 1) for line in lines if b"=" in line)
    if not ("ACTION" in words and "DEVPATH" in words):
        return None
    return Uevent(words["ACTION"], words["DEVPATH"], words.get("SUBSYSTEM", ""), words.get("DEVPATH_OLD", ""))
