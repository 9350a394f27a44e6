"""As much of a VNC client as shows whether one gets in (RFC 6143)."""

from __future__ import annotations

import socket
import subprocess


class Refused(Exception):
    """The server did not let us in; the text is its own reason, where it gave one."""


def _answer(challenge: bytes, password: str) -> bytes:
    # VNC authentication is DES with the bits of each byte of the password mirrored
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
    command = ["openssl", "enc", "-des-ecb", "-nopad", "-K", key.hex(), "-provider", "legacy", "-provider", "default"]
    return subprocess.run(command, input=challenge, capture_output=True, check=True).stdout


def connect(sock: socket.socket, password: str | None) -> tuple[int, int, str]:
    """Go through the handshake; returns width, height and the desktop's name. Raises :class:`Refused`."""
    stream = sock.makefile("rwb", buffering=0)

    def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = stream.read(count - len(data))
            if not more:
                raise Refused("connection closed")
            data += more
        return data

    version = read(12)
    assert version.startswith(b"RFB 003."), version
    stream.write(b"RFB 003.008\n")
    types = read(read(1)[0])
    wanted = 1 if password is None else 2
    if wanted not in types:
        raise Refused(f"security type {wanted} is not offered, only {list(types)}")
    stream.write(bytes([wanted]))
    if password is not None:
        stream.write(_answer(read(16), password))
    if int.from_bytes(read(4), "big"):
        raise Refused(read(int.from_bytes(read(4), "big")).decode())
    stream.write(b"\1")
    head = read(24)
    name = read(int.from_bytes(head[20:24], "big")).decode()
    return int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big"), name
