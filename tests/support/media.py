"""Installer media and screens: a bootable CD made from Debian's own installer, and what a screenshot shows."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path

from support import media_kernel

_INSTALLERS = Path("/usr/lib/debian-installer/images")

# Both consoles: the installer runs on each one named, so that the screen and the serial line show it.
_GRUB = """\
set timeout=0
serial --unit=0 --speed=115200
terminal_output console serial
menuentry "Install" {
    linux /linux console=ttyS0,115200 console=tty0
    initrd /initrd.gz
}
"""

_TINY = "set timeout=0\nmenuentry tiny {\n linux /linux console=ttyS0 quiet\n initrd /initrd\n}\n"


def installer_iso(folder: Path) -> Path:
    """A CD image of Debian's text installer (a package debian-installer-*-netboot-amd64) that starts by itself."""
    netboot = max(_INSTALLERS.glob("*/amd64/text/debian-installer/amd64"))
    tree = folder / "installer"
    (tree / "boot/grub").mkdir(parents=True)
    for name in ("linux", "initrd.gz"):
        shutil.copy(netboot / name, tree / name)
    (tree / "boot/grub/grub.cfg").write_text(_GRUB)
    iso = folder / "INSTALLER.iso"
    subprocess.run(["grub-mkrescue", "-o", str(iso), str(tree)], check=True, capture_output=True)
    shutil.rmtree(tree)
    return iso


def bootable_disk(folder: Path) -> Path:
    """A disk in ``folder`` that boots the tests' kernel: its GRUB boots from disks and CDs alike."""
    tree = folder / "tree"
    (tree / "boot/grub").mkdir(parents=True)
    kernel, initrd = media_kernel.kernel_and_initrd()
    shutil.copy(kernel, tree / "linux")
    shutil.copy(initrd, tree / "initrd")
    (tree / "boot/grub/grub.cfg").write_text(_TINY)
    subprocess.run(["grub-mkrescue", "-o", folder / "tiny.img", tree], check=True, capture_output=True)
    return folder / "tiny.img"


def png_colours(data: bytes) -> tuple[int, int, dict[bytes, int]]:
    """Width, height and how many pixels each colour has, of a PNG with 8-bit RGB or RGBA (checksums are checked)."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, head, packed = 8, b"", b""
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + length : at + 12 + length], "big")
        if kind == b"IHDR":
            head = body
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    assert head[8] == 8 and head[9] in (2, 6) and head[12] == 0, "8-bit RGB(A), not interlaced"
    step = 3 if head[9] == 2 else 4
    raw = zlib.decompress(packed)
    counts: dict[bytes, int] = {}
    above = bytes(width * step)
    for y in range(height):
        start = y * (width * step + 1)
        above = _unfilter(raw[start], raw[start + 1 : start + 1 + width * step], above, step)
        for x in range(0, len(above), step):
            colour = above[x : x + 3]
            counts[colour] = counts.get(colour, 0) + 1
    return width, height, counts


def _unfilter(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """A scan line with PNG's filter taken off (the PNG specification, clause 9)."""
    if kind == 0:
        return line
    out = bytearray(line)
    for i in range(len(out)):
        left = out[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above[i]
        elif kind == 3:
            guess = (left + above[i]) // 2
        else:
            p = left + above[i] - corner
            guess = min((abs(p - left), 0, left), (abs(p - above[i]), 1, above[i]), (abs(p - corner), 2, corner))[2]
        out[i] = (out[i] + guess) & 0xFF
    return bytes(out)
