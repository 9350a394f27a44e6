"""Connection URIs: which daemon one means, and how to reach it.

``qemu:///system``, ``qemu:///session``, ``qemu:///embed?root=DIR``, ``qemu+unix|tcp|tls|ssh|ext://`` and what
LIBVIRT_DEFAULT_URI says. Socket places are libvirt's where a libvirt daemon listens, else our own.
"""

from __future__ import annotations

import os
import socket

from guesthouse.errors import Domain, InternalError, InvalidArg, NoConnect, NoSupport

TCP_PORT = 16509
TLS_PORT = 16514
# parameters that speak to the client's transport and are not sent to the daemon (libvirt's remote driver)
_OURS = frozenset(
    {
        *("socket", "name", "command", "netcat", "keyfile", "no_verify", "no_sanity", "no_tty", "pkipath"),
        *("tls_priority", "mode", "proxy", "auth", "authfile", "root", "known_hosts", "known_hosts_verify", "sshauth"),
    }
)


class Target:
    """Where a URI leads. ``name`` is what the daemon gets to see; ``start`` is the daemon's arguments where it may be
    started when nobody answers (None: it may not)."""

    def __init__(self, uri: str, name: str, transport: str, params: dict[str, str]) -> None:
        self.uri = uri
        self.name = name
        self.transport = transport
        self.params = params
        self.path = self.readonly_path = ""
        #: where it is another host's: its name, the port (0: ssh's own choice) and the user ("": nobody in particular)
        self.host = self.user = ""
        self.port = 0
        self.session = False
        self.start: list[str] | None = None


def default_uri() -> str:
    """What a client means that names no URI: LIBVIRT_DEFAULT_URI, else root the system and others the session."""
    return os.environ.get("LIBVIRT_DEFAULT_URI") or ("qemu:///system" if os.geteuid() == 0 else "qemu:///session")


def session_runtime_dir() -> str:
    """XDG_RUNTIME_DIR, or its stand-in below the cache folder, as libvirt chooses it."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return runtime
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - pathlib costs start-up
    return cache


def parse(uri: str | None) -> Target:
    """The target of ``uri`` (None: the default). Raises NoConnect, InvalidArg or InternalError for what it
    cannot be."""
    text = uri or default_uri()
    scheme, colon, rest = text.partition("://")
    if not colon:
        raise (
            NoConnect(text, domain=Domain.NONE)
            if ":" not in text
            else InvalidArg(f"malformed URI '{text}'", domain=Domain.URI)
        )
    driver, _, transport = scheme.partition("+")
    rest, _, query = rest.partition("?")
    params = {}
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key:
            params[_unquote(key)] = _unquote(value)
    authority, slash, path = rest.partition("/")
    path = slash + path
    if driver != "qemu":
        raise NoConnect(f"'{text}': only qemu URIs lead to a daemon here", domain=Domain.NONE)
    if path not in ("/system", "/session", "/embed"):
        raise InternalError(f"unexpected qemu URI path '{path}', try qemu:///system", domain=Domain.NONE)
    kept = "&".join(f"{k}={v}" for k, v in params.items() if k not in _OURS)
    name = params.get("name") or f"qemu://{path if path != '/embed' else '/system'}{'?' + kept if kept else ''}"
    target = Target(text, name, transport or ("tls" if authority else "unix"), params)
    target.session = path == "/session"
    if target.transport == "unix":
        _unix(target, path)
    elif target.transport in ("tcp", "tls", "ssh", "ext"):
        if path == "/embed":
            raise InvalidArg(f"'{text}': what is embedded is on this host", domain=Domain.QEMU)
        _far(target, authority)
    elif target.transport in ("libssh", "libssh2"):
        raise NoSupport(f"{target.transport} transport support was not enabled", domain=Domain.RPC)
    else:
        known = "tls|unix|ssh|ext|tcp|libssh2|libssh"
        raise InvalidArg(f"remote_open: transport in URL not recognised (should be {known})", domain=Domain.REMOTE)
    return target


def _far(target: Target, authority: str) -> None:
    """USER@HOST:PORT, where each may be missing, and HOST may be an IPv6 address in brackets."""
    user, at, place = authority.rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidArg(f"malformed URI '{target.uri}'", domain=Domain.URI)
        port = port[1:]
    elif ":" in place:
        host, _, port = place.rpartition(":")
    if port and not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise InvalidArg(f"malformed URI '{target.uri}'", domain=Domain.URI)
    target.user = _unquote(user) if at else ""
    target.host = _unquote(host) or "localhost"
    target.port = int(port or {"tcp": TCP_PORT, "tls": TLS_PORT}.get(target.transport, 0))


def _unix(target: Target, path: str) -> None:
    params = target.params
    if socket_path := params.get("socket"):
        target.path = target.readonly_path = socket_path
        return
    if path == "/embed":
        root = params.get("root")
        if not root:
            raise InvalidArg("root parameter missing from embedded URI", domain=Domain.QEMU)
        target.start = ["--root", root]
        target.path = f"{root}/run/libvirt-sock"
    elif path == "/session":
        runtime = session_runtime_dir()
        target.path = f"{runtime}/libvirt/libvirt-sock"
        if not listens(target.path):
            target.path = f"{runtime}/guesthouse/libvirt-sock"
        target.start = ["--session", "--timeout", "120"]
    else:
        target.path = "/run/libvirt/libvirt-sock"
        if not listens(target.path):
            target.path = "/run/guesthouse/libvirt-sock"
        # a manager such as systemd starts the system daemon where there is one; else root may
        if os.geteuid() == 0:
            target.start = []
    target.readonly_path = f"{target.path}-ro" if path == "/system" else target.path


def listens(path: str) -> bool:
    """Whether somebody accepts connections on the Unix socket ``path``."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
            return True
    except OSError:
        return False


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    head, *parts = text.split("%")
    raw = head.encode()
    for part in parts:
        try:
            raw += bytes([int(part[:2], 16)]) + part[2:].encode()
        except ValueError:
            raw += f"%{part}".encode()
    return raw.decode("utf-8", "replace")
