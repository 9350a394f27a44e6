"""The configuration file, guesthoused.toml: every key is a field of :class:`Config`; a wrong one stops the daemon.

Reading it again (SIGHUP) changes the running daemon, or nothing at all where the file is wrong.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from guesthouse.daemon.auth import Rules
from guesthouse.errors import Domain, GuesthouseError
from guesthouse.services.context import Config

NAME = "guesthoused.toml"
#: the file of SASL users beside it
PASSWORDS = "sasl.passwd"
AUTH = ("none", "sasl")
LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(GuesthouseError):
    """libvirt error 33: the configuration file cannot be used; the text names file, key and what is expected."""

    code = 33
    bare = "configuration file syntax error"
    prefix = "configuration file syntax error: "
    default_domain = Domain.CONF


def load(file: Path) -> Config:
    """What ``file`` says; the defaults where there is none. Raises ConfigError."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None
    import tomllib

    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: {error}") from None
    known = {field.name: field for field in fields(Config)}
    defaults = Config()
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{file}: unknown key '{key}'; there are {', '.join(known)}")
        _check(file, key, value, getattr(defaults, key))
    settings = Config(**values)
    try:
        Rules(settings.access)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    if int(settings.socket_mode, 8) & 0o006 and not settings.access and settings.auth_unix_rw == "none":
        raise ConfigError(
            f"{file}: 'socket_mode' lets everybody in, which needs [[access]] rows or auth_unix_rw = \"sasl\""
        )
    return settings


def _check(file: Path, key: str, value: Any, default: Any) -> None:
    if type(value) is not type(default):
        words = {str: "a text", int: "a whole number", dict: "a table", list: "a list"}
        raise ConfigError(f"{file}: '{key}' is {value!r}, expected {words[type(default)]}")
    if isinstance(value, int) and value < (0 if key.startswith("keepalive") else 1):
        raise ConfigError(f"{file}: '{key}' is {value}, which is too small")
    if key == "log_level" and value not in LOG_LEVELS:
        raise ConfigError(f"{file}: 'log_level' is '{value}', expected one of {', '.join(LOG_LEVELS)}")
    if key == "qemu" and not all(isinstance(path, str) and path.startswith("/") for path in value.values()):
        raise ConfigError(f"{file}: 'qemu' maps an architecture to the path of its QEMU binary")
    if key in ("listen_tcp", "listen_tls") and value and not _is_address(value):
        raise ConfigError(f"{file}: '{key}' is '{value}', expected ADDRESS:PORT")
    if key.startswith("auth_") and value not in AUTH:
        raise ConfigError(f"{file}: '{key}' is '{value}', expected one of {', '.join(AUTH)}")
    if key == "tls_allowed" and not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{file}: 'tls_allowed' is a list of certificates' names")
    if key == "socket_mode" and not (len(value) <= 4 and value.isdecimal() and set(value) <= set("01234567") and value):
        raise ConfigError(f"{file}: 'socket_mode' is '{value}', expected a mode in octal digits, as \"0770\"")


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon) and port.isdigit() and int(port) < 65536
