"""A connection that several threads use at once, with an event loop that reads what none of them waits for."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any

from guesthouse.client.link import ConnectionLost, Link
from guesthouse.errors import GuesthouseError, InternalError
from guesthouse.wire import connection as wire
from guesthouse.wire import xdr
from guesthouse.wire.procedures import BY_NAME

Where = tuple[int, int, int]  # program, procedure and serial that opened a stream


class _Machine(wire.Connection):
    """Keeps the texts that come with an error: libvirtError has getters for them."""

    def _event(self, *packet: Any) -> wire.Event:
        event = super()._event(*packet)
        error = event.error if isinstance(event, wire.Reply | wire.StreamPacket) else None
        if error is not None:
            record = xdr.decode("error", packet[6])
            error.__dict__["texts"] = (record.str1, record.str2, record.str3)
        return event


class SharedLink(Link):
    """One thread at a time reads, for all; the others wait until what they want has come, or the reader is done.

    ``watchers`` are called after each reading, by the thread that has read, and when the link dies.
    """

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._machine = _Machine()
        self._sending = threading.RLock()
        self._turn = threading.Condition()
        self._reading = False
        self.watchers: list[Callable[[], None]] = []
        self.packets = 0  # that have ever arrived

    @property
    def dead(self) -> GuesthouseError | None:
        """Why no call can succeed any more; None while the link lives."""
        return self._dead

    # -- calls

    def call(self, name: str, /, **args: Any) -> Any:
        reply = self.exchange(name, args)
        for fd in reply.fds:
            os.close(fd)
        return reply.value

    def exchange(self, name: str, args: dict[str, Any], fds: Iterable[int] = ()) -> wire.Reply:
        """Call ``name`` with descriptors; the reply's descriptors are the caller's. Raises the daemon's error."""
        return self._exchange(name, args, list(fds), None)

    def open_stream(self, name: str, /, **args: Any) -> tuple[Where, Any]:
        where: list[Where] = []
        try:
            value = self._exchange(name, args, [], where).value
        except BaseException:
            for found in where:
                self.streams.pop(found, None)
            raise
        return where[0], value

    def _exchange(self, name: str, args: dict[str, Any], fds: list[int], stream: list[Where] | None) -> wire.Reply:
        with self._sending:
            serial, data = self._machine.call(name, args or None, len(fds))
            if stream is not None:
                row = BY_NAME[name]
                stream.append((row.program, row.number, serial))
                self.new_queue(stream[0])
            self.send(data)
            for fd in fds:
                self._sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))])
        self.until(lambda: serial in self._replies)
        reply = self._replies.pop(serial)
        try:
            if reply.error is not None:
                for fd in reply.fds:
                    os.close(fd)
                raise reply.error
            return reply
        finally:
            del reply  # an error must not hold itself: whoever called would live until garbage is collected

    def new_queue(self, where: Where) -> None:
        """Keep what arrives for the stream ``where``."""
        self.streams[where] = type(self.events)()  # type: ignore[assignment]

    def send(self, data: bytes) -> None:
        with self._sending:
            super().send(data)

    # -- reading

    def until(self, done: Callable[[], bool]) -> None:
        """Read, or wait for whoever reads, until ``done()``. Raises why the link is dead."""
        while True:
            with self._turn:
                while self._reading and not done() and self._dead is None:
                    self._turn.wait()
                if done():
                    return
                if self._dead is not None:
                    raise self._dead
                self._reading = True
            self._read(None)

    def read_now(self) -> None:
        """Take in what is there, unless somebody does already; never waits, never raises."""
        with self._turn:
            if self._reading or self._dead is not None:
                return
            self._reading = True
        try:
            self._read(0)
        except GuesthouseError:
            pass  # the link is dead: whoever asks next is told

    def _read(self, timeout: float | None) -> None:
        try:
            if super().wait(timeout):
                self.packets += 1
        finally:
            with self._turn:
                self._reading = False
                self._turn.notify_all()
            for watcher in list(self.watchers):
                watcher()

    def wait(self, timeout: float | None) -> bool:
        raise NotImplementedError("several threads wait for something each: see until")

    # -- the end

    def kill(self, text: str) -> None:
        """The other side is given up: everything fails with ``text`` from now on."""
        with self._turn:
            if self._dead is None:
                self._dead = InternalError(text, domain=ConnectionLost.default_domain)
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reader
                self._turn.notify_all()
        for watcher in list(self.watchers):
            watcher()

    def close(self) -> None:
        with self._turn:
            super().close()
            self._turn.notify_all()
