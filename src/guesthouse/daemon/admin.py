"""The administration of the daemon itself, as virt-admin asks for it: who is connected, how many may be, the log.

The program has a socket of its own that root (or the session's user) alone may use.
"""

from __future__ import annotations

import grp
import logging
import pwd
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from guesthouse import LIBVIRT_VERSION
from guesthouse.daemon.server import Client, Server
from guesthouse.errors import ArgumentUnsupported, Domain, GuesthouseError, InternalError, InvalidArg
from guesthouse.services.typed import checked

_log = logging.getLogger(__name__)

# libvirtd's names: scripts know them
_MAIN, _ADMIN = "libvirtd", "admin"
_UNIX, _TCP, _TLS = range(3)
# libvirt's priorities
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_PACKAGE = "guesthouse"

# a client as the wire knows it: server, number, when it came (seconds since the epoch), transport
_Handle = tuple[tuple[str], int, int, int]
_Params = dict[str, tuple[str, Any]]


class NoServer(GuesthouseError):
    """libvirt error 95: the daemon has no server of that name."""

    code = 95
    bare = "Server not found"
    prefix = "Server not found: "
    default_domain = Domain.ADMIN


class NoClient(GuesthouseError):
    """libvirt error 96: nobody of that number is connected."""

    code = 96
    bare = "Client not found"
    prefix = "Client not found: "
    default_domain = Domain.ADMIN


class Administration:
    """What an administrating session sees as its services."""

    def __init__(self, server: Server, *, log: Path, files: Callable[[], None]) -> None:
        """``log`` is the daemon's log file; ``files`` reads TLS's files again, or raises what is wrong."""
        self.admin = Admin(server, log, files)


