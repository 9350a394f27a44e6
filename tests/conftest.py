"""``--regenerate`` writes golden files anew instead of comparing with them; look at the difference before you commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import cgroups, leftovers

Golden = Callable[[Path, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the golden files anew")


@pytest.fixture(scope="session", autouse=True)
def nothing_stays_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever the tests made outside their folder is gone when they end."""
    before, groups = leftovers.links_and_loops(), cgroups.left()
    yield
    assert leftovers.processes(tmp_path_factory.getbasetemp()) == []
    # where another session runs beside this one, ./dev looks when both have ended
    if "TESTS_BESIDE" not in os.environ:
        assert leftovers.groups(groups) == set()
        assert leftovers.links_and_loops() - before == set()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """``golden(file, text)``: the file holds exactly this text."""

    def compare(file: Path, text: str) -> None:
        if request.config.getoption("--regenerate"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        assert file.exists(), f"no golden file {file.name}; make it with --regenerate"
        assert text == file.read_text()

    return compare
