"""Mutants tried: on each the tests that run its statement, until the first fails."""

from __future__ import annotations

import queue
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants import sandbox
from tests.mutants.baseline import Baseline
from tests.mutants.mutation import Change, Mutant
from tests.mutants.statements import statement_lines

# A mutant may loop without an end, or fill the memory: it is caught by these bounds.
_START_SECONDS: Final = 20.0
_SLOWER: Final = 4.0
_DATA_BYTES: Final = 6 << 30

# Exit codes of pytest: a test failed; a module could not be imported.
_FAILED, _INTERRUPTED = 1, 2
_FAILURE: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Trial:
    """How it went."""

    mutant: Mutant
    change: Change
    tests: int
    caught: bool
    # The test that failed, or why there was none to fail.
    reason: str
    seconds: float


def try_all(
    chosen: list[tuple[Mutant, Change]], base: Baseline, copies: list[Path], protected: list[Path]
) -> Iterator[Trial]:
    """Tries them, one at a time in each copy, and yields each when it is done."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(mutant: Mutant, change: Change) -> Trial:
        tests = base.running(mutant.path, statement_lines(change.before, change.line))
        copy = free.get()
        try:
            return try_mutant(mutant, change, tests, sum(base.seconds[test] for test in tests), copy, protected)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        try:
            for done in as_completed([pool.submit(one, mutant, change) for mutant, change in chosen]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def try_mutant(
    mutant: Mutant, change: Change, tests: list[str], expected_seconds: float, copy: Path, protected: list[Path]
) -> Trial:
    """Runs the tests on the mutant in a copy, which is as before afterwards."""
    if not tests:
        return Trial(mutant, change, 0, caught=False, reason="no test runs it", seconds=0.0)
    began = time.monotonic()
    module = copy / mutant.path
    module.write_text(change.source)
    try:
        caught, reason = _run(tests, _START_SECONDS + _SLOWER * expected_seconds, copy, protected)
    finally:
        module.write_text(change.before)
    return Trial(mutant, change, len(tests), caught, reason, time.monotonic() - began)


def _run(tests: list[str], timeout_seconds: float, copy: Path, protected: list[Path]) -> tuple[bool, str]:
    names = copy / "tests.txt"
    names.write_text("\n".join(tests))
    command = [
        *(sys.executable, "-m", "pytest", "-x", "-q", f"--basetemp={copy / 't'}", "-p", "no:cacheprovider"),
        *("-p", "no:xdist", "-p", "no:cov", "--tb", "no", "--hypothesis-profile", "mutants", f"@{names}"),
    ]
    process = subprocess.Popen(
        sandbox.isolated(command, protected),
        cwd=copy,
        env=sandbox.environment(copy),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    resource.prlimit(process.pid, resource.RLIMIT_DATA, (_DATA_BYTES, _DATA_BYTES))
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()  # All in its namespace go with it.
        process.communicate()
        return True, f"no end within {timeout_seconds:.0f} s"
    return verdict(process.returncode, output)


def verdict(exit_code: int, output: str) -> tuple[bool, str]:
    """Whether pytest caught the mutant, and what it said. What it could not run has caught nothing."""
    failed = _FAILURE.search(output)
    if exit_code == 0:
        return False, "no test fails"
    if exit_code in (_FAILED, _INTERRUPTED) or exit_code < 0 or exit_code > 128:
        return True, failed[1] if failed else f"pytest ended with {exit_code}"
    return False, f"pytest could not run the tests and ended with {exit_code}: {output.strip()[-300:]}"
