"""TLS as a value machine, for either role: what the network brings goes in, what the peer said comes out.

As libvirt's remote driver does it: after the handshake the server says by one byte whether it accepts the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guesthouse.errors import RPCError

if TYPE_CHECKING:
    import ssl

ACCEPTED = b"\1"
_CHUNK = 1 << 18


class Tunnel:
    """One end of a TLS connection. Bytes for the network are fetched by :meth:`output`, after each other call."""

    def __init__(self, context: ssl.SSLContext, *, server: bool, hostname: str | None = None) -> None:
        from ssl import MemoryBIO

        self._in, self._out = MemoryBIO(), MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=hostname)
        #: whether the handshake is done
        self.ready = False

    def output(self) -> bytes:
        """What must be sent to the peer now."""
        return self._out.read()

    def handshake(self, data: bytes = b"") -> bool:
        """Go on with the handshake; whether it is done. Raises RPCError where it fails, for which the peer may be told
        by :meth:`output`."""
        from ssl import SSLError, SSLWantReadError

        self._in.write(data)
        try:
            self._tls.do_handshake()
        except SSLWantReadError:
            return False
        except SSLError as error:
            raise RPCError(f"TLS handshake failed {_reason(error)}") from None
        self.ready = True
        return True

    def open(self, data: bytes) -> tuple[bytes, bool]:
        """What the peer said in ``data`` from the network, and whether it has ended. Raises RPCError."""
        from ssl import SSLError, SSLWantReadError, SSLZeroReturnError

        if data:
            self._in.write(data)
        said: list[bytes] = []
        try:
            while piece := self._tls.read(_CHUNK):
                said.append(piece)
        except SSLWantReadError:
            return b"".join(said), False
        except SSLZeroReturnError:
            return b"".join(said), True
        except SSLError as error:
            raise RPCError(f"TLS connection failed {_reason(error)}") from None
        return b"".join(said), True

    def seal(self, data: bytes | memoryview) -> bytes:
        """``data`` as it goes over the network. Raises RPCError."""
        from ssl import SSLError

        try:
            view = memoryview(data)
            while view:
                view = view[self._tls.write(view) :]
        except SSLError as error:
            raise RPCError(f"TLS connection failed {_reason(error)}") from None
        return self._out.read()

    def peer_name(self) -> str:
        """The distinguished name in the peer's certificate, "" where it sent none: see :func:`distinguished_name`."""
        found = self._tls.getpeercert()
        return distinguished_name(found.get("subject", ()) if found else ())  # type: ignore[arg-type]


_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "emailAddress": "EMAIL",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}


def distinguished_name(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """A certificate's subject as libvirt writes it, in the certificate's own order: ``C=GB,O=Example,CN=alice``.

    What could pass for a part of the name is written as ``\\2C``, so that no value can pose as another attribute.
    """
    return ",".join("+".join(f"{_SHORT.get(key, key)}={_escaped(value)}" for key, value in part) for part in subject)


def _escaped(value: str) -> str:
    return "".join(f"\\{ord(char):02X}" if char in ',+"\\<>;=' or char < " " else char for char in value)


def _reason(error: ssl.SSLError) -> str:
    return (getattr(error, "verify_message", "") or error.reason or str(error)).lower().replace("_", " ")
