"""A file with holes as a stream, and a stream with holes as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse.cli.virsh import volume_data
from guesthouse.client.link import Stream

MIB = 1 << 20
PATTERNS = ["", "D", "DD", "H", "HD", "DH", "HDH", "DHD", "DHHHDDH"]  # a letter is a MiB of data or of a hole


class Tape(Stream):
    """Keeps what is sent, pieces of data and lengths of holes; gives back what it was made with."""

    def __init__(self, *pieces: bytes | int) -> None:
        self.pieces = list(pieces)

    def send(self, data: bytes) -> None:
        self.pieces.append(data)

    def send_hole(self, length: int) -> None:
        self.pieces.append(length)

    def recv(self, limit: int, *, wait: bool = True) -> bytes | None:
        piece = self.pieces.pop(0) if self.pieces else b""
        return bytes(piece) if isinstance(piece, int) else piece

    def recv_hole(self) -> int:
        return self.pieces.pop(0) if self.pieces and isinstance(self.pieces[0], int) else 0  # type: ignore[return-value]


def content(pattern: str) -> bytes:
    return b"".join(b"x" * MIB if letter == "D" else bytes(MIB) for letter in pattern)


@pytest.fixture(params=PATTERNS)
def pattern(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path, pattern: str) -> Iterator[int]:
    path = tmp_path / "file"
    with path.open("wb") as out:
        for letter in pattern:
            out.write(b"x" * MIB) if letter == "D" else out.seek(MIB, os.SEEK_CUR)
        out.truncate(len(pattern) * MIB)
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_send_sparse(file: int, pattern: str) -> None:
    tape = Tape()
    volume_data._send_sparse(tape, file)
    assert b"".join(bytes(piece) if isinstance(piece, int) else piece for piece in tape.pieces) == content(pattern)
    holes = sum(piece for piece in tape.pieces if isinstance(piece, int))
    assert holes == pattern.count("H") * MIB


def test_send_keeps_no_holes(file: int, pattern: str) -> None:
    tape = Tape()
    volume_data._send(tape, file)
    assert b"".join(piece for piece in tape.pieces if isinstance(piece, bytes)) == content(pattern)


def test_where_nobody_knows_of_holes_everything_is_data(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block device: to take it for one hole would lose its content."""
    seek = os.lseek

    def lseek(descriptor: int, at: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(22, "Invalid argument")
        return seek(descriptor, at, how)

    monkeypatch.setattr(os, "lseek", lseek)
    tape = Tape()
    volume_data._send_sparse(tape, file)
    assert all(isinstance(piece, bytes) for piece in tape.pieces)
    assert sum(len(piece) for piece in tape.pieces if isinstance(piece, bytes)) == os.fstat(file).st_size


@pytest.mark.parametrize("sparse", [True, False])
def test_receive(tmp_path: Path, pattern: str, sparse: bool) -> None:
    tape = Tape(*(b"x" * MIB if letter == "D" else MIB for letter in pattern))
    path = tmp_path / "back"
    with path.open("wb", buffering=0) as out:
        volume_data._receive(tape, out.fileno(), sparse)
    assert path.read_bytes() == content(pattern)
    blocks = path.stat().st_blocks * 512
    assert blocks >= len(pattern) * MIB if not sparse else blocks < (pattern.count("D") + 1) * MIB


def test_receive_into_a_device_writes_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hole in a device would show what was there before."""
    path = tmp_path / "device"
    path.write_bytes(b"old" * MIB)
    monkeypatch.setattr(volume_data, "S_ISBLK", lambda mode: True)
    descriptor = os.open(path, os.O_WRONLY)
    try:
        volume_data._receive(Tape(b"new", 2 * MIB, b"end"), descriptor, sparse=True)
    finally:
        os.close(descriptor)
    assert path.read_bytes()[: 2 * MIB + 7] == b"new" + bytes(2 * MIB) + b"end" + b"d"
