"""The client's side of TLS: libvirt's places for certificates, and the handshake."""

from __future__ import annotations

import os
import socket
import ssl

from guesthouse.client.uri import Target
from guesthouse.errors import AuthFailed, Domain, RPCError, SystemFailure
from guesthouse.wire.tls import ACCEPTED, Tunnel

_CHUNK = 1 << 16
_SYSTEM = ("/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem")
_NAMES = ("cacert.pem", "clientcert.pem", "clientkey.pem")


def files(params: dict[str, str]) -> tuple[str, str, str]:
    """CA, certificate and key: of ``pkipath``, else the user's own as far as they are there, else the system's."""
    if folder := params.get("pkipath"):
        return tuple(f"{folder}/{name}" for name in _NAMES)  # type: ignore[return-value]
    ca, cert, key = _SYSTEM
    if os.geteuid() != 0:
        folder = os.path.expanduser("~/.pki/libvirt")  # noqa: PTH111
        own = [f"{folder}/{name}" for name in _NAMES]
        if os.path.exists(own[0]):  # noqa: PTH110
            ca = own[0]
        if os.path.exists(own[1]) and os.path.exists(own[2]):  # noqa: PTH110
            cert, key = own[1:]
    return ca, cert, key


def context(target: Target) -> ssl.SSLContext:
    """What ``target`` is met with. A missing client certificate is the daemon's to complain of. Raises SystemFailure."""
    ca, cert, key = files(target.params)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if target.params.get("no_verify", "0") not in ("", "0"):
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    what, file = "CA certificate", ca
    try:
        open(ca, "rb").close()
        made.load_verify_locations(ca)
        if os.path.exists(cert) or os.path.exists(key):  # noqa: PTH110
            for what, file in (("client certificate", cert), ("client key", key)):  # noqa: B007
                open(file, "rb").close()
            made.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise SystemFailure(f"Cannot use {what} '{file}': {error.reason or error}", domain=Domain.RPC) from None
    except OSError as error:
        raise SystemFailure.from_os(error, f"Cannot read {what} '{file}'", domain=Domain.RPC) from None
    return made


def connect(target: Target, sock: socket.socket) -> Tunnel:
    """Speak TLS on ``sock``; returns once the daemon has let us in. Raises AuthFailed where one does not take the
    other's certificate, SystemFailure for the socket."""
    tunnel = Tunnel(context(target), server=False, hostname=target.host)
    try:
        data = b""
        while not tunnel.handshake(data):
            sock.sendall(tunnel.output())
            data = sock.recv(_CHUNK)
            if not data:
                raise RPCError("TLS handshake failed: the daemon closed the connection")
        sock.sendall(tunnel.output())
        said, ended = tunnel.open(b"")
        while not said and not ended:
            data = sock.recv(_CHUNK)
            if not data:
                break
            said, ended = tunnel.open(data)
    except RPCError as error:
        try:
            sock.sendall(tunnel.output())
        except OSError:
            pass
        text = "server verification (of our certificate or IP address) failed" if tunnel.ready else ""
        raise AuthFailed(f"{text or 'Failed to verify peer'}: {error.message}") from None
    except OSError as error:
        raise SystemFailure.from_os(error, "Cannot read data", domain=Domain.RPC) from None
    if said != ACCEPTED:
        raise AuthFailed("server verification (of our certificate or IP address) failed")
    return tunnel
