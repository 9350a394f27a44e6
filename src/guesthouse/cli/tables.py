"""Tables as virsh prints them: columns three blanks apart, widths counted in terminal cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def safe_text(text: str) -> tuple[str, int]:
    """``text`` fit for a terminal, and its width in cells.

    Control and other unprintable characters, and a backslash before an x, become ``\\xNN`` by byte, as in virsh.
    """
    if text.isascii() and text.isprintable() and "\\x" not in text:
        return text, len(text)
    shown: list[str] = []
    width = 0
    for index, char in enumerate(text):
        if _printable(char) and not (char == "\\" and text[index + 1 : index + 2] == "x"):
            shown.append(char)
            width += _cells(char)
        else:
            escaped = "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
            shown.append(escaped)
            width += len(escaped)
    return "".join(shown), width


def _printable(char: str) -> bool:
    if char.isprintable():
        return True
    import unicodedata

    return unicodedata.category(char) == "Zs"  # blanks of every kind, as C's iswprint has it


def _cells(char: str) -> int:
    if char.isascii():
        return 1
    import unicodedata

    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, header: bool = True) -> str:
    """The table with a rule below its head; without ``header`` the rows alone, and the head does not count for widths.

    Ends with a newline unless it is empty.
    """
    cells = [[safe_text(text) for text in row] for row in rows]
    if header:
        cells.insert(0, [safe_text(text) for text in head])
    if not cells:
        return ""
    widths = [max(row[column][1] for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        padded = [text + " " * (widths[i] - width + 2) for i, (text, width) in enumerate(row[:-1])]
        lines.append(" " + " ".join([*padded, row[-1][0]]))
    if header:
        lines.insert(1, "-" * sum(width + 3 for width in widths))
    return "\n".join(lines) + "\n"
