"""What a disk image says of itself: format, virtual size, backing file, features.

Headers are read here, not by a tool, and a header may come from a hostile guest: everything is bounded by the
:data:`HEADER_SIZE` bytes that were read, numbers are checked before they are used, and text that XML could not carry
is made harmless. A format that was *found* rather than told is a hint for people: never hand it to QEMU, since a guest
can write any header into its raw disk.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

#: As much as is looked at of each file: enough for the volume descriptor of an ISO image.
HEADER_SIZE = 0x8200

_SECTOR = 512
_LONGEST_NAME = 1023


class Image(NamedTuple):
    """``capacity`` and ``cluster_size`` in bytes, None where the header does not say. ``backing`` is as the header
    spells it; ``backing_format`` None means that it names none. ``compat`` and ``features`` are qcow2's, None for
    images of version 2. ``encryption`` is "luks", "qcow" or None, ``payload`` the bytes of LUKS's own header."""

    format: str
    capacity: int | None = None
    cluster_size: int | None = None
    backing: str | None = None
    backing_format: str | None = None
    compat: str | None = None
    features: tuple[str, ...] | None = None
    encryption: str | None = None
    payload: int = 0


def read_header(fd: int) -> bytes:
    """The start of the open file ``fd``, wherever its position is. Raises OSError."""
    parts = []
    at = 0
    while at < HEADER_SIZE:
        part = os.pread(fd, HEADER_SIZE - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _unpack(layout: str, header: bytes, offset: int) -> int | None:
    if offset < 0 or offset + struct.calcsize(layout) > len(header):
        return None
    return int(struct.unpack_from(layout, header, offset)[0])


def _text(raw: bytes) -> str:
    """``raw`` as text that XML can carry."""
    text = raw.partition(b"\0")[0].decode("utf-8", "replace")
    return re.sub(r"[\x00-\x1f\x7f\ufffe\uffff]", "\ufffd", text)


# -- one function a format that has more to say than its size


def _qcow(header: bytes) -> Image:
    version = _unpack(">I", header, 4)
    image = Image("qcow" if version == 1 else "qcow2", _unpack(">Q", header, 24))
    crypt = _unpack(">I", header, 36 if version == 1 else 32)
    image = image._replace(encryption={1: "qcow", 2: None if version == 1 else "luks"}.get(crypt or 0))
    if version != 1:
        bits = _unpack(">I", header, 20)
        if bits and bits < 63:
            image = image._replace(cluster_size=1 << bits)
    start, length = _unpack(">Q", header, 8), _unpack(">I", header, 16)
    if start and length:
        if length > _LONGEST_NAME or start + length > len(header):
            return image
        image = image._replace(backing=_text(header[start : start + length]))
        if version != 1:
            image = image._replace(backing_format=_qcow2_backing_format(header, start))
    if version == 3:
        compatible, incompatible = _unpack(">Q", header, 80), _unpack(">Q", header, 72)
        if compatible is not None and incompatible is not None:
            found = ["lazy_refcounts"] * (compatible & 1) + ["extended_l2"] * (incompatible >> 4 & 1)
            image = image._replace(compat="1.1", features=tuple(found))
    return image


def _qcow2_backing_format(header: bytes, end: int) -> str | None:
    """The header extension that names the backing file's format; extensions stand before the file's name."""
    at = 72 if _unpack(">I", header, 4) == 2 else _unpack(">I", header, 100) or 0
    while at + 8 <= end:
        magic, length = _unpack(">I", header, at), _unpack(">I", header, at + 4)
        if not magic or length is None:
            return None
        if magic == 0xE2792ACA:
            return _text(header[at + 8 : at + 8 + length]) if at + 8 + length <= len(header) else None
        at += 8 + -(-length // 8) * 8
    return None


def _qed(header: bytes) -> Image:
    image = Image("qed", _unpack("<Q", header, 48))
    flags, start, length = _unpack("<Q", header, 16), _unpack("<I", header, 56), _unpack("<I", header, 60)
    if flags and flags & 1 and start and length and length <= _LONGEST_NAME and start + length <= len(header):
        image = image._replace(backing=_text(header[start : start + length]))
        if flags & 4:
            image = image._replace(backing_format="raw")
    return image


def _vmdk(header: bytes) -> Image:
    capacity = _unpack("<Q", header, 12)
    image = Image("vmdk", capacity * _SECTOR if capacity is not None and capacity < 2**54 else None)
    match = re.search(rb'parentFileNameHint="([^"]{1,1023})"', header[_SECTOR:])
    return image._replace(backing=_text(match[1])) if match else image


def _cow(header: bytes) -> Image:
    image = Image("cow", _unpack(">Q", header, 4 + 4 + 1024 + 4))
    name = _text(header[8 : 8 + 1024])
    return image._replace(backing=name) if name else image


def _plain(format: str, layout: str, offset: int, unit: int = 1) -> Callable[[bytes], Image]:
    def probe(header: bytes) -> Image:
        size = _unpack(layout, header, offset)
        return Image(format, size * unit if size is not None and size < 2**63 // unit else None)

    return probe


class _Magic(NamedTuple):
    """``versions``: where the version stands, its layout, the known ones; None for formats without."""

    format: str
    offset: int
    magic: bytes
    versions: tuple[int, str, tuple[int, ...]] | None
    probe: Callable[[bytes], Image]


_MAGICS = (
    _Magic("iso", 32769, b"CD001", None, lambda header: Image("iso")),
    _Magic("vpc", 0, b"conectix", (12, ">I", (0x10000,)), _plain("vpc", ">Q", 40)),
    _Magic("vdi", 64, b"\x7f\x10\xda\xbe", (68, "<I", (0x10001,)), _plain("vdi", "<Q", 368)),
    _Magic("ploop", 0, b"WithouFreSpacExt", None, _plain("ploop", "<Q", 36, _SECTOR)),
    _Magic("cow", 0, b"OOOM", (4, ">I", (2,)), _cow),
    _Magic("qcow", 0, b"QFI\xfb", (4, ">I", (1,)), _qcow),
    _Magic("qcow2", 0, b"QFI\xfb", (4, ">I", (2, 3)), _qcow),
    _Magic("qed", 0, b"QED\0", None, _qed),
    _Magic("vmdk", 0, b"KDMV", (4, "<I", (1, 2, 3)), _vmdk),
)


def _raw(header: bytes) -> Image:
    if header[:6] == b"LUKS\xba\xbe" and _unpack(">H", header, 6) == 1:
        return Image("raw", encryption="luks", payload=(_unpack(">I", header, 104) or 0) * _SECTOR)
    return Image("raw")


def _is(row: _Magic, header: bytes) -> bool:
    if header[row.offset : row.offset + len(row.magic)] != row.magic:
        return False
    return row.versions is None or _unpack(row.versions[1], header, row.versions[0]) in row.versions[2]


def probe(header: bytes) -> Image:
    """What the image with this header seems to be; "raw" where nothing is recognised."""
    for row in _MAGICS:
        if _is(row, header):
            return row.probe(header)
    return _raw(header)


def inspect(header: bytes, format: str) -> Image:
    """The facts of an image that is known to be ``format``. Where the header is another's, there are none."""
    if format == "raw":
        return _raw(header)
    for row in _MAGICS:
        if row.format == format and _is(row, header):
            return row.probe(header)
    return Image(format)


def backing_path(image: str, backing: str) -> str | None:
    """The local file that the image at ``image`` means by ``backing``: a path, relative to the image's folder, or
    QEMU's ``json:`` spelling of one. None for anything that is no local file (``nbd://...``)."""
    if backing.startswith("json:"):
        found = _json_file(backing[5:])
        if found is None:
            return None
        backing = found
    elif backing.startswith("file:"):
        backing = backing[5:].removeprefix("//")
    elif re.match(r"[^/]*:", backing):
        return None
    return str(PurePosixPath(image).parent / backing) if backing else None


def _json_file(text: str) -> str | None:
    try:
        node: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for _ in range(4):
        if not isinstance(node, dict):
            return node if isinstance(node, str) and not re.match(r"[^/]*:", node) else None
        if node.get("driver", "file") == "file" and isinstance(node.get("filename"), str):
            return _text(node["filename"].encode("utf-8", "replace"))
        if isinstance(node.get("file.filename"), str):
            return _text(node["file.filename"].encode("utf-8", "replace"))
        node = node.get("file")
    return None
