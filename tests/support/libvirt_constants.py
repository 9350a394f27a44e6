"""Writes the constants of guesthouse.libvirt from the reference facts: python tests/support/libvirt_constants.py

tests/unit/libvirt/test_constants.py says when the written file is stale.
"""

from __future__ import annotations

import json
import textwrap
from itertools import groupby
from pathlib import Path

FILE = Path(__file__).parents[2] / "src" / "guesthouse" / "libvirt" / "constants.py"
REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "constants.json"

# what libvirt-python has in modules of their own: libvirt_qemu, libvirt_lxc and the administration's
_OTHER_HEADERS = {"libvirt-qemu.h", "libvirt-lxc.h", "libvirt-admin.h"}
_OTHER_TEXTS = ("VIR_THREADPOOL_", "VIR_CLIENT_INFO_", "VIR_SERVER_")

# names that end like a sentinel and are in libvirt-python
_KEPT = {"VIR_DOMAIN_MEMORY_STAT_LAST", "VIR_NETWORK_UPDATE_COMMAND_ADD_LAST"}

_HEAD = '''"""The constants of libvirt 9.0, grouped by enumeration. Written by tests/support/libvirt_constants.py.

A line is the enumeration, what its names begin with, and the rest of each name with its value; without one it is the
value before, plus one. Longer lines go on indented.
"""

from __future__ import annotations


def _numbers(table: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in table.replace("\\n    ", " ").splitlines():
        _, prefix, *members = line.split()
        value = -1
        for member in members:
            name, _, number = member.partition("=")
            value = int(number) if number else value + 1
            found[prefix + name] = value
    return found


def _strings(table: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in table.replace("\\n    ", " ").splitlines():
        prefix, *members = line.split()
        found.update((prefix + name, text) for name, _, text in (member.partition("=") for member in members))
    return found

'''
_TAIL = """
VALUES: dict[str, int | str] = {**_numbers(_ENUMERATIONS), **_strings(_TEXTS)}
globals().update(VALUES)
__all__ = [*VALUES]
"""


def _prefix(names: list[str]) -> str:
    first, last = min(names), max(names)
    shared = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: first.rfind("_", 0, shared) + 1]


def _line(words: list[str]) -> str:
    return textwrap.fill(" ".join(words), 118, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)


def text() -> str:
    """What the module has to be."""
    facts = json.loads(REFERENCE.read_text())
    lines = []
    for enum, every in facts["enums"].items():
        members = {name: value for name, value in every.items() if name in _KEPT or not name.endswith("_LAST")}
        if facts["enum_header"][enum] in _OTHER_HEADERS or not members:
            continue
        prefix, before, words = _prefix(list(members)), -1, []
        for name, value in members.items():
            words.append(name[len(prefix) :] + ("" if value == before + 1 else f"={value}"))
            before = value
        lines.append(_line([enum, prefix, *words]))
    texts = []
    wanted = {name: value for name, value in facts["string_constants"].items() if not name.startswith(_OTHER_TEXTS)}
    for _, group in groupby(wanted.items(), lambda item: item[0].split("_")[:3]):
        pairs = list(group)
        prefix = _prefix([name for name, _ in pairs])
        texts.append(_line([prefix, *(f"{name[len(prefix) :]}={value}" for name, value in pairs)]))
    enumerations, strings = "\n".join(lines), "\n".join(texts)
    return f'{_HEAD}\n_ENUMERATIONS = """\\\n{enumerations}\n"""\n\n_TEXTS = """\\\n{strings}\n"""\n{_TAIL}'


if __name__ == "__main__":
    FILE.write_text(text())
