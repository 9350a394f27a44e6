"""What an asyncio connection has beside its calls: streams, events, an end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from guesthouse.client.aio.link import Link, Waiter, wake
from guesthouse.client.aio.stream import Stream
from guesthouse.client.link import Ask, Callbacks, ConnectionLost, EventCallback
from guesthouse.errors import Domain, OperationFailed
from guesthouse.wire import connection as wire

if TYPE_CHECKING:
    from guesthouse.client.transport import Channel

_EVENTS_MAX = 10_000
_LEAVE_TIMEOUT = 5.0


class Session:
    """What every connection has, whatever is asked over it: calls by name, streams, events, an end."""

    def __init__(self, channel: Channel, uri: str) -> None:
        self._link = Link(channel, self._event)
        self._uri = uri
        self._registering = asyncio.Lock()
        self.callbacks = Callbacks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, name: str, /, **args: Any) -> Any:
        """Any procedure by its name in the table; returns its result record. Raises the daemon's error."""
        return await self._link.call(name, **args)

    @property
    def lost(self) -> bool:
        """Whether the daemon is gone or the connection was closed."""
        return self._link.lost

    async def close(self) -> None:
        """Take leave and close; never raises, the daemon may be gone. What still waits gets ConnectionLost."""
        try:
            await asyncio.wait_for(self._link.call("connect_close"), _LEAVE_TIMEOUT)
        except Exception:
            pass
        finally:
            self._link.close()

    async def open(
        self, name: str, flags: int, keepalive_interval: float, keepalive_count: int, ask: Ask | None = None
    ) -> None:
        """Authenticate and open the daemon's driver ``name``; keepalive where the interval is not 0."""
        await self._link.authenticate(ask)
        if keepalive_interval > 0:
            await self._link.start_keepalive(keepalive_interval, keepalive_count)
        await self._link.call("connect_open", name=name, flags=flags)

    def abandon(self) -> None:
        """Close without a word."""
        self._link.close()

    def new_stream(self) -> Stream:
        return Stream(self._link)

    def get_uri(self) -> str:
        """The URI of this connection, as it was given."""
        return self._uri

    async def register_event(self, scope: str, event_id: int, ref: Any, callback: EventCallback) -> int:
        """Have ``callback(message)`` called with each event's record; returns a number for
        :meth:`event_deregister_any`. ``ref`` limits it to one object, None means all."""
        key = self.callbacks.key(scope, event_id, ref)
        async with self._registering:
            number = self.callbacks.number(key)
            if number is None:
                procedure = self.callbacks.procedure(scope, "register")
                number = (await self.call(procedure, **self.callbacks.arguments(scope, event_id, ref))).callbackID
            return self.callbacks.add(key, number, callback)

    async def event_deregister_any(self, number: int) -> None:
        """End the registration ``number``, of whatever kind it is."""
        async with self._registering:
            if found := self.callbacks.remove(number):
                await self.call(found[0], callbackID=found[1])

    def events(self, scope: str, event_id: int, ref: Any = None, *, limit: int = _EVENTS_MAX) -> Events:
        """The events ``event_id`` of a ``scope`` ("domain", "network", "storage_pool"), of ``ref`` alone or of all,
        to iterate over inside ``async with``."""
        return Events(self, self._link, scope, event_id, ref, limit)

    def _event(self, message: wire.Message) -> None:
        for callback in self.callbacks.find(message):
            try:
                callback(message.value)
            except Exception as error:
                context = {"message": f"the callback of {message.row.name} failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


class Events:
    """An event registration as an asynchronous iterator over the events' records; ends with its ``async with``.

    Raises ConnectionLost when the connection is lost, and OperationFailed where more than ``limit`` events waited:
    those after them were not kept.
    """

    def __init__(self, session: Session, link: Link, scope: str, event_id: int, ref: Any, limit: int) -> None:
        Callbacks.key(scope, event_id, ref)
        self._session = session
        self._link = link
        self._what = (scope, event_id, ref)
        self._limit = limit
        self._queue: deque[Any] = deque()
        self._missed = False
        self._waiter: Waiter | None = None
        self._number = -1

    async def __aenter__(self) -> Self:
        self._number = await self._session.register_event(*self._what, self._put)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._session.event_deregister_any(self._number)
        except ConnectionLost:
            pass

    def _put(self, value: Any) -> None:
        if len(self._queue) >= self._limit:
            self._missed = True
        else:
            self._queue.append(value)
        if self._waiter is not None:
            wake(self._waiter)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._queue:
            if self._missed:
                raise OperationFailed(f"more than {self._limit} events waited, some were lost", domain=Domain.EVENT)
            self._link.check()
            self._waiter = self._link.waiter()
            await self._waiter
        return self._queue.popleft()
