"""Data that flows beside calls: what a service hands out, and the daemon carries."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Hole(NamedTuple):
    """``length`` bytes of nothing, of a stream that may have holes."""

    length: int


class Stream(Protocol):
    """One end of a stream. The daemon calls read in one task and write in another; one of finish and abort comes
    last, once."""

    async def read(self, limit: int) -> bytes | Hole:
        """Up to ``limit`` bytes; b"" at the end. Waits for some. Raises a GuesthouseError to end the stream by it."""

    async def write(self, data: bytes | Hole) -> None:
        """Take ``data``; returns when more may come. Raises a GuesthouseError to end the stream by it."""

    async def finish(self) -> None:
        """The client is through: all that it sent must be where it belongs when this returns."""

    async def abort(self) -> None:
        """The client is gone, or wants no more."""
