"""guesthouse.libvirt beside Debian's libvirt-python: the same names, called the same way, with the same values."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from libvirt_surface import surface

HERE = Path(__file__).parent
# functions of libvirt-python that are not for programs
NOT_OURS = {
    "overload": "typing's decorator, imported there",
}


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    run = subprocess.run(
        ["/usr/bin/python3", str(HERE / "libvirt_surface.py"), "libvirt"], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(surface(importlib.import_module("guesthouse.libvirt"))))
    return found


def test_every_constant_has_its_value(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert len(theirs["constants"]) > 1000
    assert ours["constants"] == theirs["constants"]


def test_every_function_is_called_the_same_way(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    wanted = {name: parameters for name, parameters in theirs["functions"].items() if name not in NOT_OURS}
    assert ours["functions"] == wanted


def test_every_method_is_called_the_same_way(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert set(ours["classes"]) == set(theirs["classes"])
    for name, methods in theirs["classes"].items():
        assert ours["classes"][name] == methods, name
