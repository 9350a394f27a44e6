"""Installer media and screens: a bootable CD made from Debian's own installer, and what a screenshot shows."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path

_NETBOOT = Path("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64")

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


def installer_iso(folder: Path) -> Path:
    """A CD image of Debian's text installer (package debian-installer-12-netboot-amd64) that starts by itself."""
    tree = folder / "installer"
    (tree / "boot/grub").mkdir(parents=True)
    for name in ("linux", "initrd.gz"):
        shutil.copy(_NETBOOT / name, tree / name)
    (tree / "boot/grub/grub.cfg").write_text(_GRUB)
    iso = folder / "INSTALLER.iso"
    subprocess.run(["grub-mkrescue", "-o", str(iso), str(tree)], check=True, capture_output=True)
    shutil.rmtree(tree)
    return iso


def ppm_colours(data: bytes) -> tuple[int, int, dict[bytes, int]]:
    """Width, height and how many pixels each colour has, of a binary PPM (as QEMU's screendump writes it)."""
    magic, width, height, depth, pixels = _ppm_fields(data)
    assert magic == b"P6" and depth == 255, (magic, depth)
    assert len(pixels) == width * height * 3
    counts: dict[bytes, int] = {}
    for at in range(0, len(pixels), 3):
        colour = pixels[at : at + 3]
        counts[colour] = counts.get(colour, 0) + 1
    return width, height, counts


def _ppm_fields(data: bytes) -> tuple[bytes, int, int, int, bytes]:
    words: list[bytes] = []
    at = 0
    while len(words) < 4:
        end = at
        while not data[end : end + 1].isspace():
            end += 1
        words.append(data[at:end])
        at = end + 1
    return words[0], int(words[1]), int(words[2]), int(words[3]), data[at:]


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose chunks all check out."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, size, pixels = 8, (0, 0), b""
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + length : at + 12 + length], "big")
        if kind == b"IHDR":
            size = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        elif kind == b"IDAT":
            pixels += body
        at += 12 + length
    assert zlib.decompress(pixels)
    return size
