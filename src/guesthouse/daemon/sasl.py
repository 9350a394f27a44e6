"""SASL, the daemon's side: SCRAM-SHA-256 (RFC 7677) against a file of salted hashes.

The file is ``sasl.passwd`` in the configuration folder, a line a user, ``NAME:SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER``
as PostgreSQL and Dovecot write them. No password can be had from it, but who can read it can try passwords on it: it is
for the daemon's user alone. It is read anew for every client.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from guesthouse.errors import AuthFailed, InvalidArg

_log = logging.getLogger(__name__)

MECHANISM = "SCRAM-SHA-256"
_ITERATIONS = 60_000
_DATA_MAX = 4096

# for names that are not in the file: each has a salt of its own, the same at each try, as those in the file have
_pretence = secrets.token_bytes(32)

_Secret = tuple[bytes, bytes, bytes, int]


class Exchange:
    """One client that proves who it is. After a failure, and after the end, it is of no more use."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._server: Any = None
        #: the name that was proven; "" until :meth:`step` returns
        self.user = ""
        self._name = ""

    def start(self, mechanism: str, data: bytes) -> bytes:
        """The answer to the client's first message. Raises AuthFailed."""
        from scramp import ScramException, ScramMechanism

        if self._server is not None or mechanism != MECHANISM:
            raise AuthFailed(f"unsupported SASL mechanism {mechanism[:64]!r}")
        self._server = ScramMechanism(MECHANISM).make_server(self._secret)
        try:
            self._server.set_client_first(_text(data))
            return str(self._server.get_server_first()).encode()
        except ScramException as error:
            raise self._failed(error) from None

    def step(self, data: bytes) -> bytes:
        """The answer to the client's proof, which was right. Raises AuthFailed."""
        from scramp import ScramException

        if self._server is None or self.user:
            raise AuthFailed("there is no SASL negotiation under way")
        try:
            self._server.set_client_final(_text(data))
            answer = str(self._server.get_server_final()).encode()
        except ScramException as error:
            raise self._failed(error) from None
        self.user = self._name
        return answer

    def _secret(self, name: str) -> _Secret:
        self._name = name
        found = _read(self._file).get(name)
        if found is not None:
            return found
        salt, stored, server = (
            hmac.digest(_pretence, kind + name.encode(), "sha256") for kind in (b"salt", b"stored", b"server")
        )
        return salt, stored, server, _ITERATIONS

    def _failed(self, error: Exception) -> AuthFailed:
        _log.info("SASL user %r: %s", self._name, error)
        return AuthFailed("authentication failed")


def _text(data: bytes) -> str:
    if len(data) > _DATA_MAX:
        raise AuthFailed("authentication failed")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise AuthFailed("authentication failed") from None


def _read(file: Path) -> dict[str, _Secret]:
    """The users of ``file``; none where it is missing or may be read by others. A line that is wrong counts for nobody."""
    found: dict[str, _Secret] = {}
    try:
        with open(file) as lines:
            status = os.fstat(lines.fileno())
            if status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
                _log.error("%s is not used: it must belong to the daemon's user and have mode 0600", file)
                return {}
            text = lines.read()
    except FileNotFoundError:
        _log.warning("%s does not exist: make users with guesthoused --passwd USER", file)
        return {}
    except (OSError, UnicodeDecodeError) as error:
        _log.error("cannot read %s: %s", file, error)
        return {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, _, rest = line.rpartition(f":{MECHANISM}$")
            head, _, keys = rest.partition("$")
            (iterations, salt), (stored, server) = head.split(":"), keys.split(":")
            secret = tuple(b64decode(word, validate=True) for word in (salt, stored, server))
            if not name or len(secret[1]) != 32 or len(secret[2]) != 32:
                raise ValueError("no such hash")
            found[name] = (*secret, int(iterations))  # type: ignore[assignment]
        except ValueError:
            _log.error("%s, line %d: expected NAME:%s$ITERATIONS:SALT$STORED:SERVER", file, number, MECHANISM)
    return found


def store(file: Path, name: str, password: str | None) -> None:
    """Give ``name`` a password, in place of an old one; None takes the user away. The file is replaced as a whole.
    Raises InvalidArg for a name or a password that SASL cannot have, and where a user to be taken away is not there."""
    from scramp import ScramException, ScramMechanism

    if not name or any(char in name for char in ":\r\n\0") or name.startswith("#"):
        raise InvalidArg(f"'{name}' cannot be the name of a SASL user")
    lines = file.read_text().splitlines() if file.exists() else []
    kept = [line for line in lines if line.rpartition(f":{MECHANISM}$")[0] != name]
    if password is None:
        if len(kept) == len(lines):
            raise InvalidArg(f"there is no SASL user '{name}'")
    else:
        try:
            if not password:
                raise ScramException("it is empty")
            salt, stored, server, count = ScramMechanism(MECHANISM).make_auth_info(password, _ITERATIONS)
        except ScramException as error:
            raise InvalidArg(f"the password cannot be used: {error}") from None
        words = [b64encode(word).decode() for word in (salt, stored, server)]
        kept.append(f"{name}:{MECHANISM}${count}:{words[0]}${words[1]}:{words[2]}")
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "w") as out:
        out.write("".join(f"{line}\n" for line in kept))
        out.flush()
        os.fsync(fd)
    new.replace(file)
