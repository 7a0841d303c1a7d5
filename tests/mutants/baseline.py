"""The tests without a mutant: do they pass, how long does each take, and which lines does it run?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from coverage import CoverageData
from tests.mutants import plugin, sandbox


class BaselineError(Exception):
    """The tests fail without a mutant; the message has the end of what pytest said."""


@dataclass(frozen=True)
class Baseline:
    """What the run without a mutant told."""

    # Seconds by test, in the order in which the tests ended.
    seconds: dict[str, float]
    # By path of a module and line: the tests that ran it.
    tests: dict[str, dict[int, frozenset[str]]] = field(repr=False)

    def running(self, path: str, lines: range) -> list[str]:
        """The tests that ran one of these lines: files with the least to wait for first, contract tests last."""
        by_line = self.tests.get(path, {})
        found = frozenset[str]().union(*(by_line.get(line, frozenset()) for line in lines))
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in self.seconds:
            if test in found:
                by_file[test.partition("::")[0]].append(test)

        def order(file: str) -> tuple[bool, float]:
            return not file.startswith("tests/unit/"), sum(self.seconds[test] for test in by_file[file])

        return [test for file in sorted(by_file, key=order) for test in by_file[file]]


def measure(copy: Path, tests: list[str], jobs: int, protected: list[Path], timeout_seconds: float) -> Baseline:
    """Runs the tests in a copy, with coverage by test. Raises BaselineError."""
    data, durations = copy / ".coverage", copy / "durations.json"
    command = [
        *(sys.executable, "-m", "pytest", *tests, "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin"),
        *("-n", str(jobs), "--dist", "loadfile", "--tb", "short", "--hypothesis-profile", "mutants"),
        *("--cov", "agent/mcpmesh", "--cov-context", "test", "--cov-report", "", "--cov-config", "/dev/null"),
    ]
    env = sandbox.environment(copy) | {"COVERAGE_FILE": str(data), plugin.VARIABLE: str(durations)}
    try:
        done = subprocess.run(
            sandbox.isolated(command, protected),
            cwd=copy,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BaselineError(f"without a mutant the tests take over {timeout_seconds:.0f} s") from error
    if done.returncode:
        raise BaselineError(f"without a mutant the tests fail:\n{done.stdout[-5000:]}")
    return Baseline(seconds=json.loads(durations.read_text()), tests=_by_line(data, copy))


def _by_line(data: Path, copy: Path) -> dict[str, dict[int, frozenset[str]]]:
    measured = CoverageData(str(data))
    measured.read()
    return {
        str(Path(file).relative_to(copy)): {
            # A context is "test|setup", "test|run" or "test|teardown"; what runs at import has an empty one.
            line: frozenset(context.rpartition("|")[0] for context in contexts if context)
            for line, contexts in measured.contexts_by_lineno(file).items()
        }
        for file in measured.measured_files()
    }
