"""Passwords: made up, hashed as /etc/shadow has them, and read from files. They are in no log and in no document."""

from __future__ import annotations

import ctypes
import secrets
from pathlib import Path

from guesthouse.errors import InvalidArg, OperationFailed

# easily told apart when read from a screen, whatever the font
_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_SALT = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def made_up(length: int = 16) -> str:
    """A random password that can be typed."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def hashed(password: str) -> str:
    """``password`` in the form of crypt(5)'s SHA-512, which every Linux installer takes.

    Raises OperationFailed where this host has no libcrypt.
    """
    # Python's own module for this is gone from 3.13; the library is the one that login uses
    try:
        crypt = ctypes.CDLL("libcrypt.so.1").crypt
    except OSError:
        raise OperationFailed("this host's libcrypt is missing: passwords cannot be hashed") from None
    crypt.restype = ctypes.c_char_p
    salt = "$6$" + "".join(secrets.choice(_SALT) for _ in range(16))
    done = crypt(password.encode(), salt.encode())
    if not done or not done.startswith(b"$6$"):
        raise OperationFailed("this host's libcrypt does not make SHA-512 hashes")
    return str(done.decode())


def from_file(path: str) -> str:
    """The first line of the file ``path``. Raises InvalidArg where there is none, or an empty one."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise InvalidArg(f"the password's file '{path}' cannot be read: {error.strerror}") from None
    if not lines or not lines[0]:
        raise InvalidArg(f"the password's file '{path}' has no first line")
    return lines[0]
