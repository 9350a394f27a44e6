"""Files for an installer or a first boot: as a CD image, or put behind its initrd."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from guesthouse.errors import InvalidArg

#: Where files for guests are made: QEMU runs as another user, who may not look into /tmp of a service.
FOLDER = Path("/var/tmp")


def cd_bytes(files: Mapping[str, bytes], label: str) -> bytes:
    """A CD image with ``files`` (name -> content) in its root folder.

    Names are kept by Rock Ridge and Joliet both, since Linux reads the one and Windows the other.
    """
    import pycdlib

    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label)
    for number, (name, content) in enumerate(sorted(files.items())):
        image.add_fp(
            io.BytesIO(content),
            len(content),
            f"/F{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
            file_mode=0o100444,
        )
    out = io.BytesIO()
    try:
        image.write_fp(out)
    finally:
        image.close()
    return out.getvalue()


def cd_image(files: Mapping[str, bytes], label: str, suffix: str) -> str:
    """:func:`cd_bytes` as a temporary file; its path. It may be read by its owner alone, as it may hold keys: the daemon
    lets the guest's user in."""
    content = cd_bytes(files, label)
    descriptor, path = tempfile.mkstemp(prefix="virtinst-", suffix=f"-{suffix}", dir=FOLDER)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        Path(path).unlink()
        raise
    return path


def read_files(paths: list[str]) -> dict[str, bytes]:
    """The files that somebody wants to give to an installer, by the names that they get there.

    A path may be given as "PATH=NAME". Raises InvalidArg for one that cannot be read.
    """
    found = {}
    for text in paths:
        path, _, name = text.partition("=") if not Path(text).exists() else (text, "", "")
        try:
            found[name.lstrip("/") or Path(path).name] = Path(path).read_bytes()
        except OSError as error:
            raise InvalidArg(f"--initrd-inject {path}: {error.strerror}") from None
    return found


def add_to_initrd(initrd: str, files: Mapping[str, bytes]) -> str:
    """A copy of ``initrd`` that has ``files``, too, as a temporary file; its path.

    The kernel unpacks archives that follow each other, each packed as it likes, so the copy has another one at its end.
    """
    descriptor, path = tempfile.mkstemp(
        prefix="virtinst-", suffix=f"-{Path(initrd).name.rpartition('-')[2]}", dir=FOLDER
    )
    try:
        with os.fdopen(descriptor, "wb") as out:
            with open(initrd, "rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
            # an archive begins at a multiple of four
            out.write(bytes(-out.tell() % 4))
            out.write(gzip.compress(archive(files), mtime=0))
        Path(path).chmod(0o644)
    except BaseException:
        Path(path).unlink()
        raise
    return path


def archive(files: Mapping[str, bytes]) -> bytes:
    """``files`` (name with its folders -> content) as a cpio archive in the "newc" format, which the kernel reads: see
    the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""
    out = bytearray()
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    entries = [(name, b"", 0o40755) for name in sorted(folders)]
    entries += [(name, content, 0o100644) for name, content in sorted(files.items())]
    for number, (name, content, mode) in enumerate([*entries, ("TRAILER!!!", b"", 0)], 1):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)
