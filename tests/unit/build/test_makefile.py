"""The targets that run tests: what they run by themselves, and what they run when ARGS names something."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
# What a `make test` around this test hands down. An ARGS in it would win over ours.
HANDED_DOWN = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS", "WORKERS"}
# Made by `make setup`. Here they are taken as made, so that no recipe but the target's own is printed.
MADE = ("setup", "twenty", "tests/conformance/node_modules/.installed")

OWN_TARGETS = ["--ignore=tests/e2e", "--ignore=tests/integration/docker", "--ignore=tests/integration/twenty"]
SIDE_BY_SIDE = ["-n", "3", "--dist", "loadfile"]


def pytest_arguments(target: str, args: str) -> list[str]:
    """The words after `pytest` in the command that `make target ARGS=args` would run."""
    old = [option for name in MADE for option in ("-o", name)]
    env = {name: value for name, value in os.environ.items() if name not in HANDED_DOWN}
    printed = subprocess.run(
        ["make", "-n", *old, target, f"ARGS={args}"], cwd=ROOT, env=env, check=True, capture_output=True, text=True
    ).stdout
    [command] = [line for line in printed.replace("\\\n", "").splitlines() if " -m pytest " in line]
    _, arguments = command.split(" -m pytest ")
    return shlex.split(arguments)


@pytest.mark.parametrize("args", ["", "-x", "-k 'intention or proof'", "tests/unit -x", "tests/integration/docker"])
def test_make_test_names_no_path_but_those_in_args(args: str) -> None:
    assert pytest_arguments("test", args) == OWN_TARGETS + SIDE_BY_SIDE + shlex.split(args)


@pytest.mark.parametrize(
    ("target", "paths"), [("e2e", "tests/integration/docker tests/e2e"), ("test-twenty", "tests/integration/twenty")]
)
@pytest.mark.parametrize("args", ["", "-x", "tests/e2e/test_kong.py -k address"])
def test_a_target_with_paths_of_its_own_gives_them_as_testpaths_which_args_replace(
    target: str, paths: str, args: str
) -> None:
    assert pytest_arguments(target, args) == ["-o", f"testpaths={paths}", *shlex.split(args)]


def test_this_project_has_the_testpaths_that_the_small_one_has(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getini("testpaths") == ["tests"]


@pytest.fixture
def small_project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with the folders of this one and one test in each; it is collected in this process, in milliseconds."""
    pytester.makepyprojecttoml(
        '[tool.pytest.ini_options]\ntestpaths = ["tests"]\nasyncio_default_fixture_loop_scope = "function"\n'
    )
    for name in ("unit", "e2e", "integration/docker", "integration/twenty"):
        folder = pytester.path / "tests" / name
        folder.mkdir(parents=True)
        (folder / f"test_{folder.name}.py").write_text(f"def test_{folder.name}(): pass\n")
    return pytester


@pytest.mark.parametrize(
    ("target", "args", "names"),
    [
        ("test", "", ["unit"]),
        ("test", "-k unit", ["unit"]),
        ("test", "tests/integration/docker", ["docker"]),
        ("test", "tests/e2e/test_e2e.py -x", ["e2e"]),
        ("e2e", "", ["docker", "e2e"]),
        ("e2e", "tests/e2e -x", ["e2e"]),
        ("test-twenty", "-x", ["twenty"]),
        ("test-twenty", "tests/unit", ["unit"]),
    ],
)
def test_what_args_name_is_run_and_else_what_is_the_targets_own(
    small_project: pytest.Pytester, target: str, args: str, names: list[str]
) -> None:
    items, _ = small_project.inline_genitems(*pytest_arguments(target, args), "-n", "0")
    assert sorted(item.name for item in items) == [f"test_{name}" for name in names]
