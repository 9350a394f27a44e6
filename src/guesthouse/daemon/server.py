"""The sockets: accepts clients, moves their bytes, holds the limits. Knows no procedure."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from guesthouse.daemon.auth import Identity, Rules, allowed_name
from guesthouse.daemon.session import AdminSession, Session
from guesthouse.daemon.threads import Threads
from guesthouse.errors import RPCError
from guesthouse.wire import connection as wire
from guesthouse.wire import tls

if TYPE_CHECKING:
    import ssl

_log = logging.getLogger(__name__)

_CHUNK = 1 << 17
_HIGH_WATER = 1 << 20  # bytes waiting for a client above which its streams wait
_FULL = 16 << 20  # bytes waiting for a client above which nothing more is done for it
_PENDING_MAX = 1 << 20  # bytes of a client's messages that may wait for their turn before its socket is left alone
_FILE_COST = 1 << 14  # a descriptor of a call that waits counts as so many bytes of it
_LEAVE_TIMEOUT = 5.0  # seconds for a client that has taken its leave to read the rest
_GONE_PERIOD = 1.0  # seconds between looks at a socket that is not read
_ACCEPT_PAUSE = 0.2  # seconds without accepting, where descriptors have run out
# so many refused sockets are kept for so many seconds, until their peers have read the end
_REFUSED, _REFUSED_FOR = 64, 0.5
_AUTH_TIMEOUT = 60.0  # seconds for a client to prove who it is; somebody may have to type a password
_ANONYMOUS_MESSAGE_MAX = 1 << 16  # bytes of a message while it has not


@dataclass(frozen=True)
class Limits:
    """``client_requests`` calls of one client may be under way, further ones wait. ``event_backlog`` bytes
    may wait for a client that does not read before it is dropped at the next event. Keepalive as libvirtd's: after
    ``keepalive_interval`` seconds of silence a ping, after ``keepalive_count`` unanswered ones the end. Of
    ``max_clients`` so many as ``max_anonymous_clients`` may be such as have not proven yet who they are."""

    max_clients: int = 5000
    max_anonymous_clients: int = 20
    client_requests: int = 5
    event_backlog: int = 4 << 20
    keepalive_interval: float = 5
    keepalive_count: int = 5


@dataclass(frozen=True)
class Entrance:
    """How clients come in by a socket: for reading only; by ``auth`` "none" or "sasl"; through TLS; for ``admin``,
    the administration of the daemon itself."""

    readonly: bool = False
    auth: str = "none"
    tls: bool = False
    admin: bool = False

    @property
    def open(self) -> bool:
        """Whether a client is let in by the socket alone, or by the kernel's word on who may use it."""
        return self.auth == "none" and not self.tls


_OPEN = Entrance()


class _Listener(NamedTuple):
    """A socket, where it is, and by what that is known to be this one."""

    sock: socket.socket
    path: Path | None
    file: tuple[int, int] | None


