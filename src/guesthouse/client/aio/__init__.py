"""The client library for asyncio: the same calls as :mod:`guesthouse.client`, many of them under way at once.

async with aio.connect("qemu:///system") as conn:
    for domain in await conn.list_all_domains():
        print(domain.name, await domain.get_state())
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from guesthouse.client import transport
from guesthouse.client.aio.connect import Connect
from guesthouse.client.aio.objects import (
    Domain,
    Interface,
    Network,
    NodeDevice,
    NWFilter,
    NWFilterBinding,
    Secret,
    StoragePool,
    StorageVol,
)
from guesthouse.client.aio.session import Events
from guesthouse.client.aio.stream import Stream
from guesthouse.client.link import Ask, ConnectionLost
from guesthouse.client.uri import Target, parse

__all__ = [
    "Connect",
    "ConnectionLost",
    "Domain",
    "Events",
    "Interface",
    "NWFilter",
    "NWFilterBinding",
    "Network",
    "NodeDevice",
    "Secret",
    "StoragePool",
    "StorageVol",
    "Stream",
    "connect",
]

_READONLY = 1
# over a network a peer may vanish without a word; the end of a Unix socket is always seen
_TCP_KEEPALIVE = 5.0


def connect(
    uri: str | None = None,
    readonly: bool = False,
    *,
    keepalive_interval: float | None = None,
    keepalive_count: int = 5,
    ask: Ask | None = None,
) -> Connecting:
    """Open a connection to the daemon that ``uri`` names (None: the default), starting one where that may be: to be
    awaited, or for ``async with``, which also closes it. Raises the errors of :mod:`guesthouse.errors`; nothing stays
    open then.

    After ``keepalive_interval`` seconds of silence the daemon is asked for a sign of life (None: 5 over a network, never
    over a Unix socket; 0: never), and after ``keepalive_count`` questions without an answer it counts as gone.
    ``ask(kind, prompt)`` is asked for the "name" and the "password" where a daemon wants them and no file has them.
    """
    return Connecting(uri, readonly, keepalive_interval, keepalive_count, ask)


class Connecting:
    """A connection about to be opened."""

    def __init__(
        self, uri: str | None, readonly: bool, interval: float | None, count: int, ask: Ask | None = None
    ) -> None:
        self._ask = ask
        self._uri = uri
        self._readonly = readonly
        self._interval = interval
        self._count = count
        self._conn: Connect | None = None

    def __await__(self) -> Generator[Any, None, Connect]:
        return self._open().__await__()

    async def __aenter__(self) -> Connect:
        self._conn = await self._open()
        return self._conn

    async def __aexit__(self, *_: object) -> None:
        if self._conn is not None:
            await self._conn.close()

    async def _open(self) -> Connect:
        target, channel = await _channel(self._uri, self._readonly)
        interval = self._interval
        if interval is None:
            interval = _TCP_KEEPALIVE if target.transport != "unix" else 0
        conn = Connect(channel, target.uri)
        try:
            await conn.open(target.name, _READONLY if self._readonly else 0, interval, self._count, self._ask)
        except BaseException:
            conn.abandon()
            raise
        return conn


async def _channel(uri: str | None, readonly: bool) -> tuple[Target, transport.Channel]:
    """Where ``uri`` leads and a way to it. In a thread: names are looked up, and a daemon may have to start."""

    def work() -> tuple[Target, transport.Channel]:
        target = parse(uri)
        return target, transport.connect(target, readonly)

    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_close_late)
        raise


def _close_late(future: asyncio.Future[tuple[Target, transport.Channel]]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result()[1].close()
