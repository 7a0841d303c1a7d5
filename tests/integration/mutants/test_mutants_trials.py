"""Mutants of a project of one module, tried in a copy of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.mutants import baseline, choice, plugin, sandbox, trial

MODULE, TEST = "agent/mcpmesh/plan/sum.py", "tests/unit/test_sum.py"
FILES = {
    "pyproject.toml": "[tool.pytest.ini_options]\nasyncio_default_fixture_loop_scope = 'function'\n",
    # Without these the installed package would be found first.
    "agent/mcpmesh/__init__.py": "",
    "agent/mcpmesh/plan/__init__.py": "",
    MODULE: "def add(a, b):\n    return a + b if a < 5 else 5\n",
    TEST: "from mcpmesh.plan.sum import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
    "tests/conftest.py": "from hypothesis import settings\n\nsettings.register_profile('mutants')\n",
    "tests/mutants/plugin.py": Path(plugin.__file__).read_text(),
    ".gitignore": "ignored.txt\n",
    "ignored.txt": "",
    "new.txt": "not yet in git",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The checkout."""
    root = tmp_path / "root"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "agent", "tests"], cwd=root, check=True)
    return root


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy of it, as mutants are tried in."""
    copy = tmp_path / "copy"
    sandbox.copy_checkout(root, copy)
    return copy


def test_a_copy_has_what_git_has_and_what_is_new_but_nothing_ignored(copy: Path) -> None:
    files = {str(path.relative_to(copy)): path.read_text() for path in copy.rglob("*") if path.is_file()}
    assert files == {name: content for name, content in FILES.items() if name != "ignored.txt"}


def test_the_tests_are_measured_without_a_mutant_and_then_catch_what_they_can(root: Path, copy: Path) -> None:
    measured = baseline.measure(copy, ["tests/unit"], jobs=1, protected=[root], timeout_seconds=60)
    test = f"{TEST}::test_add"
    assert list(measured.seconds) == [test]
    assert measured.tests[MODULE][2] == {test}

    chosen = [
        (mutant, change)
        for mutant, change in choice.choose(copy, {MODULE: set()}, count=10, seed=1)
        if mutant.operator == "swap_op"
    ]
    trials = trial.try_all(chosen, measured, [copy], [root])
    assert {done.change.after: (done.caught, done.reason) for done in trials} == {
        "return a - b if a < 5 else 5": (True, test),
        "return a + b if a <= 5 else 5": (False, "no test fails"),
    }
    assert (copy / MODULE).read_text() == FILES[MODULE]


def test_tests_that_fail_without_a_mutant_are_shown(root: Path, copy: Path) -> None:
    (copy / TEST).write_text("def test_add():\n    assert 1 == 2\n")
    with pytest.raises(baseline.BaselineError, match="assert 1 == 2"):
        baseline.measure(copy, ["tests/unit"], jobs=1, protected=[root], timeout_seconds=60)


def test_a_mutant_reaches_no_process_no_port_and_no_protected_folder_outside(root: Path) -> None:
    look = (
        "ls /proc | grep -c '^[0-9]'; cat /proc/net/dev | tail -n +3 | wc -l; touch '{}/new.txt' && echo written; true"
    )
    done = subprocess.run(
        sandbox.isolated(["sh", "-c", look.format(root)], [root]), capture_output=True, text=True, check=True
    )
    processes, networks, *written = done.stdout.split()
    assert (int(processes) < 10, networks, written) == (True, "1", [])
