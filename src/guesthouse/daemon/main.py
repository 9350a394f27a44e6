"""guesthoused: the program. Guests go on when it ends, however it ends; the next one takes them up."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import gc
import grp
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from guesthouse import __version__
from guesthouse.daemon import admin, config
from guesthouse.daemon.auth import Rules
from guesthouse.daemon.server import Entrance, Limits, Server
from guesthouse.errors import GuesthouseError, InvalidArg, OperationFailed
from guesthouse.services.assembly import Services, assemble
from guesthouse.services.context import Config, Context, Paths
from guesthouse.services.events import EventBus
from guesthouse.services.store import Store

_log = logging.getLogger("guesthoused")

_LIBVIRT_RUN = Path("/run/libvirt")
_SOCKET, _SOCKET_RO, _SOCKET_ADMIN = "libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock"
_SOCKET_PATH_MAX = 107  # sun_path, with its zero byte
_SETTLE = 10.0
_ACTIVATION_START = 3  # SD_LISTEN_FDS_START


def main(argv: list[str] | None = None) -> int:
    """Run the daemon until a signal ends it; returns its exit code."""
    options = _parser().parse_args(argv)
    if options.timeout < 0:
        _parser().error("--timeout takes seconds")
    if options.passwd is not None or options.passwd_remove is not None:
        try:
            return _passwd(options)
        except (GuesthouseError, OSError) as error:
            print(f"guesthoused: {error}", file=sys.stderr)
            return 1
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:  # a platform without it: slower, and right all the same
        runner = asyncio.Runner()
    try:
        with runner:
            return runner.run(_Daemon(options).run())
    except (GuesthouseError, OSError) as error:
        logging.getLogger("guesthoused").critical("%s", error)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="guesthoused",
        description="The host daemon of Guesthouse: runs guests over QEMU, and speaks libvirt's protocol.",
        epilog="SIGTERM ends the daemon and leaves guests running; SIGHUP makes it read its configuration again.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--root", metavar="DIR", type=Path, help="keep everything, sockets included, below DIR")
    where.add_argument("--session", action="store_true", help="serve this user's own guests")
    parser.add_argument("--config", metavar="FILE", type=Path, help=f"the configuration file (default: {config.NAME})")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=int, default=0, help="end after so long without a client and a guest"
    )
    parser.add_argument(
        "--passwd", metavar="USER", help="give a SASL user a password (asked for, or a line of standard input), and end"
    )
    parser.add_argument("--passwd-remove", metavar="USER", help="take a SASL user away, and end")
    parser.add_argument("--version", action="version", version=f"guesthoused {__version__}")
    return parser


def _passwd(options: argparse.Namespace) -> int:
    from guesthouse.daemon import sasl

    paths = _Daemon(options).paths
    paths.make()
    password = None
    if options.passwd is not None:
        if sys.stdin.isatty():
            from getpass import getpass

            password = getpass("Password: ")
            if getpass("Again: ") != password:
                raise InvalidArg("the two passwords differ")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
    sasl.store(paths.config / config.PASSWORDS, options.passwd or options.passwd_remove, password)
    return 0


class _Daemon:
    """One run of the daemon."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        session = options.session or (options.root is None and os.geteuid() != 0)
        self._mode = "session" if session else "system"
        if options.root is not None:
            self.paths = Paths.for_root(options.root.absolute())
        else:
            self.paths = Paths.session() if session else Paths.system()
        self._config_file: Path = options.config or self.paths.config / config.NAME

    async def run(self) -> int:
        _log_to_stderr()
        longest = self.paths.run / _SOCKET_ADMIN
        if len(os.fsencode(longest)) > _SOCKET_PATH_MAX:
            raise InvalidArg(f"the path of a socket has {_SOCKET_PATH_MAX} bytes at most, '{longest}' has more")
        self.paths.make()
        lock = _lock(self.paths.run / "guesthoused.pid")
        settings = config.load(self._config_file)
        _log_to_file(self.paths.log / "guesthoused.log", settings)
        ctx = Context(self.paths, self._mode, Store(self.paths.state, self.paths.run), EventBus(), settings)
        services = await assemble(ctx)
        server = Server(
            services,
            limits=_limits(settings),
            default_uri=f"qemu:///{self._mode}",
            subscribe=ctx.events.subscribe,
            passwords=self.paths.config / config.PASSWORDS,
        )
        _guard(server, settings)
        server.administration = admin.Administration(
            server,
            log=self.paths.log / "guesthoused.log",
            files=lambda: _guard(server, config.load(self._config_file)),
        )
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload, ctx, server, services)
        try:
            await services.start()
            self._listen(server, settings)
            _ready()
            await self._serve(server, services, stopped)
        finally:
            _notify("STOPPING=1")
            await server.close()
            await services.settle(_SETTLE)
            ctx.store.close()
            os.close(lock)
        return 0

    async def _serve(self, server: Server, services: Services, stopped: asyncio.Event) -> None:
        """Until a signal, or until nobody has needed the daemon for the time that --timeout gives, or virt-admin."""
        server.set_idle_timeout(self._options.timeout)
        changed = server.idle_timeout_changed
        told = [asyncio.ensure_future(stopped.wait())]
        while not stopped.is_set():
            changed.clear()
            timeout, pause = server.idle_timeout, None
            if timeout:
                idle = 0.0
                if not server.client_count and not services.active_guests:
                    idle = time.monotonic() - server.idle_since
                if idle >= timeout:
                    _log.info("nobody has needed this daemon for %d s: it ends", timeout)
                    break
                pause = max(0.1, timeout - idle)
            told[1:] = [asyncio.ensure_future(changed.wait())]
            await asyncio.wait(told, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            told[1].cancel()
        told[0].cancel()

    def _reload(self, ctx: Context, server: Server, services: Services) -> None:
        services.restore_rules()
        try:
            settings = config.load(self._config_file)
        except GuesthouseError as error:
            _log.error("the configuration stays as it is: %s", error)
            return
        try:
            _guard(server, settings)
        except GuesthouseError as error:
            _log.error("the configuration stays as it is: %s", error)
            return
        ctx.config = settings
        server.limits = _limits(settings)
        _set_level(settings)
        _log.info("read %s again", self._config_file)

    # -- sockets

    def _listen(self, server: Server, settings: Config) -> None:
        if _from_activation(server, settings):
            return
        gid = self._socket_gid(settings)
        mode = int(settings.socket_mode, 8) if self._mode == "system" else 0o700
        places = [self.paths.run]
        if self._options.root is None and (place := self._libvirt_place()) is not None:
            places.append(place)
        for place in places:
            entrance = Entrance(auth=settings.auth_unix_rw)
            server.listen_unix(place / _SOCKET, mode=mode, gid=gid, entrance=entrance)
            server.listen_unix(place / _SOCKET_ADMIN, mode=0o700, entrance=Entrance(admin=True))
            if self._mode == "system":
                entrance = Entrance(readonly=True, auth=settings.auth_unix_ro)
                server.listen_unix(place / _SOCKET_RO, mode=0o777, entrance=entrance)
        if settings.listen_tcp:
            server.listen_tcp(*_address(settings.listen_tcp), auth=settings.auth_tcp)
            if settings.auth_tcp == "none":
                _log.warning(
                    "listening on tcp %s without any protection: whoever reaches it is root", settings.listen_tcp
                )
            else:
                _log.warning("listening on tcp %s: who is on the way can read and change all", settings.listen_tcp)
        if settings.listen_tls:
            server.listen_tcp(*_address(settings.listen_tls), auth=settings.auth_tls, tls=True)

    def _libvirt_place(self) -> Path | None:
        """Where C clients look, unless a libvirt daemon serves them there."""
        if self._mode == "system":
            place = _LIBVIRT_RUN
        else:
            runtime = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            place = Path(runtime) / "libvirt"
        for name in (_SOCKET, "virtqemud-sock"):
            if _answers(place / name):
                _log.warning("a libvirt daemon owns %s: clients reach this one at %s", place / name, self.paths.run)
                return None
        try:
            place.mkdir(mode=0o755 if self._mode == "system" else 0o700, parents=True, exist_ok=True)
        except OSError as error:
            _log.warning("C clients do not find this daemon by themselves: %s: %s", place, error.strerror)
            return None
        return place

    def _socket_gid(self, settings: Config) -> int:
        """The group that may use the socket, -1 where that does not matter or there is none: then root alone may."""
        if self._mode != "system" or os.geteuid() != 0:
            return -1
        try:
            return grp.getgrnam(settings.socket_group).gr_gid
        except KeyError:
            _log.warning(
                "there is no group '%s': only root can connect; make it (groupadd --system %s) and restart",
                *[settings.socket_group] * 2,
            )
            return -1


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _guard(server: Server, settings: Config) -> None:
    """Who gets in, and who may do what, from now on. Raises the error of a file of TLS's, with all as it was."""
    if settings.listen_tls or server.tls is not None:
        from guesthouse.daemon import tls

        server.tls = tls.context(settings.tls_ca, settings.tls_cert, settings.tls_key, settings.tls_crl)
        server.tls_allowed = tuple(settings.tls_allowed)
    server.set_rules(Rules(settings.access))


def _limits(settings: Config) -> Limits:
    return Limits(
        max_clients=settings.max_clients,
        max_anonymous_clients=settings.max_anonymous_clients,
        client_requests=settings.client_requests,
        keepalive_interval=settings.keepalive_interval,
        keepalive_count=settings.keepalive_count,
    )


def _lock(file: Path) -> int:
    """Hold ``file`` for as long as this process lives; returns its descriptor. Raises OperationFailed where another
    daemon holds it."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = os.read(fd, 20).decode(errors="replace").strip()
        os.close(fd)
        raise OperationFailed(f"another guesthoused (pid {other or '?'}) runs on '{file.parent}'") from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


# -- under a service manager


def _from_activation(server: Server, settings: Config) -> bool:
    """Serve the sockets that the service manager opened (sd_listen_fds(3)); whether there were any. Unix sockets whose
    path ends in -ro are read-only, others that are called "tls" (FileDescriptorName=) are that, the rest is TCP."""
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return False
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    for fd in range(_ACTIVATION_START, _ACTIVATION_START + count):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        server.listen_socket(sock, _entrance(sock, names[fd - _ACTIVATION_START :][:1] == ["tls"], settings))
    return count > 0


def _entrance(sock: socket.socket, is_tls: bool, settings: Config) -> Entrance:
    if sock.family == socket.AF_UNIX:
        readonly = str(sock.getsockname()).endswith("-ro")
        if str(sock.getsockname()).endswith("-admin-sock"):
            return Entrance(admin=True)
        return Entrance(readonly, settings.auth_unix_ro if readonly else settings.auth_unix_rw)
    if is_tls and not settings.listen_tls:
        raise InvalidArg("a socket of the service manager is for TLS: set listen_tls")
    return Entrance(auth=settings.auth_tls, tls=True) if is_tls else Entrance(auth=settings.auth_tcp)


def _notify(state: str) -> None:
    """Tell the service manager (sd_notify(3)); nothing where there is none."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), "\0" + place[1:] if place.startswith("@") else place)
        except OSError as error:
            _log.warning("the service manager does not listen: %s", error)


def _ready() -> None:
    _notify("READY=1")
    _log.info("guesthoused %s is ready", __version__)
    # whoever started us in the background has seen that we are up, and keeps what we say no longer
    if not _is_read():
        logging.getLogger().removeHandler(_stderr)
    # what is there now stays: it need not be looked through again and again
    gc.collect()
    gc.freeze()
    # and what coming up took for a moment goes back to the kernel
    with contextlib.suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)


# -- the log

_stderr = logging.StreamHandler()


def _is_read() -> bool:
    """Whether standard error is a terminal or systemd's journal, where people look for all that happens."""
    return sys.stderr.isatty() or "JOURNAL_STREAM" in os.environ


def _log_to_stderr() -> None:
    _stderr.setFormatter(logging.Formatter("guesthoused: %(levelname)s: %(message)s"))
    _stderr.setLevel(logging.INFO if _is_read() else logging.WARNING)
    logging.getLogger().addHandler(_stderr)


def _log_to_file(file: Path, settings: Config) -> None:
    old = os.umask(0o077)
    try:
        handler = logging.FileHandler(file)
    finally:
        os.umask(old)
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(process)d %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    formatter.datefmt = "%Y-%m-%dT%H:%M:%S"
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    _set_level(settings)


def _set_level(settings: Config) -> None:
    logging.getLogger().setLevel(settings.log_level.upper())


if __name__ == "__main__":
    sys.exit(main())
