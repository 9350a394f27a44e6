"""The asyncio client is the blocking one with other I/O: its calls are generated, and cost the blocking one nothing."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

from guesthouse import client
from guesthouse.client import aio
from support import asyncify


@pytest.mark.parametrize("name", asyncify.MODULES)
def test_generated_module_is_fresh(name: str) -> None:
    written = ast.parse((asyncify.CLIENT / "aio" / f"{name}.py").read_text())
    fresh = asyncify.converted(name, asyncify.waiting_names())
    assert _sorted(written) == _sorted(fresh), "run: python tests/support/asyncify.py"


def _sorted(tree: ast.Module) -> str:
    """The tree as text; the formatter may have put imports into another order."""
    imports = [ast.dump(node) for node in tree.body if isinstance(node, ast.ImportFrom)]
    return "\n".join(
        [*sorted(imports), *(ast.dump(node) for node in tree.body if not isinstance(node, ast.ImportFrom))]
    )


@pytest.mark.parametrize("name", ["Connect", "Domain", "Network", "StoragePool", "StorageVol", "Stream"])
def test_both_have_the_same_methods(name: str) -> None:
    blocking, other = getattr(client, name), getattr(aio, name)
    mine = {attr: getattr(blocking, attr) for attr in dir(blocking) if not attr.startswith("_")}
    # an event loop does the first two; descriptors are passed by the blocking client alone
    without = {"fileno", "dispatch_events", "call_with_files", "set_keep_alive"}
    for attr, method in mine.items():
        if attr in without or not callable(method):
            continue
        there = getattr(other, attr)
        here, away = inspect.signature(method).parameters, inspect.signature(there).parameters
        assert [p for p in here if p != "wait"] == list(away), attr


def test_blocking_client_has_no_event_loop() -> None:
    program = "import sys, guesthouse.client; print(*sorted({'asyncio', 'threading', 'subprocess'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == ""
