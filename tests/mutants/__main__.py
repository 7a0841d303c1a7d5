"""`python -m tests.mutants`: how many one-operator mutants do the unit and contract tests catch?

Exit codes: 0 at least the minimum is caught, 1 less, 2 nothing could be tried.

mutmut makes the mutants; the sample, the choice of tests and the runs are
ours. Run by itself, mutmut (3.8) draws no sample and offers no choice of
operators, so that most of what it tries are dropped arguments and changed
strings; it leaves out every decorated function; and it runs the tests on
modules in which each function is wrapped, in a process that it shares with
the mutants. cosmic-ray chooses no tests by coverage, and mutatest has not been
released since 2022.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.mutants import baseline, report, sandbox
from tests.mutants.choice import choose, modules
from tests.mutants.trial import Trial, try_all

ROOT: Final = Path(__file__).parents[2]
_BASELINE_SECONDS: Final = 900.0


def arguments(words: list[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="make mutants ARGS=…", description="Tries a sample of one-operator mutants on the tests."
    )
    parser.add_argument("--seed", type=int, default=1, help="which sample; the same seed draws the same (default 1)")
    parser.add_argument("--count", type=int, default=200, help="how many mutants (default 200)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default 2)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATH[:LINE]",
        help="mutants of this file, folder or line alone; may be repeated (default: eight packages)",
    )
    parser.add_argument(
        "--tests",
        action="append",
        default=[],
        metavar="PATH",
        help="these tests alone; may be repeated (default: tests/unit and tests/contract)",
    )
    parser.add_argument("--minimum", type=float, default=85.0, help="percent that must be caught (default 85)")
    parser.add_argument(
        "--survivors",
        default=".mutants/survivors.diff",
        metavar="FILE",
        help="where the diffs go (default %(default)s)",
    )
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """The exit code."""
    asked = arguments(words)
    places = modules(ROOT, asked.only)
    protected = [ROOT, Path.home()]
    work = Path(tempfile.mkdtemp(prefix="mutants-"))
    try:
        sandbox.check_isolation(protected)
        copies = [work / str(number) for number in range(asked.jobs)]
        for copy in copies:
            sandbox.copy_checkout(ROOT, copy)
        print(f"mutants: running the tests without a mutant ({asked.jobs} at a time)", flush=True)
        tests = asked.tests or ["tests/unit", "tests/contract"]
        base = baseline.measure(copies[0], tests, asked.jobs, protected, _BASELINE_SECONDS)
        chosen = choose(copies[0], places, asked.count, asked.seed)
        print(f"mutants: {len(base.seconds)} tests pass; trying {len(chosen)} mutants of seed {asked.seed}", flush=True)
        trials = []
        for trial in try_all(chosen, base, copies, protected):
            trials.append(trial)
            print(report.progress(len(trials), len(chosen), trial), flush=True)
    except (sandbox.CannotIsolateError, baseline.BaselineError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _conclude(trials, asked.minimum, ROOT / asked.survivors)


def _conclude(trials: list[Trial], minimum: float, survivors: Path) -> int:
    survivors.parent.mkdir(parents=True, exist_ok=True)
    survivors.write_text(report.survivors(trials))
    enough = report.caught_percent(trials) >= minimum
    print(report.summary(trials))
    print(f"mutants: {'at least' if enough else 'under'} {minimum:g} % are caught")
    print(f"mutants: those that are not: {os.path.relpath(survivors)}")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
