"""What the daemon opens for character devices, because QEMU's user may not."""

from __future__ import annotations

import os
from collections.abc import Iterator

from guesthouse.errors import SystemFailure
from guesthouse.model.devices.chardev import CharEnd, CharSource


def daemon_listens(kind: str | None, source: CharSource | None) -> bool:
    """Whether a character device is a socket that the daemon makes for QEMU."""
    return kind == "unix" and source is not None and source.mode == "bind" and bool(source.path)


def outputs(device: CharEnd) -> Iterator[tuple[str, bool, bool]]:
    """Files that QEMU writes to, which the daemon opens because QEMU's user may not: path, whether what is there
    stays, whether it is the log."""
    source = device.source
    if device.type == "file" and source is not None and source.path:
        yield source.path, source.append is not False, False
    if device.log is not None and device.log.file:
        yield device.log.file, device.log.append is not False, True


def open_output(file: str, append: bool) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC), 0o600)
    except OSError as error:
        raise SystemFailure.from_os(error, f"Unable to open file '{file}'") from None
