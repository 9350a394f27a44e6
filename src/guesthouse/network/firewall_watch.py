"""Notices that somebody took our nftables tables away: a firewall that is started anew, "nft flush ruleset".

The kernel tells everyone who asks of each change of its rules; we never delete our tables ourselves, so that a table's
end is always somebody else's doing. Numbers are from linux/netfilter/nfnetlink.h and nf_tables.h.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Awaitable, Callable

from guesthouse.network.nat import TABLE
from guesthouse.network.netlink import attrs_of

_log = logging.getLogger(__name__)

_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_DELETED_TABLE = 10 << 8 | 2
_TABLE_NAME = 1
# one who flushes rules loads others right after: ours shall come behind them
_PAUSE = 0.1


def tables_deleted(data: bytes) -> set[str]:
    """The names of the tables that messages of the kernel's tell the end of."""
    found = set()
    while len(data) >= 20:
        size, kind = struct.unpack_from("=IH", data)
        if size < 16:
            break
        if kind == _DELETED_TABLE:
            name = attrs_of(data[20:size]).get(_TABLE_NAME, b"")
            found.add(name.rstrip(b"\0").decode(errors="replace"))
        data = data[(size + 3) & ~3 :]
    return found


class FirewallWatch:
    """Calls ``restore`` from the running loop each time that our tables were deleted, until it is closed. Where the
    kernel tells nothing (no right to ask, no nftables), nothing is noticed."""

    def __init__(self, restore: Callable[[], Awaitable[None]]) -> None:
        self._restore = restore
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
            )
            self._socket.bind((0, 1 << (_GROUP_NFTABLES - 1)))
        except OSError as error:
            _log.debug("changes of the firewall's rules are not noticed: %s", error)
            self.close()
            return
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Watch no longer; can be called again."""
        if self._socket is not None:
            with contextlib.suppress(ValueError):
                self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._task is not None:
            self._task.cancel()

    def trigger(self) -> None:
        """Have everything put back, soon; also when it is being put back right now."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._put_back())

    def _read(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                # messages were lost: ours may be among them
                if error.errno != errno.ENOBUFS:
                    _log.warning("changes of the firewall's rules are not noticed any more: %s", error)
                    self.close()
                    return
                self.trigger()
                continue
            if TABLE in tables_deleted(data):
                self.trigger()

    async def _put_back(self) -> None:
        while self._again:
            await asyncio.sleep(_PAUSE)
            self._again = False
            _log.info("putting the rules of networks and guests back in place")
            await self._restore()
