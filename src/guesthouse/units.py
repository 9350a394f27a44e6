"""Sizes, UUIDs and MAC addresses: reading what people and XML write, and writing it back."""

from __future__ import annotations

import os

from guesthouse.errors import InvalidArg, XMLError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# libvirt's rule (virScaleInteger): a letter, or a letter with "iB", is a power of 1024; with "B" a power of 1000.
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
# without regular expressions: each command line starts by importing this
_HEX = frozenset("0123456789abcdefABCDEF")
_MAX = 2**64 - 1

_CPUS_MOST = 1 << 14


def unit_scale(unit: str) -> int:
    """Bytes in one ``unit``: "b"/"byte(s)" 1, "KiB"/"k" 1024, "KB" 1000, "MiB", ... "EB". Case does not matter.

    Raises InvalidArg for an unknown unit.
    """
    word = unit.lower()
    if word in ("", "b", "byte", "bytes"):
        return 1
    power = _POWERS.get(word[0])
    if power is not None:
        if word[1:] in ("", "ib"):
            return int(1024**power)
        if word[1:] == "b":
            return int(1000**power)
    raise InvalidArg(f"unknown suffix '{unit}'")


def scale(value: int, unit: str | None, default: str = "bytes") -> int:
    """``value`` of ``unit`` (``default`` where None) in bytes. Raises InvalidArg for an unknown unit, XMLError where
    the result does not fit into 64 bits."""
    size = value * unit_scale(default if unit is None else unit)
    if size > _MAX:
        raise XMLError("value too large")
    return size


def parse_size(text: str, default: str = "bytes") -> int:
    """The bytes that "10G", "512 MiB" or "4096" mean (a bare number counts ``default`` units).

    Raises InvalidArg where it is no such size.
    """
    word = text.strip()
    unit = word.lstrip("0123456789")
    digits = word.removesuffix(unit) if unit else word
    unit = unit.lstrip()
    if not digits or not (unit == "" or (unit.isascii() and unit.isalpha())):
        raise InvalidArg(f"malformed size '{text}'")
    return scale(int(digits), unit or None, default)


def pretty_size(size: int) -> tuple[float, str]:
    """``size`` bytes as virsh shows them: (1.5, "GiB"). Exact bytes up to 1023."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            return value, unit
        value /= 1024
    return value, "EiB"


def parse_uuid(text: str) -> str:
    """The canonical spelling of a UUID; dashes may stand anywhere between bytes, or be absent, as libvirt allows.

    Raises XMLError where it is none.
    """
    digits = text.strip().lower().replace("-", "")
    if len(digits) != 32 or not _HEX.issuperset(digits):
        raise XMLError(f"malformed uuid element '{text}'")
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def new_uuid() -> str:
    """A fresh random UUID in its canonical spelling."""
    import uuid  # command lines that make none start faster without it

    return str(uuid.uuid4())


def parse_mac(text: str) -> str:
    """A MAC address in lower case with two digits a byte. Raises XMLError where it is none."""
    parts = text.split(":")
    if len(parts) != 6 or not all(1 <= len(part) <= 2 and _HEX.issuperset(part) for part in parts):
        raise XMLError(f"unable to parse mac address '{text}'")
    return ":".join(f"{int(part, 16):02x}" for part in parts)


def new_mac(prefix: str = "52:54:00") -> str:
    """A fresh random MAC address under ``prefix`` (QEMU's, three bytes, by default)."""
    missing = 6 - len(prefix.split(":"))
    return ":".join([prefix, *(f"{byte:02x}" for byte in os.urandom(missing))])


def parse_cpus(text: str) -> set[int]:
    """The numbers of a list as "0-3,^2,7". Raises InvalidArg."""
    cpus: set[int] = set()
    for word in text.split(","):
        drop = word.strip().startswith("^")
        first, dash, last = word.strip().removeprefix("^").partition("-")
        if not (first.isascii() and first.isdigit() and (last.isascii() and last.isdigit() if dash else True)):
            raise InvalidArg(f"Failed to parse bitmap '{text}'")
        start, end = int(first), int(last or first)
        if end < start or end >= _CPUS_MOST:
            raise InvalidArg(f"Failed to parse bitmap '{text}'")
        numbers = range(start, end + 1)
        cpus = cpus.difference(numbers) if drop else cpus.union(numbers)
    return cpus


def format_cpus(cpus: set[int]) -> str:
    """The list that :func:`parse_cpus` reads, as short as it can be."""
    words: list[str] = []
    for cpu in sorted(cpus):
        if words and int(words[-1].rpartition("-")[2]) == cpu - 1:
            words[-1] = f"{words[-1].partition('-')[0]}-{cpu}"
        else:
            words.append(str(cpu))
    return ",".join(words)
