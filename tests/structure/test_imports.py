"""Who may import whom: down only; siblings never, but where the table says so (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "guesthouse"
BASE = {"errors", "units", "__init__"}

# package -> the packages of ours that it may import
MAY = {
    "errors": set(),
    "units": {"errors"},
    "model": BASE,
    "wire": BASE,
    "host": BASE | {"model"},
    "qemu": BASE | {"model", "host"},
    "network": BASE | {"model", "host"},
    "storage": BASE | {"model", "host"},
    "client": BASE | {"model", "wire"},
    "services": BASE | {"model", "host", "qemu", "network", "storage"},
    "provision": BASE | {"client", "model"},
    "daemon": BASE | {"services", "wire"},
    "cli": BASE | {"client", "provision", "model", "host", "network"},
    "libvirt": BASE | {"client", "model", "wire"},
}
# pure packages: values in, values out
PURE = {"errors", "units", "model", "wire"}
IMPURE_MODULES = {"asyncio", "socket", "subprocess", "threading", "selectors"}


def modules() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def package_of(file: Path) -> str:
    return file.relative_to(SRC).with_suffix("").parts[0]


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            if node.module == "guesthouse":
                yield from (f"guesthouse.{alias.name}" for alias in node.names)
            elif node.module:
                yield node.module


@pytest.mark.parametrize("file", modules(), ids=lambda f: str(f.relative_to(SRC)))
def test_imports_go_down(file: Path) -> None:
    package = package_of(file)
    if package == "__init__":
        assert not [name for name in imports(file) if name.startswith("guesthouse.")]
        return
    for name in imports(file):
        if name.startswith("guesthouse."):
            other = name.split(".")[1]
            if other in {"__version__", "LIBVIRT_VERSION"}:
                continue
            assert other == package or other in MAY[package], f"{package} may not import {name}"
        if package in PURE:
            assert name.split(".")[0] not in IMPURE_MODULES, f"{package} is pure and imports {name}"


def test_only_dispatch_and_session_know_both_sides() -> None:
    """Below the daemon, services know no wire; in it, only few files know services and wire both."""
    both = {
        file.name
        for file in (SRC / "daemon").glob("*.py")
        if {n.split(".")[1] for n in imports(file) if n.startswith("guesthouse.")} >= {"services", "wire"}
    }
    assert both <= {"dispatch.py", "session.py", "narrowed.py"}


@pytest.mark.parametrize("file", modules(), ids=lambda f: str(f.relative_to(SRC)))
def test_no_module_is_a_god(file: Path) -> None:
    if file.name in {"types.py", "procedures.py"} and package_of(file) == "wire":
        return  # tables
    assert len(file.read_text().splitlines()) <= 800
