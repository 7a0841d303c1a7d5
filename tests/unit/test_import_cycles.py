"""No module imports itself through others: what is imported can be understood, and tested, first."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mcpmesh

ROOT = Path(mcpmesh.__file__).parent


def module_names() -> dict[str, Path]:
    """Every module of the package, with its file."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, names: dict[str, Path]) -> set[str]:
    """The modules of the package that a module imports: anywhere in it, for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in names else str(node.module))
    return found & names.keys()


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one cycle, the first one again at its end; empty if there is none."""
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        stack = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                done.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                stack.append((name, True))
                stack += [(imported, False) for imported in sorted(graph[name])]
    return []


def import_graph() -> dict[str, set[str]]:
    """The modules of mcpmesh, each with those that it imports."""
    names = module_names()
    return {name: imports_of(name, path, names) for name, path in names.items()}


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        ({}, []),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"a"}}, ["a", "a"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": {"a"}}, ["a", "d", "a"]),
    ],
)
def test_a_cycle_is_found(graph: dict[str, set[str]], cycle: list[str]):
    assert find_cycle(graph) == cycle


def test_the_modules_import_each_other_without_a_cycle():
    assert " → ".join(find_cycle(import_graph())) == ""
