"""Which mutants there are and which of them are tried.

The modules under test import mutmut, which takes half a second. The fixtures
import them, so that runs of other tests do not pay for it.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

SOURCE = """\
LIMIT = 10 * 2


@decorated(1 + 2)
def area(width: int, height: int = 3) -> int:
    if width < 0 and not height:
        return -1
    return width * height


class Box:
    deep = True

    @property
    def full(self) -> bool:
        return self.deep is not None
"""


@pytest.fixture
def mutation() -> ModuleType:
    from tests.mutants import mutation

    return mutation


@pytest.fixture
def choice() -> ModuleType:
    from tests.mutants import choice

    return choice


def test_each_operator_inside_a_function_is_mutated_and_nothing_that_runs_at_import(mutation: ModuleType) -> None:
    found = mutation.changes("shape.py", SOURCE, set(mutation.mutants("shape.py", SOURCE)))
    assert [(mutant.function, change.line, change.after) for mutant, change in found.items()] == [
        ("area", 6, "if width < 0 or not height:"),
        ("area", 6, "if width <= 0 and not height:"),
        ("area", 6, "if width < 1 and not height:"),
        ("area", 6, "if width < 0 and height:"),
        ("area", 7, "return +1"),
        ("area", 7, "return -2"),
        ("area", 8, "return width / height"),
        ("Box.full", 16, "return self.deep is None"),
    ]


def test_a_change_says_the_line_and_keeps_the_rest_of_the_source(mutation: ModuleType) -> None:
    wanted = mutation.Mutant(path="shape.py", function="area", operator="remove_unary_ops", number=0)
    [change] = mutation.changes("shape.py", SOURCE, {wanted}).values()
    assert change == mutation.Change(
        line=6,
        before=SOURCE,
        after="if width < 0 and height:",
        source=SOURCE.replace("and not height", "and height"),
    )
    assert change.diff == [
        "@@ -5,3 +5,3 @@",
        " def area(width: int, height: int = 3) -> int:",
        "-    if width < 0 and not height:",
        "+    if width < 0 and height:",
        "         return -1",
    ]


def test_a_mutant_that_does_not_compile_is_left_out(mutation: ModuleType) -> None:
    source = (
        "def f():\n    for a in b:\n        if a:\n            break\n    try:\n        g()\n    except* OSError:\n"
    )
    source += "        while a > 1:\n            break\n"
    changes = mutation.changes("f.py", source, set(mutation.mutants("f.py", source)))
    # mutmut makes a `return` of each `break`. Inside of an `except*` that is an error.
    assert [(change.line, change.after) for change in changes.values()] == [
        (4, "return"),
        (8, "while a >= 1:"),
        (8, "while a > 2:"),
    ]


def test_a_seed_draws_the_same_sample_and_another_seed_another(mutation: ModuleType, choice: ModuleType) -> None:
    everything = mutation.mutants("shape.py", SOURCE)
    assert choice.sample(everything, 4, seed=1) == choice.sample(reversed(everything), 4, seed=1)
    assert choice.sample(everything, 4, seed=1) != choice.sample(everything, 4, seed=2)


def test_a_change_of_another_function_leaves_the_sample_as_it_is(mutation: ModuleType, choice: ModuleType) -> None:
    before = choice.sample(mutation.mutants("shape.py", SOURCE), 3, seed=5)
    longer = "def other(a):\n    return a.strip()\n\n\n" + SOURCE
    assert choice.sample(mutation.mutants("shape.py", longer), 3, seed=5) == before


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "agent" / "mcpmesh" / "plan"
    (package / "inner").mkdir(parents=True)
    (package / "shape.py").write_text(SOURCE)
    (package / "inner" / "sum.py").write_text("def add(a, b):\n    return a + b\n")
    return tmp_path


def test_a_folder_a_file_and_a_line_can_be_asked_for(project: Path, choice: ModuleType) -> None:
    shape, add = "agent/mcpmesh/plan/shape.py", "agent/mcpmesh/plan/inner/sum.py"
    assert choice.modules(project, ["agent/mcpmesh/plan"]) == {shape: set(), add: set()}
    assert choice.modules(project, [f"{shape}:7", f"{shape}:8"]) == {shape: {7, 8}}
    chosen = choice.choose(project, {shape: {7, 8}}, count=10, seed=1)
    assert sorted(change.after for _, change in chosen) == ["return +1", "return -2", "return width / height"]
    [(mutant, change)] = choice.choose(project, {add: set()}, count=10, seed=1)
    assert (mutant.path, change.after) == (add, "return a - b")


def test_a_path_that_is_not_there_is_named(project: Path, choice: ModuleType) -> None:
    with pytest.raises(SystemExit, match="cannot find agent/mcpmesh/plam"):
        choice.modules(project, ["agent/mcpmesh/plam"])
