"""Transports that are programs: ssh with a helper at the far side, and whatever ``qemu+ext://`` names."""

from __future__ import annotations

import shlex
import socket
import subprocess
import tempfile
from typing import IO

from guesthouse.client.uri import Target
from guesthouse.errors import Domain, InvalidArg, SystemFailure

_FAR_SOCKET = "/var/run/libvirt/libvirt-sock"
_END_TIMEOUT = 2.0


class Program:
    """A program whose standard input and output are the connection."""

    def __init__(self, command: list[str]) -> None:
        """Start it. Raises SystemFailure."""
        self.sock, child = socket.socketpair()
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        try:
            self._process = subprocess.Popen(command, stdin=child.fileno(), stdout=child.fileno(), stderr=self._words)
        except OSError as error:
            self.sock.close()
            self._words.close()
            raise SystemFailure.from_os(error, f"cannot run '{command[0]}'", domain=Domain.RPC) from None
        finally:
            child.close()

    def words(self, timeout: float) -> str:
        """What it has said on standard error when it has ended, or after ``timeout`` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        self._words.seek(0)
        return self._words.read(4096).decode(errors="replace").strip()

    def close(self) -> None:
        """End it, when the socket is closed."""
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()


def start(target: Target, readonly: bool) -> Program:
    """The program of ``target``. Raises InvalidArg for parameters that make none, SystemFailure."""
    if target.transport == "ext":
        command = target.params.get("command")
        if not command:
            raise InvalidArg("remote_open: for 'ext' transport, command is required", domain=Domain.REMOTE)
        return Program([command])
    return Program(ssh_command(target, readonly))


def ssh_command(target: Target, readonly: bool) -> list[str]:
    """ssh's command line, with libvirt's options."""
    params = target.params
    command = [params.get("command") or "ssh"]
    if target.port:
        command += ["-p", str(target.port)]
    if target.user:
        command += ["-l", target.user]
    if params.get("keyfile"):
        command += ["-i", params["keyfile"]]
    if params.get("no_tty", "0") not in ("", "0"):
        command += ["-o", "BatchMode=yes"]
    if params.get("no_verify", "0") not in ("", "0"):
        command += ["-o", "StrictHostKeyChecking=no"]
    return [*command, "-T", "-e", "none", "--", target.host, f"sh -c {shlex.quote(_far_script(target, readonly))}"]


def _far_script(target: Target, readonly: bool) -> str:
    """Shell text for the far side: the helper, or netcat."""
    params = target.params
    mode, proxy = params.get("mode", "auto"), params.get("proxy", "auto")
    if mode not in ("auto", "direct", "legacy"):
        raise InvalidArg(f"Unknown remote mode '{mode}'", domain=Domain.REMOTE)
    if proxy not in ("auto", "native", "netcat"):
        raise InvalidArg(f"Unknown proxy type '{proxy}'", domain=Domain.REMOTE)
    helper = f"virt-ssh-helper {'-r ' if readonly else ''}{shlex.quote(target.name)}"
    if proxy == "native":
        return f"exec {helper}"
    if path := params.get("socket"):
        path = shlex.quote(path)
    elif target.session:
        path = '"${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/libvirt/libvirt-sock"'
    else:
        path = f"{_FAR_SOCKET}{'-ro' if readonly else ''}"
    netcat = shlex.quote(params.get("netcat") or "nc")
    # some netcats stay when their input ends, unless they are told not to
    old = f'if {netcat} -q 2>&1 | grep "requires an argument" >/dev/null; then more=-q0; else more=; fi'
    by_netcat = f"{old}; exec {netcat} $more -U {path}"
    # a socket or a netcat that was asked for is what the helper cannot give
    if proxy == "netcat" or "socket" in params or "netcat" in params:
        return by_netcat
    return f"if command -v virt-ssh-helper >/dev/null 2>&1; then exec {helper}; fi; {by_netcat}"
