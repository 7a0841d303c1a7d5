"""What a person reads: a line for each mutant, the survivors as diffs, and the sum by package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from tests.mutants.trial import Trial


def progress(number: int, count: int, trial: Trial) -> str:
    """One line about one mutant."""
    place = f"{trial.mutant.path}:{trial.change.line}"
    word = "caught  " if trial.caught else "survived"
    return f"[{number:3}/{count}] {word} {trial.seconds:5.1f} s  {place}  {trial.change.after}  ({trial.reason})"


def survivors(trials: Sequence[Trial]) -> str:
    """Their diffs, each below a line with its place and the number of tests that ran it."""
    parts = []
    for trial in sorted(trials, key=lambda trial: (trial.mutant.path, trial.change.line)):
        if not trial.caught:
            mutant = trial.mutant
            parts.append(
                f"# {mutant.path}:{trial.change.line} in {mutant.function} ({mutant.operator}): "
                f"{trial.tests} tests run it; {trial.reason}"
            )
            parts += [f"--- {mutant.path}", f"+++ {mutant.path}", *trial.change.diff, ""]
    return "\n".join(parts)


def caught_percent(trials: Sequence[Trial]) -> float:
    """100 where there was nothing to catch."""
    return 100 * sum(trial.caught for trial in trials) / len(trials) if trials else 100.0


def summary(trials: Sequence[Trial]) -> str:
    """Caught of tried, by package and in all."""
    tried = Counter(_package(trial) for trial in trials)
    caught = Counter(_package(trial) for trial in trials if trial.caught)
    rows = [(name, caught[name], tried[name]) for name in sorted(tried)]
    rows.append(("all", sum(caught.values()), len(trials)))
    return "\n".join(
        f"  {name:<10} {good:>4} of {total:>4}  {100 * good / total if total else 100:5.1f} %"
        for name, good, total in rows
    )


def _package(trial: Trial) -> str:
    return PurePath(trial.mutant.path).parts[2]
