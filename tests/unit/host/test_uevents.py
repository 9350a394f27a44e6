"""The kernel's news of devices: what a message says, and that they come."""

from __future__ import annotations

import socket
import time

import pytest

from guesthouse.host.uevents import Listener, Lost, Uevent, parse


def test_messages() -> None:
    add = b"add@/devices/virtual/net/x\0ACTION=add\0DEVPATH=/devices/virtual/net/x\0SUBSYSTEM=net\0SEQNUM=7\0"
    assert parse(add) == Uevent("add", "/devices/virtual/net/x", "net")
    move = add.replace(b"=add", b"=move") + b"DEVPATH_OLD=/devices/virtual/net/y\0"
    assert parse(move) == Uevent("move", "/devices/virtual/net/x", "net", "/devices/virtual/net/y")
    for other in (b"", b"libudev\0\xfe\xed", b"add@/x\0ACTION=add\0", b"add@/x\0nothing\0"):
        assert parse(other) is None


def test_only_the_kernel_is_believed_and_losses_are_told() -> None:
    try:
        listener = Listener()
    except OSError as error:
        pytest.skip(f"no events here: {error}")
    try:
        while listener.read() is not None:
            pass
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as other:
            for _ in range(3):
                other.sendto(b"add@/x\0ACTION=add\0DEVPATH=/x\0", (listener.socket.getsockname()[0], 0))
        time.sleep(0.05)
        read = listener.read()
        assert read is None or read.path != "/x"
    finally:
        listener.close()

    class Full:
        def recvfrom(self, _: int) -> None:
            raise OSError(105, "No buffer space available")

    listener.socket = Full()  # type: ignore[assignment]
    with pytest.raises(Lost):
        listener.read()
