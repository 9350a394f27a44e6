"""What a mistyped word may have meant."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def hint(word: str, known: Iterable[str], *, before: str = "") -> str:
    """A line with the words of ``known`` that come near to ``word``, with ``before`` before each; "" where none does."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=3, cutoff=0.6)
    if not near:
        return ""
    words = [f"'{before}{each}'" for each in near]
    return f"hint: did you mean {' or '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)}?"