def _file(path: Path) -> tuple[int, int] | None:
    """The device and the inode of what is at ``path``; None where nothing is."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Server:
    """Serves ``services`` on any number of sockets."""

    def __init__(
        self,
        services: Any,
        *,
        limits: Limits | None = None,
        default_uri: str = "qemu:///system",
        subscribe: Callable[[Callable[[Any], None]], Callable[[], None]] | None = None,
        passwords: Path | None = None,
    ) -> None:
        self._services = services
        #: what is served at an entrance for administration
        self.administration: Any = None
        #: the file of SASL users
        self.passwords = passwords
        #: what clients that come by TLS are met with, and the certificates' names that are let in (none: all)
        self.tls: ssl.SSLContext | None = None
        self.tls_allowed: tuple[str, ...] = ()
        self.rules = Rules()
        #: clients that have not proven yet who they are
        self.anonymous: set[Client] = set()
        self.limits = limits or Limits()
        self.default_uri = default_uri
        self._listeners: list[_Listener] = []
        self._clients: set[Client] = set()
        self._refused: set[socket.socket] = set()
        self._loop = asyncio.get_running_loop()
        self.threads = Threads(self._loop)
        #: seconds without a client and a guest after which the daemon ends (0: never); set: they have changed
        self.idle_timeout = 0
        self.idle_timeout_changed = asyncio.Event()
        self._unsubscribe = subscribe(self._deliver) if subscribe else None
        #: when the last client left (monotonic seconds); of use while there is none
        self.idle_since = time.monotonic()

    @property
    def client_count(self) -> int:
        return len(self._clients)

    def set_rules(self, rules: Rules) -> None:
        """Hold every client to ``rules`` from its next call on."""
        self.rules = rules
        for client in self._clients - self.anonymous:
            client.session.granted = rules.granted(client.identity)

    def set_idle_timeout(self, seconds: int) -> None:
        self.idle_timeout = seconds
        self.idle_timeout_changed.set()

    @property
    def clients(self) -> list[Client]:
        """Who is connected, in the order of their coming."""
        return sorted(self._clients, key=lambda client: client.number)

    def listen_unix(self, path: Path, *, mode: int, gid: int = -1, entrance: Entrance = _OPEN) -> None:
        """Listen on ``path``, in place of a socket that nobody serves any more. Raises OSError."""
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        try:
            old = os.umask(0o777)  # nobody gets in before owner and mode are right
            try:
                sock.bind(str(path))
            finally:
                os.umask(old)
            if gid != -1:
                os.chown(path, -1, gid)
            path.chmod(mode)
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
        self.listen_socket(sock, entrance, path)

    def listen_tcp(self, host: str, port: int, *, auth: str = "sasl", tls: bool = False) -> int:
        """Listen on a TCP port (0: any); returns it. Without TLS and ``auth`` whoever reaches it is let in; without
        TLS whoever is on the way can read and change everything."""
        # all of IPv6 includes IPv4, as administrators are used to
        both = host == "::" and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, dualstack_ipv6=both)
        self.listen_socket(sock, Entrance(auth=auth, tls=tls))
        return int(sock.getsockname()[1])

    def listen_socket(self, sock: socket.socket, entrance: Entrance, path: Path | None = None) -> None:
        """Serve a socket that listens already; its ``path`` goes with it."""
        sock.setblocking(False)
        self._listeners.append(_Listener(sock, path, _file(path) if path else None))
        self._loop.add_reader(sock.fileno(), self._accept, sock, entrance)

    def _accept(self, listener: socket.socket, entrance: Entrance) -> None:
        for _ in range(64):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:  # out of descriptors: leave the rest in the queue for a while
                _log.warning("cannot accept a client: %s", error)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_ACCEPT_PAUSE, self._accept_again, listener, entrance)
                return
            if len(self._clients) >= self.limits.max_clients:
                _log.warning("refused a client: %d are connected (max_clients)", len(self._clients))
                self._refuse(sock)
                continue
            if not entrance.open and len(self.anonymous) >= self.limits.max_anonymous_clients:
                _log.warning("refused a client: %d have not proven who they are", len(self.anonymous))
                self._refuse(sock)
                continue
            sock.setblocking(False)
            self._clients.add(Client(self, sock, self._services, entrance))

    def _refuse(self, sock: socket.socket) -> None:
        """Let the peer read the end, and close a little later: writing to a closed socket would kill it by SIGPIPE before
        it could say why. Those beyond a number are closed at once."""
        with contextlib.suppress(OSError):  # it has gone already
            sock.shutdown(socket.SHUT_WR)
        if len(self._refused) >= _REFUSED:
            sock.close()
            return
        self._refused.add(sock)
        self._loop.call_later(_REFUSED_FOR, self._let_go, sock)

    def _let_go(self, sock: socket.socket) -> None:
        self._refused.discard(sock)
        sock.close()

    def _accept_again(self, listener: socket.socket, entrance: Entrance) -> None:
        if listener.fileno() != -1:
            self._loop.add_reader(listener.fileno(), self._accept, listener, entrance)

    def _deliver(self, event: Any) -> None:
        for client in tuple(self._clients):
            if client.session.wants_events:
                client.session.deliver(event)

    def forget(self, client: Client) -> None:
        self._clients.discard(client)
        self.anonymous.discard(client)
        if not self._clients:
            self.idle_since = time.monotonic()

    async def close(self) -> None:
        """Stop listening and let go of every client."""
        if self._unsubscribe:
            self._unsubscribe()
        for sock, path, file in self._listeners:
            self._loop.remove_reader(sock.fileno())
            sock.close()
            # where another daemon has put its own socket meanwhile, that stays
            if path is not None and _file(path) == file:
                path.unlink(missing_ok=True)
        self._listeners.clear()
        for sock in tuple(self._refused):
            self._let_go(sock)
        for client in tuple(self._clients):
            client.close()
        await asyncio.sleep(0)


_numbers = itertools.count(1)


class Client:
    """One connected socket: reads while it may, writes as the peer takes it."""

    def __init__(self, server: Server, sock: socket.socket, services: Any, entrance: Entrance) -> None:
        self._server = server
        self.entrance = entrance
        #: its number among all that ever came, and when it did (seconds since the epoch)
        self.number = next(_numbers)
        self.since = int(time.time())
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = asyncio.get_running_loop()
        self._machine = wire.Connection()
        self._pending: list[wire.Event] = []
        self._pending_size = 0
        # what the peer has not taken yet; a number is a descriptor to be sent, with a zero byte
        self._out: deque[memoryview | int] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._closing = False
        self._closed = False
        self._reading = True
        self._resuming = False
        self._heard = time.monotonic()
        self._pings = 0
        self._timer: asyncio.TimerHandle | None = None
        #: bytes that wait for the peer
        self.backlog = 0
        self.identity = Identity.of(sock)
        kind = AdminSession if entrance.admin else Session
        self.session = kind(
            server.administration if entrance.admin else services,
            self,
            readonly=entrance.readonly,
            default_uri=server.default_uri,
            event_limit=server.limits.event_backlog,
            login=entrance.auth != "none",
            passwords=server.passwords,
        )
        self._tunnel: tls.Tunnel | None = None
        self._auth_timer: asyncio.TimerHandle | None = None
        if entrance.open:
            self.session.granted = server.rules.granted(self.identity)
        else:
            server.anonymous.add(self)
            self._machine.message_max = _ANONYMOUS_MESSAGE_MAX
            self._auth_timer = self._loop.call_later(_AUTH_TIMEOUT, self.drop, "it did not prove who it is")
        if entrance.tls:
            assert server.tls is not None
            self._tunnel = tls.Tunnel(server.tls, server=True)
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(
                _CHUNK, socket.CMSG_SPACE(4 * wire.FDS_MAX), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        fds = [fd for level, kind, content in ancillary if _is_rights(level, kind) for fd in _ints(content)]
        if not data:
            self.close()
            return
        self._heard = time.monotonic()
        self._pings = 0
        ended = False
        try:
            if self._tunnel is not None:
                data, ended = self._unwrap(self._tunnel, data)
            for event in self._machine.feed(data, fds):
                if isinstance(event, wire.KeepAlive):
                    self.session.handle(event)  # at once, ahead of what waits
                else:
                    self._pending.append(event)
                    self._pending_size += _size(event)
            self._work()
        except RPCError as error:
            self.drop(str(error))
        if ended:
            self.close()

    def _unwrap(self, tunnel: tls.Tunnel, data: bytes) -> tuple[bytes, bool]:
        """What came through TLS, and whether the peer has ended it. Raises RPCError for a client that is not let in."""
        try:
            if not tunnel.ready:
                if not tunnel.handshake(data):
                    return b"", False
                self.identity.certificate = name = tunnel.peer_name()
                if not name or not allowed_name(self._server.tls_allowed, name):
                    raise RPCError("its certificate's name is not in tls_allowed")
                self.send(tls.ACCEPTED)
                if self.entrance.auth == "none":
                    self.proven()
                data = b""
            return tunnel.open(data)
        finally:
            self._transmit(tunnel.output())

    def proven(self) -> None:
        """The client has proven who it is: it may do what that one may."""
        self._server.anonymous.discard(self)
        self._machine.message_max = wire.MESSAGE_MAX
        if self._auth_timer is not None:
            self._auth_timer.cancel()
        self.session.granted = self._server.rules.granted(self.identity)

    def _work(self) -> None:
        """Handle what has arrived, as far as the limits let it."""
        session, limit = self.session, self._server.limits.client_requests
        while self._pending and not self._closed and self.backlog <= _FULL and not session.congested:
            event = self._pending[0]
            if isinstance(event, wire.Call) and (session.outstanding >= limit or self._closing):
                break
            self._pending.pop(0)  # of a few at most: see _PENDING_MAX
            self._pending_size -= _size(event)
            session.handle(event)
        if self._closed:
            return
        wanted = self._pending_size <= _PENDING_MAX and self.backlog <= _FULL and not session.congested
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self._fd, self._readable)
            else:
                self._loop.remove_reader(self._fd)
                self._loop.call_later(_GONE_PERIOD, self._look)

    def _look(self) -> None:
        """While the socket is not read: see whether the peer has gone."""
        if self._closed or self._reading:
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLRDHUP)
        if poll.poll(0):
            self.close()
        else:
            self._loop.call_later(_GONE_PERIOD, self._look)

    def _resume(self) -> None:
        self._resuming = False
        if not self._closed:
            try:
                self._work()
            except RPCError as error:
                self.drop(str(error))

    # -- what the session asks for (its Peer)

    def resume(self) -> None:
        """There is room again for what waits."""
        if (self._pending or not self._reading) and not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    def send(self, data: bytes) -> None:
        """Send ``data`` now as far as the peer takes it, the rest when it does."""
        if self._closed:
            return
        if self._tunnel is not None:
            try:
                data = self._tunnel.seal(data)
            except RPCError as error:
                self.drop(str(error))
                return
        self._transmit(data)

    @property
    def carries_files(self) -> bool:
        """Whether descriptors can be sent."""
        return self._tunnel is None and self._sock.family == socket.AF_UNIX

    def send_with_file(self, data: bytes, fd: int) -> None:
        """Send ``data`` and behind it the descriptor, which is closed then, or when the peer is gone."""
        self.send(data)
        if self._closed:
            os.close(fd)
            return
        self._queue(fd)

    def _transmit(self, data: bytes) -> None:
        if self._closed or not data:
            return
        view = memoryview(data)
        if not self._out:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self.close()
                return
            if not view:
                return
        self._queue(view)
        self.backlog += len(view)

    def _queue(self, item: memoryview | int) -> None:
        if not self._out:
            self._out = deque()
            self._loop.add_writer(self._fd, self._writable)
        self._out.append(item)

    def _writable(self) -> None:
        while self._out:
            view = self._out[0]
            if isinstance(view, int):
                try:
                    socket.send_fds(self._sock, [b"\0"], [view])
                except (BlockingIOError, InterruptedError):
                    break
                except OSError:
                    self.close()
                    return
                os.close(view)
                self._out.popleft()
                continue
            try:
                sent = self._sock.send(view)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self.close()
                return
            self.backlog -= sent
            if sent < len(view):
                self._out[0] = view[sent:]
                break
            self._out.popleft()
        if self.backlog <= _FULL:
            self.resume()
        if self.backlog <= _HIGH_WATER:
            self._wake()
        if not self._out:
            self._out = None
            self._loop.remove_writer(self._fd)
            if self._closing:
                self.close()

    async def drained(self) -> None:
        """Wait until little waits for the peer."""
        if self.backlog > _HIGH_WATER and not self._closed:
            future = self._loop.create_future()
            self._waiters.append(future)
            await future

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
        self._waiters.clear()

    def start_keepalive(self) -> None:
        limits = self._server.limits
        if self._timer is None and limits.keepalive_interval > 0:
            self._timer = self._loop.call_later(limits.keepalive_interval, self._keepalive)

    def _keepalive(self) -> None:
        limits = self._server.limits
        silent = time.monotonic() - self._heard
        if not self._reading:
            silent = 0  # it may well have answered
        elif silent >= limits.keepalive_interval:
            if self._pings >= limits.keepalive_count:
                self.drop(f"no answer to {self._pings} keepalive messages")
                return
            self._pings += 1
            self.send(wire.ping())
            silent = 0
        if not self._closed:
            self._timer = self._loop.call_later(limits.keepalive_interval - silent, self._keepalive)

    def close_soon(self) -> None:
        """Close when what is queued, and the answer to come, has been sent."""
        self._closing = True
        self._loop.call_soon(self._close_if_sent)
        self._loop.call_later(_LEAVE_TIMEOUT, self.close)

    def _close_if_sent(self) -> None:
        if not self._out:
            self.close()

    def drop(self, reason: str) -> None:
        """The peer misbehaves: log it and close."""
        _log.warning("dropped a client (%s): %s", self.identity, reason)
        self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._auth_timer):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        for waiting in self._out or ():
            if isinstance(waiting, int):
                os.close(waiting)
        self._out = None
        self.backlog = 0
        self._wake()
        for fd in (
            *self._machine.leftovers(),
            *(fd for e in self._pending if isinstance(e, wire.Call) for fd in e.fds),
        ):
            os.close(fd)
        self._pending.clear()
        self._sock.close()
        self.session.closed()
        self._server.forget(self)


def _size(event: wire.Event) -> int:
    """What it takes to keep ``event`` for later."""
    if isinstance(event, wire.Call):
        return len(event.payload) + 128 + _FILE_COST * len(event.fds)
    return (len(event.data) if isinstance(event, wire.StreamPacket) else 0) + 128


def _is_rights(level: int, kind: int) -> bool:
    return level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS


def _ints(content: bytes) -> tuple[int, ...]:
    count = len(content) // 4
    return struct.unpack(f"{count}i", content[: 4 * count])
