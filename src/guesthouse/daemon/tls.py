"""The daemon's side of TLS: its certificate, and whose certificates it takes. libvirt's places are the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guesthouse.errors import ConfigUnsupported

if TYPE_CHECKING:
    import ssl

PKI = Path("/etc/pki")
CA, CERT, KEY = "CA/cacert.pem", "libvirt/servercert.pem", "libvirt/private/serverkey.pem"


def context(ca: str = "", cert: str = "", key: str = "", crl: str = "") -> ssl.SSLContext:
    """A context that asks every client for a certificate signed by ``ca``, not revoked by ``crl``, and takes no other.
    Raises ConfigUnsupported with the file that cannot be used."""
    import ssl

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    made.num_tickets = 0  # a session that is taken up again skips the look at the certificate
    made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    ca, cert, key = (given or str(PKI / place) for given, place in ((ca, CA), (cert, CERT), (key, KEY)))
    for what, file in (("CA certificate", ca), ("server certificate", cert), ("server key", key), ("CRL", crl)):
        try:
            if file:
                open(file, "rb").close()
        except OSError as error:
            raise ConfigUnsupported(f"Cannot read {what} '{file}': {error.strerror}") from None
    try:
        made.load_verify_locations(ca)
        if crl:
            made.load_verify_locations(crl)
            made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        made.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise ConfigUnsupported(f"cannot use '{ca}', '{cert}' and '{key}': {error.reason or error}") from None
    return made