class Admin:
    """The procedures, by their names in the table."""

    def __init__(self, server: Server, log: Path, files: Callable[[], None]) -> None:
        self._server = server
        self._log = log
        self._files = files
        self._filters: dict[str, int] = {}

    def get_lib_version(self) -> int:
        return LIBVIRT_VERSION

    # -- servers and clients

    def list_servers(self, flags: int) -> list[tuple[str]]:
        _no_flags(flags)
        return [(_MAIN,), (_ADMIN,)]

    def lookup_server(self, name: str, flags: int) -> tuple[str]:
        _no_flags(flags)
        return (_known(name),)

    def list_clients(self, srv: Any, flags: int) -> list[_Handle]:
        _no_flags(flags)
        return [_handle(client) for client in self._clients(srv.name)]

    def lookup_client(self, srv: Any, id: int, flags: int) -> _Handle:
        _no_flags(flags)
        return _handle(self._client(srv.name, id))

    def get_info(self, clnt: Any, flags: int) -> _Params:
        _no_flags(flags)
        client = self._client(clnt.srv.name, clnt.id)
        who = client.identity
        found: _Params = {"readonly": ("boolean", client.entrance.readonly)}
        if who.address:
            found["sock_addr"] = ("string", who.address)
        if who.sasl:
            found["sasl_user_name"] = ("string", who.sasl)
        if who.certificate:
            found["tls_x509_dname"] = ("string", who.certificate)
        if who.pid != -1:
            found["unix_user_id"] = ("int", who.uid)
            found["unix_user_name"] = ("string", _name(lambda: pwd.getpwuid(who.uid).pw_name, who.uid))
            found["unix_group_id"] = ("int", who.gid)
            found["unix_group_name"] = ("string", _name(lambda: grp.getgrgid(who.gid).gr_name, who.gid))
            found["unix_process_id"] = ("int", who.pid)
        return found

    def close_client(self, clnt: Any, flags: int) -> None:
        _no_flags(flags)
        client = self._client(clnt.srv.name, clnt.id)
        _log.info("an administrator disconnects a client: %s", client.identity)
        # later: who disconnects itself gets its answer
        client.close_soon() if client.entrance.admin else client.close()

    def _clients(self, server: str) -> Iterable[Client]:
        admin = _known(server) == _ADMIN
        return (client for client in self._server.clients if client.entrance.admin == admin)

    def _client(self, server: str, number: int) -> Client:
        for client in self._clients(server):
            if client.number == number:
                return client
        raise NoClient(f"No client with matching ID '{number}'")

    # -- limits

    def get_client_limits(self, srv: Any, flags: int) -> _Params:
        _no_flags(flags)
        clients = list(self._clients(srv.name))
        waiting = sum(client in self._server.anonymous for client in clients)
        limits = self._server.limits
        return {
            "nclients_max": ("uint", limits.max_clients),
            "nclients": ("uint", len(clients)),
            "nclients_unauth_max": ("uint", limits.max_anonymous_clients),
            "nclients_unauth": ("uint", waiting),
        }

    def set_client_limits(self, srv: Any, params: list[Any], flags: int) -> None:
        """Until the configuration is read again; both servers have the same."""
        _no_flags(flags)
        _known(srv.name)
        names = {"nclients_max": "max_clients", "nclients_unauth_max": "max_anonymous_clients"}
        given: dict[str, int] = {}
        for param in params:
            if param.field not in names or param.kind != "uint":
                raise InvalidArg(f"parameter '{param.field}' not supported", domain=Domain.ADMIN)
            given[names[param.field]] = param.value
        limits = replace(self._server.limits, **given)
        if limits.max_clients < limits.max_anonymous_clients:
            raise InvalidArg(
                "The overall maximum number of clients waiting for authentication must not be less than the overall "
                "maximum number of clients",
                domain=Domain.RPC,
            )
        self._server.limits = limits

    # -- threads

    def get_threadpool_parameters(self, srv: Any, flags: int) -> _Params:
        """The threads that do what would hold up the daemon's loop; both servers share them. They start as they are
        needed, and none is set apart for what is urgent: the loop itself never waits."""
        _no_flags(flags)
        _known(srv.name)
        found = self._server.threads.figures()
        return {
            "minWorkers": ("uint", 0),
            "maxWorkers": ("uint", found.most),
            "nWorkers": ("uint", found.started),
            "freeWorkers": ("uint", found.idle),
            "prioWorkers": ("uint", 0),
            "jobQueueDepth": ("uint", found.waiting),
        }

    def set_threadpool_parameters(self, srv: Any, params: list[Any], flags: int) -> None:
        """How many threads there may be at most."""
        _no_flags(flags)
        _known(srv.name)
        given = checked(params, dict.fromkeys(("minWorkers", "maxWorkers", "prioWorkers"), "uint"))
        most = given.get("maxWorkers", self._server.threads.most)
        if given.get("minWorkers", 0) > most:
            raise InvalidArg("minWorkers cannot be larger than maxWorkers", domain=Domain.NONE)
        if not most:
            text = "maxWorkers must not be switched from zero to non-zero and vice versa"
            raise InvalidArg(text, domain=Domain.NONE)
        for name in ("minWorkers", "prioWorkers"):
            if given.get(name):
                raise ArgumentUnsupported(f"parameter '{name}' not supported: threads start as they are needed")
        self._server.threads.set_most(most)

    def set_daemon_timeout(self, timeout: int, flags: int) -> None:
        """Seconds without a client and a guest after which the daemon ends; 0: never."""
        _no_flags(flags)
        self._server.set_idle_timeout(timeout)

    def update_tls_files(self, srv: Any, flags: int) -> None:
        _no_flags(flags)
        if _known(srv.name) == _ADMIN or self._server.tls is None:
            raise InternalError("no tls service found, unable to update tls files", domain=Domain.RPC)
        self._files()

    # -- the log

    def get_logging_outputs(self, flags: int) -> tuple[str, int]:
        _no_flags(flags)
        level = logging.getLogger().level
        number = max((n for n, known in _LEVELS.items() if known <= level), default=1)
        return f"{number}:file:{self._log}", 1

    def set_logging_outputs(self, outputs: str | None, flags: int) -> None:
        """The daemon's file is the only place; how much goes there may be chosen."""
        _no_flags(flags)
        words = (outputs or "2:file:").split()
        if len(words) != 1:
            raise InvalidArg(f"the daemon writes to '{self._log}' alone", domain=Domain.NONE)
        priority, _, place = words[0].partition(":")
        level = _level(priority, "output", words[0])
        kind, _, file = place.partition(":")
        if kind not in ("file", "stderr", "syslog", "journald"):
            raise InvalidArg(f"Invalid log destination '{kind}' for log output '{words[0]}'", domain=Domain.NONE)
        if kind != "file" or file not in ("", str(self._log)):
            raise InvalidArg(f"the daemon writes to '{self._log}' alone", domain=Domain.NONE)
        logging.getLogger().setLevel(level)

    def get_logging_filters(self, flags: int) -> tuple[str | None, int]:
        _no_flags(flags)
        text = " ".join(f"{number}:{name}" for name, number in self._filters.items())
        return text or None, len(self._filters)

    def set_logging_filters(self, filters: str | None, flags: int) -> None:
        """``PRIORITY:NAME`` each; the name is a package or module of Guesthouse, as "qemu" or "daemon.server"."""
        _no_flags(flags)
        wanted: dict[str, int] = {}
        for word in (filters or "").split():
            priority, _, name = word.partition(":")
            _level(priority, "filter", word)
            if not name or not all(part.isidentifier() for part in name.strip("*").split(".")):
                raise InvalidArg(f"Invalid match string '{name}' for filter '{word}'", domain=Domain.NONE)
            wanted[name.strip("*")] = int(priority)
        for name in self._filters:
            logging.getLogger(f"{_PACKAGE}.{name}").setLevel(logging.NOTSET)
        for name, number in wanted.items():
            logging.getLogger(f"{_PACKAGE}.{name}").setLevel(_LEVELS[number])
        self._filters = wanted


def _no_flags(flags: int) -> None:
    if flags:
        raise InvalidArg(f"unsupported flags (0x{flags:x})", domain=Domain.ADMIN)


def _known(server: str) -> str:
    if server not in (_MAIN, _ADMIN):
        raise NoServer(f"No server named '{server}'")
    return server


def _handle(client: Client) -> _Handle:
    transport = _UNIX if client.identity.pid != -1 else _TLS if client.entrance.tls else _TCP
    return ((_ADMIN if client.entrance.admin else _MAIN,), client.number, client.since, transport)


def _name(lookup: Callable[[], str], number: int) -> str:
    try:
        return lookup()
    except KeyError:
        return str(number)


def _level(priority: str, what: str, word: str) -> int:
    level = _LEVELS.get(int(priority)) if priority.isascii() and priority.isdecimal() else None
    if level is None:
        raise InvalidArg(f"Invalid priority '{priority}' for {what} '{word}'", domain=Domain.NONE)
    return level
