"""What a user gave for the options of a command, read as virsh reads it."""

from __future__ import annotations

from guesthouse.cli.virsh.command import REST, Command, Option
from guesthouse.errors import InvalidArg, Overflow
from guesthouse.units import unit_scale

_INT_MAX = 2**31 - 1
_UINT_MAX = 2**32 - 1
_ULL_MAX = 2**64 - 1


class Failed(Exception):
    """A command fails with this text, which the shell prints behind "error: "; empty prints nothing more."""


class Given:
    """A command as parsed, with its values in the order in which they were given."""

    __slots__ = ("command", "values")

    def __init__(self, command: Command, values: list[tuple[Option, str]]) -> None:
        self.command = command
        self.values = values

    def has(self, name: str) -> bool:
        """Whether the option was given, with or without a value."""
        return any(option.name == name for option, _ in self.values)

    def raw(self, name: str) -> str | None:
        """The value as it is, None where it was not given."""
        for option, value in self.values:
            if option.name == name:
                return value
        return None

    def text(self, name: str) -> str | None:
        """The value, None where it was not given. Raises Failed where it is empty and may not be."""
        for option, value in self.values:
            if option.name == name:
                if not value and not option.empty:
                    raise Failed(f"Failed to get option '{name}': Option argument is empty")
                return value
        return None

    def need(self, name: str) -> str:
        """The value of a required option. Raises Failed where it is empty."""
        value = self.text(name)
        if value is None:
            raise Failed(f"Failed to get option '{name}': Mandatory option not present")
        return value

    def rest(self) -> list[str]:
        """All values of the option that takes the rest."""
        return [value for option, value in self.values if option.kind == REST]

    def integer(self, name: str) -> int | None:
        """The value as a C int. Raises Failed where it is none."""
        return self._number(name, -_INT_MAX - 1, _INT_MAX)

    def unsigned(self, name: str) -> int | None:
        """The value as a C unsigned int. Raises Failed where it is none."""
        return self._number(name, 0, _UINT_MAX)

    def unsigned_long(self, name: str) -> int | None:
        """The value as an unsigned 64-bit integer. Raises Failed where it is none."""
        return self._number(name, 0, _ULL_MAX)

    def _number(self, name: str, low: int, high: int) -> int | None:
        text = self.raw(name)
        if text is None:
            return None
        value = parse_number(text)
        if value is None or not low <= value <= high:
            raise Failed(f"Numeric value '{text}' for <{name}> option is malformed or out of range")
        return value

    def scaled(self, name: str, scale: int = 1) -> int | None:
        """A size as "10G" in bytes; a bare number counts ``scale`` bytes. Raises Failed where it is none."""
        text = self.raw(name)
        if text is None:
            return None
        digits = text.lstrip(" \t\n\v\f\r").removeprefix("+")
        suffix = digits.lstrip("0123456789")
        value = parse_number(digits.removesuffix(suffix))
        complaint = f"Scaled numeric value '{text}' for <{name}> option is malformed or out of range"
        if value is None or value > _ULL_MAX:
            raise Failed(complaint)
        try:
            size = value * (unit_scale(suffix) if suffix else scale)
        except InvalidArg as error:
            raise Failed(complaint) from error
        if size > _ULL_MAX:
            raise Failed(complaint) from Overflow(f"value too large: {value}{suffix}")
        return size

    def timeout(self) -> float | None:
        """The value of --timeout in seconds, None where it was not given. Raises Failed for 0 and for too much."""
        seconds = self.unsigned("timeout")
        if seconds is None:
            return None
        if seconds == 0 or seconds > _INT_MAX // 1000:
            raise Failed(f"Numeric value '{seconds}' for <timeout> option is malformed or out of range")
        return float(seconds)

    def exclusive(self, one: str, other: str) -> None:
        """Raises Failed where both options were given."""
        if self.has(one) and self.has(other):
            raise Failed(f"Options --{one} and --{other} are mutually exclusive")

    def descriptors(self, name: str = "pass-fds") -> list[int]:
        """Numbers of open files, with commas between them; none where the option was not given. Raises Failed."""
        text = self.text(name)
        if text is None:
            return []
        numbers = [(word, parse_number(word)) for word in split_commas(text)]
        for word, number in numbers:
            if number is None:
                raise Failed(f"Unable to parse FD number '{word}'")
        return [number for _, number in numbers if number is not None]

    def require(self, option: str, needed: str) -> None:
        """Raises Failed where ``option`` was given without ``needed``."""
        if self.has(option) and not self.has(needed):
            raise Failed(f"Option --{needed} is required by option --{option}")

    def flags(self, table: dict[str, int]) -> int:
        """The sum of the bits of those options of ``table`` that were given."""
        bits = 0
        for name, bit in table.items():
            if self.has(name):
                bits |= bit
        return bits


def parse_number(text: str) -> int | None:
    """A decimal number as C's strtol reads it (blanks and a sign before it), None where ``text`` is none."""
    digits = text.lstrip(" \t\n\v\f\r")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.removeprefix("-" if sign < 0 else "+")
    if not (digits.isascii() and digits.isdigit()):
        return None
    return sign * int(digits)


def split_commas(text: str) -> list[str]:
    """``text`` split at commas; a doubled comma stands for one inside a word."""
    words: list[str] = []
    pieces = text.split(",")
    words.append(pieces[0])
    glue = False
    for piece in pieces[1:]:
        if glue:
            words[-1] += f",{piece}"
            glue = False
        elif piece:
            words.append(piece)
        else:
            glue = True
    if glue:
        words.append("")
    return words
