"""Writes the asyncio client's calls and handles from the blocking ones: each method that calls becomes a coroutine.

    python tests/support/asyncify.py

Run it after a change to client/connect.py or client/objects.py; tests/structure/test_async_client.py says when.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "src" / "guesthouse" / "client"
MODULES = ("connect", "objects")
# where the names of client/link.py are that are written twice, for each kind of I/O
BY_HAND = {"Session": "guesthouse.client.aio.session", "Stream": "guesthouse.client.aio.stream"}
_SKIPPED = {"connect", "_READONLY"}  # opening a connection is I/O, too
_UNUSED = {"guesthouse.client.uri", "transport", "Link", "Ask"}
_SEEDS = {"call", "start", "register_event"}


def _receiver(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class _Awaits(ast.NodeTransformer):
    """Awaits each call of one of ``names`` on ``self``, what it has, or a stream."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.found = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        func = node.func
        if isinstance(func, ast.Attribute) and func.attr in self.names and _receiver(func) in ("self", "stream"):
            self.found += 1
            return ast.Await(node)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        before = self.found
        self.generic_visit(node)
        assert self.found == before, f"line {node.lineno}: a lambda cannot wait"
        return node


def _methods(tree: ast.Module) -> list[ast.FunctionDef]:
    return [item for cls in tree.body if isinstance(cls, ast.ClassDef) for item in cls.body if _is_function(item)]


def _is_function(item: ast.stmt) -> bool:
    return isinstance(item, ast.FunctionDef)


def waiting_names() -> set[str]:
    """The names of all methods that, one way or another, make a call."""
    trees = [ast.parse((CLIENT / f"{name}.py").read_text()) for name in MODULES]
    names = set(_SEEDS)
    while True:
        found = set(names)
        for tree in trees:
            for method in _methods(tree):
                awaits = _Awaits(names)
                awaits.visit(method)
                if awaits.found:
                    found.add(method.name)
        if found == names:
            return names
        # parsed anew: the transformer has changed the trees
        names = found
        trees = [ast.parse((CLIENT / f"{name}.py").read_text()) for name in MODULES]


def converted(name: str, names: set[str]) -> ast.Module:
    """The module ``name`` of the blocking client as its asyncio twin."""
    tree = ast.parse((CLIENT / f"{name}.py").read_text())
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in _SKIPPED:
            continue
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in _SKIPPED:
            continue
        for found in ast.walk(node):
            if isinstance(found, ast.ImportFrom):
                _redirect(found)
        if isinstance(node, ast.ImportFrom) and (node.module in _UNUSED or not node.names):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "guesthouse.client.link":
            body.extend(_by_hand(node))
            continue
        if isinstance(node, ast.ClassDef):
            node.body = [_method(item, names) for item in node.body]
        body.append(node)
    tree.body = body
    return ast.fix_missing_locations(tree)


def _redirect(node: ast.ImportFrom) -> None:
    """Imports of what has an asyncio twin go there; what is not used there goes away."""
    package, _, module = (node.module or "").rpartition(".")
    node.names = [alias for alias in node.names if alias.name not in _UNUSED]
    if package == "guesthouse.client" and module in MODULES:
        node.module = f"{package}.aio.{module}"


def _by_hand(node: ast.ImportFrom) -> list[ast.stmt]:
    """An import from client/link.py, as one from where each name is."""
    homes: dict[str, list[ast.alias]] = {}
    for alias in node.names:
        homes.setdefault(BY_HAND.get(alias.name, "guesthouse.client.link"), []).append(alias)
    return [ast.ImportFrom(home, names, 0) for home, names in sorted(homes.items())]


def _method(item: ast.stmt, names: set[str]) -> ast.stmt:
    if not isinstance(item, ast.FunctionDef):
        return item
    awaits = _Awaits(names)
    awaits.visit(item)
    if not awaits.found:
        return item
    assert not item.decorator_list, f"line {item.lineno}: {item.name} calls, so it can be no property"
    fields = {name: getattr(item, name) for name in (*item._fields, "lineno", "col_offset")}
    return ast.AsyncFunctionDef(**fields)


def main() -> None:
    names = waiting_names()
    files = []
    for name in MODULES:
        file = CLIENT / "aio" / f"{name}.py"
        head = f"# Generated from client/{name}.py by tests/support/asyncify.py: edit that file, then run it.\n"
        file.write_text(head + ast.unparse(converted(name, names)) + "\n")
        files.append(str(file))
    ruff = [str(Path(sys.executable).parent / "ruff")]
    subprocess.run([*ruff, "check", "--quiet", "--select", "I", "--fix", *files], check=True)
    subprocess.run([*ruff, "format", "--quiet", *files], check=True)


if __name__ == "__main__":
    main()
