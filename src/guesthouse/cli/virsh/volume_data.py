"""A volume's content, from and to files."""

from __future__ import annotations

import os
from errno import ENXIO
from stat import S_ISBLK

from guesthouse.cli.virsh.command import command, data, flag, number
from guesthouse.cli.virsh.given import Failed, Given, parse_number
from guesthouse.cli.virsh.shell import Shell
from guesthouse.cli.virsh.volume_args import IN_POOL, VOLUME, volume
from guesthouse.errors import SystemFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guesthouse.client.link import Stream

_SPARSE = 1  # VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM, and DOWNLOAD
_CHUNK = 1 << 20
_SPARSE_OPTION = flag("sparse", "keep holes")


def _length(given: Given) -> int:
    """The option "length", 0 where it was not given; a negative one means what it does in C's unsigned arithmetic."""
    text = given.raw("length")
    value = parse_number(text) if text is not None and text.lstrip().startswith("-") else None
    if value is not None and value > -(2**64):
        return value % 2**64
    return given.unsigned_long("length") or 0


@command(
    "volume",
    "vol-upload",
    "write a file's content to a volume",
    VOLUME,
    data("file", "the file to read", "file"),
    IN_POOL,
    number("offset", "where in the volume to begin, in bytes"),
    number("length", "how many bytes at most; 0 means all"),
    _SPARSE_OPTION,
    description="Overwrite the content of a volume, or a part of it, with that of a file.",
)
def upload(shell: Shell, given: Given) -> None:
    offset = given.unsigned_long("offset") or 0
    length = _length(given)
    vol, name = volume(shell, given)
    path = given.need("file")
    sparse = given.has("sparse")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise Failed(f"cannot read {path}") from None
    try:
        with shell.explain(f"cannot upload to volume {name}"):
            stream = vol.upload(offset, length, _SPARSE if sparse else 0)
        try:
            with shell.explain(f"cannot send data to volume {name}"):
                try:
                    (_send_sparse if sparse else _send)(stream, descriptor)
                except OSError as error:
                    raise SystemFailure.from_os(error, "send handler failed") from None
            with shell.explain(f"cannot close volume {name}"):
                stream.finish()
        finally:
            stream.abort()
    finally:
        os.close(descriptor)


def _send(stream: Stream, descriptor: int) -> None:
    while data := os.read(descriptor, _CHUNK):
        stream.send(data)


def _send_sparse(stream: Stream, descriptor: int) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    at = 0
    while at < end:
        data, until = _section(descriptor, at, end)
        if not data:
            stream.send_hole(until - at)
            at = until
        while at < until:
            piece = os.pread(descriptor, min(_CHUNK, until - at), at)
            if not piece:
                return  # the file became shorter meanwhile
            stream.send(piece)
            at += len(piece)


def _section(descriptor: int, at: int, end: int) -> tuple[bool, int]:
    """Whether there is data at ``at`` or a hole, and how far that goes."""
    try:
        data = os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError as error:
        return error.errno != ENXIO, end  # ENXIO: no more data; anything else: a device, or no notion of holes
    if data > at:
        return False, data
    hole = os.lseek(descriptor, at, os.SEEK_HOLE)
    return True, hole if hole > at else end


@command(
    "volume",
    "vol-download",
    "write a volume's content to a file",
    VOLUME,
    data("file", "the file to write", "file"),
    IN_POOL,
    number("offset", "where in the volume to begin, in bytes"),
    number("length", "how many bytes at most; 0 means all"),
    _SPARSE_OPTION,
    description="Write the content of a volume, or a part of it, to a file, whose content is lost.",
)
def download(shell: Shell, given: Given) -> None:
    offset = given.unsigned_long("offset") or 0
    length = _length(given)
    vol, name = volume(shell, given)
    path = given.need("file")
    sparse = given.has("sparse")
    descriptor, made = _open_target(path)
    done = False
    try:
        with shell.explain(f"cannot download from volume {name}"):
            stream = vol.download(offset, length, _SPARSE if sparse else 0)
        try:
            with shell.explain(f"cannot receive data from volume {name}"):
                try:
                    _receive(stream, descriptor, sparse)
                except OSError as error:
                    raise SystemFailure.from_os(error, "recv handler failed") from None
            with shell.explain(f"cannot close volume {name}"):
                stream.finish()
        finally:
            stream.abort()
        done = True
    finally:
        os.close(descriptor)
        if made and not done:
            from pathlib import Path

            Path(path).unlink(missing_ok=True)


def _open_target(path: str) -> tuple[int, bool]:
    """A descriptor of the file, empty, and whether it is new. Raises Failed where it cannot be made or written."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except OSError as error:
        if isinstance(error, FileExistsError):
            try:
                return os.open(path, flags | os.O_TRUNC), False
            except OSError:
                pass
    raise Failed(f"cannot create {path}")


def _receive(stream: Stream, descriptor: int, sparse: bool) -> None:
    """Write what comes to the file; ``sparse``: a hole in it as a hole."""
    device = S_ISBLK(os.fstat(descriptor).st_mode)  # a hole in a device would keep what was there
    while True:
        if sparse and not device and (hole := stream.recv_hole()):
            try:
                os.ftruncate(descriptor, os.lseek(descriptor, hole, os.SEEK_CUR))
            except OSError as error:
                raise SystemFailure.from_os(error, "recv holeHandler failed") from None
            continue
        data = stream.recv(_CHUNK)
        if not data:
            return
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
