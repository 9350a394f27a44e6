"""How guest's commands print: columns, and sizes."""

from __future__ import annotations

from collections.abc import Sequence

from guesthouse.units import pretty_size


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows, the first of them heads, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def size(count: float) -> str:
    """``count`` bytes, for people: "1.5 GiB"."""
    value, unit = pretty_size(int(count))
    return f"{value:.3g} {unit}"
