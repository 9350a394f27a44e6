"""SASL, the client's side: SCRAM-SHA-256, and where name and password are from."""

from __future__ import annotations

import os

from guesthouse.client.link import Ask
from guesthouse.client.uri import Target
from guesthouse.errors import AuthFailed

MECHANISM = "SCRAM-SHA-256"
NAME, PASSWORD = "name", "password"


class Login:
    """One login, without I/O: call ``auth_sasl_start`` with :meth:`first`, then ``auth_sasl_step`` with each
    :meth:`answer` until that is None."""

    def __init__(self, target: Target, mechanisms: str, ask: Ask | None) -> None:
        """Raises AuthFailed where the daemon takes nothing that is known here, or nobody knows the password."""
        from scramp import ScramClient, ScramException

        wanted, _, mechanism = target.params.get("auth", "sasl").partition(".")
        if wanted != "sasl":
            raise AuthFailed(f"requested authentication type {wanted} rejected")
        if mechanism and mechanism.upper() != MECHANISM:
            raise AuthFailed(f"SASL mechanism {mechanism} not supported by this client")
        if MECHANISM not in mechanisms.replace(",", " ").split():
            raise AuthFailed(f"no SASL mechanism in common: the daemon takes '{mechanisms}', this client {MECHANISM}")
        name, password = credentials(target, ask)
        try:
            self._scram = ScramClient([MECHANISM], name, password)
        except ScramException as error:
            raise AuthFailed(f"name or password cannot be used: {error}") from None
        self._steps = 0

    def first(self) -> bytes:
        return str(self._scram.get_client_first()).encode()

    def answer(self, complete: int, data: bytes) -> bytes | None:
        """What to say to ``data``; None when both sides are content. Raises AuthFailed for a daemon that does not know
        the password itself."""
        from scramp import ScramException

        self._steps += 1
        text = data.rstrip(b"\0").decode(errors="replace")
        try:
            if self._steps == 1 and not complete:
                self._scram.set_server_first(text)
                return str(self._scram.get_client_final()).encode()
            if self._steps == 2:
                self._scram.set_server_final(text)
                return None if complete else b""
        except ScramException as error:
            raise AuthFailed(f"the daemon's answer is not right: {error}") from None
        if self._steps == 3 and complete:
            return None
        raise AuthFailed("the daemon ended the login out of turn")


def credentials(target: Target, ask: Ask | None) -> tuple[str, str]:
    """Name and password: from the URI's ``authfile``, libvirt's auth.conf, or who can be asked. Raises AuthFailed where
    they are not to be had, or a file cannot be read."""
    host = target.host or "localhost"
    found = _from_file(target.params.get("authfile"), host)
    name = (
        target.user
        or found.get("authname")
        or found.get("username")
        or (ask(NAME, "Please enter your authentication name") if ask else None)
    )
    password = found.get("password")
    if password is None and name and ask:
        password = ask(PASSWORD, "Please enter your password")
    if not name or password is None:
        raise AuthFailed(f"no name and password for '{host}': see auth.conf, or the parameter authfile=FILE")
    return name, password


def _from_file(file: str | None, host: str) -> dict[str, str]:
    """The entries for ``host`` of the first file there is."""
    from configparser import ConfigParser, Error

    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    places = [os.environ.get("LIBVIRT_AUTH_FILE"), f"{config}/libvirt/auth.conf", "/etc/libvirt/auth.conf"]
    for place in [file] if file else places:
        if not place or (not file and not os.path.exists(place)):  # noqa: PTH110
            continue
        parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
        try:
            with open(place) as text:
                parser.read_file(text)
        except (OSError, UnicodeDecodeError, Error) as error:
            raise AuthFailed(f"cannot read '{place}': {error}") from None
        for section in (f"auth-libvirt-{host}", "auth-libvirt-default"):
            name = parser.get(section, "credentials", fallback=None)
            if name is not None and parser.has_section(f"credentials-{name}"):
                return dict(parser[f"credentials-{name}"])
        return {}
    return {}
