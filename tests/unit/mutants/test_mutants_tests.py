"""Which tests a mutant meets, what pytest's end says about it, and what is reported.

As in test_mutants_choice.py, mutmut is imported only when a test asks for it.
"""

from __future__ import annotations

from types import ModuleType

import pytest
from tests.mutants import baseline
from tests.mutants.statements import statement_lines

SOURCE = """\
def f(x):
    if (
        x > 1
        and x < 9
    ):
        return g(
            x,
            1,
        )
    try:
        h()
    except OSError:
        pass
    match x:
        case 1 if x < 2:
            return 3
"""


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (1, [1]),
        (2, [2, 3, 4, 5]),
        (4, [2, 3, 4, 5]),
        (7, [6, 7, 8, 9]),
        (11, [11]),
        (12, [12]),
        (14, [14]),
        (15, [15]),
        (16, [16]),
    ],
)
def test_a_statement_counts_as_run_if_one_of_its_own_lines_is(line: int, lines: list[int]) -> None:
    assert list(statement_lines(SOURCE, line)) == lines


def test_the_tests_of_a_line_are_those_that_run_it_short_files_first_and_contract_tests_last() -> None:
    seconds = {
        "tests/contract/test_c.py::test_1": 0.1,
        "tests/unit/test_a.py::test_1": 4.0,
        "tests/unit/test_a.py::test_2": 1.0,
        "tests/unit/test_b.py::test_1": 2.0,
        "tests/unit/test_b.py::test_2": 2.5,
    }
    everything = frozenset(seconds)
    measured = baseline.Baseline(seconds=seconds, tests={"m.py": {3: everything, 4: frozenset(list(seconds)[2:3])}})
    assert measured.running("m.py", range(3, 5)) == [
        "tests/unit/test_b.py::test_1",
        "tests/unit/test_b.py::test_2",
        "tests/unit/test_a.py::test_1",
        "tests/unit/test_a.py::test_2",
        "tests/contract/test_c.py::test_1",
    ]
    assert measured.running("m.py", range(4, 5)) == ["tests/unit/test_a.py::test_2"]
    assert measured.running("m.py", range(5, 6)) == []
    assert measured.running("other.py", range(3, 4)) == []


@pytest.fixture
def trial() -> ModuleType:
    from tests.mutants import trial

    return trial


@pytest.mark.parametrize(
    ("exit_code", "output", "caught", "reason"),
    [
        (0, "5 passed", False, "no test fails"),
        (1, "FAILED tests/unit/a.py::test_b[1] - x\n1 failed", True, "tests/unit/a.py::test_b[1]"),
        (2, "ERROR tests/unit/a.py - NameError", True, "tests/unit/a.py"),
        (-11, "", True, "pytest ended with -11"),
        (4, "not found: x", False, "pytest could not run the tests and ended with 4: not found: x"),
        (5, "", False, "pytest could not run the tests and ended with 5: "),
    ],
)
def test_only_a_failure_catches_a_mutant(
    trial: ModuleType, exit_code: int, output: str, caught: bool, reason: str
) -> None:
    assert trial.verdict(exit_code, output) == (caught, reason)


def tried(trial: ModuleType, package: str, line: int, caught: bool) -> object:
    from tests.mutants.mutation import Change, Mutant

    mutant = Mutant(path=f"agent/mcpmesh/{package}/m.py", function="f", operator="swap_op", number=0)
    before = "a\n" * (line - 1) + "x = 1 < 2\n"
    change = Change(line=line, before=before, after="x = 1 <= 2", source=before.replace("<", "<="))
    return trial.Trial(mutant, change, 3, caught, "no test fails", 1.5)


def test_survivors_are_shown_as_diffs_with_their_places(trial: ModuleType) -> None:
    from tests.mutants import report

    trials = [tried(trial, "plan", 3, False), tried(trial, "plan", 1, True), tried(trial, "model", 2, False)]
    assert report.survivors(trials) == (
        "# agent/mcpmesh/model/m.py:2 in f (swap_op): 3 tests run it; no test fails\n"
        "--- agent/mcpmesh/model/m.py\n+++ agent/mcpmesh/model/m.py\n@@ -1,2 +1,2 @@\n a\n-x = 1 < 2\n+x = 1 <= 2\n\n"
        "# agent/mcpmesh/plan/m.py:3 in f (swap_op): 3 tests run it; no test fails\n"
        "--- agent/mcpmesh/plan/m.py\n+++ agent/mcpmesh/plan/m.py\n@@ -2,2 +2,2 @@\n a\n-x = 1 < 2\n+x = 1 <= 2\n"
    )


def test_the_summary_counts_by_package_and_in_all(trial: ModuleType) -> None:
    from tests.mutants import report

    trials = [tried(trial, "plan", 3, False), tried(trial, "plan", 1, True), tried(trial, "model", 2, True)]
    assert report.summary(trials).splitlines() == [
        "  model         1 of    1  100.0 %",
        "  plan          1 of    2   50.0 %",
        "  all           2 of    3   66.7 %",
    ]
    assert (report.caught_percent(trials[:2]), report.caught_percent([])) == (50.0, 100.0)
