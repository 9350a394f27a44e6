"""The project speaks of itself alone: no path of a developer's machine, no private host, no leftover marks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# spelt in pieces so that this file passes its own test
FORBIDDEN = re.compile("|".join(["/wo" + "rk/", "/ro" + "ot/", "TO" + "DO", "FIX" + "ME", "X" * 3 + r"\b(?!Z)"]))


def tracked() -> list[str]:
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [name for name in out.split("\0") if name and (ROOT / name).exists()]


@pytest.mark.parametrize("name", tracked())
def test_file_is_clean(name: str) -> None:
    try:
        text = (ROOT / name).read_text()
    except UnicodeDecodeError:
        return
    found = [line for line in text.splitlines() if FORBIDDEN.search(line)]
    assert not found


def test_both_readmes_open_with_the_two_commands() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        start = (ROOT / name).read_text()[:2500]
        assert "./dev demo" in start and "./dev test" in start


@pytest.mark.parametrize(
    "name", sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("**/*.md") if ".venv" not in p.parts)
)
def test_links_lead_somewhere(name: str) -> None:
    file = ROOT / name
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", file.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (file.parent / target).exists(), target
