"""Prints the surface of a libvirt module as JSON: python libvirt_surface.py MODULE"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from typing import Any


def _signature(function: Any) -> list[list[Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [[p.name, p.default is p.empty, None if p.default is p.empty else repr(p.default)] for p in parameters]


def surface(module: Any) -> dict[str, Any]:
    """Constants with their values, functions and methods with their parameters."""
    found: dict[str, Any] = {"constants": {}, "functions": {}, "classes": {}}
    for name, value in vars(module).items():
        if name.startswith("VIR"):
            found["constants"][name] = value
        elif inspect.isfunction(value) and not name.startswith("_"):
            found["functions"][name] = _signature(value)
        elif inspect.isclass(value) and name.startswith(("vir", "libvirt")):
            methods = inspect.getmembers(value, inspect.isfunction)
            found["classes"][name] = {key: _signature(function) for key, function in methods if key[:1] != "_"}
            found["classes"][name]["__init__"] = _signature(value.__init__)
    return found


if __name__ == "__main__":
    json.dump(surface(importlib.import_module(sys.argv[1])), sys.stdout)
