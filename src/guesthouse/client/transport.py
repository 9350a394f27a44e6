"""Ways to a daemon, and starting the daemon where nobody answers and one may."""

from __future__ import annotations

import os
import socket
import sys
import time

from guesthouse.client.uri import Target
from guesthouse.errors import Domain, SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client.programs import Program
    from guesthouse.wire.tls import Tunnel

_START_TIMEOUT = 30.0
_CONNECT_TIMEOUT = 30.0


class Channel:
    """A way to a daemon: a socket, the TLS that goes through it, the program that is behind it."""

    __slots__ = ("program", "sock", "target", "tunnel")

    def __init__(
        self, target: Target, sock: socket.socket, tunnel: Tunnel | None = None, program: Program | None = None
    ) -> None:
        self.target = target
        self.sock = sock
        self.tunnel = tunnel
        self.program = program

    def last_words(self, timeout: float = 2.0) -> str:
        """What the program behind a channel that has ended says about it within ``timeout`` seconds; "" where there is
        none, or nothing."""
        return self.program.words(timeout) if self.program is not None else ""

    def close(self) -> None:
        self.sock.close()
        if self.program is not None:
            self.program.close()
            self.program = None


def connect(target: Target, readonly: bool = False) -> Channel:
    """A channel that is connected, and where it is TLS let in. Raises SystemFailure with libvirt's text, and what may
    help, AuthFailed for certificates, InvalidArg for parameters that cannot be."""
    if target.transport in ("tcp", "tls"):
        return _tcp(target)
    if target.transport in ("ssh", "ext"):
        from guesthouse.client import programs

        program = programs.start(target, readonly)
        return Channel(target, program.sock, program=program)
    return Channel(target, _local(target, readonly))


def _tcp(target: Target) -> Channel:
    if target.transport == "tls":
        from guesthouse.client import tls

        tls.context(target)  # a certificate that is missing is told before anything is tried
    try:
        sock = socket.create_connection((target.host, target.port), timeout=_CONNECT_TIMEOUT)
    except OSError as error:
        raise SystemFailure.from_os(
            error, f"unable to connect to server at '{target.host}:{target.port}'", domain=Domain.RPC
        ) from None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tunnel = tls.connect(target, sock) if target.transport == "tls" else None
        sock.settimeout(None)  # the timeout is for connecting: a call may take its time
    except BaseException:
        sock.close()
        raise
    return Channel(target, sock, tunnel)


def _local(target: Target, readonly: bool) -> socket.socket:
    path = target.readonly_path if readonly else target.path
    try:
        return _unix(path)
    except OSError as error:
        if target.start is None or not isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise _refused(path, error, target) from None
    start_daemon(target)
    try:
        return _unix(path)
    except OSError as error:
        raise _refused(path, error, target) from None


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _refused(path: str, error: OSError, target: Target) -> SystemFailure:
    failure = SystemFailure.from_os(error, f"Failed to connect socket to '{path}'", domain=Domain.RPC)
    hint = ""
    if isinstance(error, PermissionError):
        hint = "your user may not use this daemon; join its group (sudo usermod -aG libvirt $USER) and log in again"
    elif isinstance(error, FileNotFoundError | ConnectionRefusedError) and "socket" not in target.params:
        hint = "no daemon runs there; start guesthoused (as root), or use qemu:///session"
    if hint:
        failure.message = f"{failure.message}\n{hint}"
        failure.args = (failure.message,)
    return failure


def start_daemon(target: Target) -> None:
    """Start the daemon that ``target`` names, detached, and wait until it accepts connections.

    Raises SystemFailure with the daemon's own last words where it ends instead, or takes longer than 30 s.
    """
    import subprocess
    import tempfile

    assert target.start is not None
    script = os.path.join(os.path.dirname(sys.executable), "guesthoused")  # noqa: PTH118, PTH120
    command = [script] if os.access(script, os.X_OK) else [sys.executable, "-m", "guesthouse.daemon.main"]
    with tempfile.TemporaryFile() as words:
        daemon = subprocess.Popen(
            [*command, *target.start],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            start_new_session=True,
            cwd="/",
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                _unix(target.path).close()
                return
            except OSError:
                pass
            ended = daemon.poll() is not None and not _starts_elsewhere(target)
            if ended or time.monotonic() > deadline:
                words.seek(0)
                said = words.read().decode(errors="replace").strip()
                text = f"guesthoused did not start on '{target.path}'"
                raise SystemFailure(f"{text}: {said or 'no answer'}", domain=Domain.RPC)
            time.sleep(0.005)


def _starts_elsewhere(target: Target) -> bool:
    """Whether another daemon runs there, or is about to: two clients may start one at the same time."""
    try:
        with open(f"{os.path.dirname(target.path)}/guesthoused.pid") as file:  # noqa: PTH120
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"guesthouse" in file.read()
    except (OSError, ValueError):
        return False
