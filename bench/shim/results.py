"""The results of a run: medians of the rounds, their spread, and ratios between systems."""

from __future__ import annotations

import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.shim.packages import versions
from bench.shim.rounds import Row
from bench.shim.systems import ABSENT

FIGURES = ("per_second", "p50_ms", "p99_ms", "cpu_ms", "grown_mib")
COUNTED = ("calls", "crossed", "wrong", "failed")


def machine() -> dict[str, Any]:
    """The machine, its software and the date."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processors": len(models),
        "model": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "go": output_of("go", "env", "GOVERSION").removeprefix("go"),
        "node": output_of("node", "--version").removeprefix("v"),
    }


def output_of(*words: str) -> str:
    """A program's output; empty if the program is missing."""
    if shutil.which(words[0]) is None:
        return ""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def figures(tallies: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """One measure of one system: each figure in each round, and the counts over all rounds."""
    found = [tally for tally in tallies if tally is not None]
    return {
        **{key: [None if tally is None else tally.get(key) for tally in tallies] for key in FIGURES},
        **{key: sum(tally[key] for tally in found) for key in COUNTED},
    }


def row(one: Row) -> dict[str, Any]:
    """One system's part of the results."""
    system = one.system
    about: dict[str, Any] = {
        "name": system.name,
        "kind": system.kind,
        "compared_with": system.compared_with,
        "note": system.note,
        "versions": package_versions(one),
        "absent": one.absent,
    }
    if one.absent:
        return about
    return {
        **about,
        "own_child": system.own_child,
        "idle": vars(one.idle) if one.idle else None,
        "after": vars(one.after) if one.after else None,
        "idle_cpu_ms_per_second": one.idle_cpu_ms_per_second,
        "shapes": {key: figures(tallies) for key, tallies in one.tallies.items()},
        "faults": one.faults,
        "restarts": one.restarts,
        "left": one.left,
    }


def package_versions(one: Row) -> dict[str, str]:
    """The version of the system's package."""
    name = one.system.package
    if not name:
        return {}
    known = versions(name)
    if name == "npm":
        return {key: text for key, text in known.items() if one.system.name.startswith(key)}
    return known


def collect(rows: Sequence[Row], rounds: int, seconds: float, own: dict[str, Any]) -> dict[str, Any]:
    """All results, as they are written to the file."""
    systems = [row(one) for one in rows]
    systems += [{"name": name, "kind": "rival", "absent": reason} for name, reason in ABSENT.items()]
    return {"machine": machine(), "rounds": rounds, "seconds": seconds, "systems": systems, "own": own}


def median(system: dict[str, Any], shape: str, figure: str) -> float | None:
    """The median of the rounds; None if nothing was measured."""
    values = [one for one in system.get("shapes", {}).get(shape, {}).get(figure, []) if one is not None]
    return statistics.median(values) if values else None


def spread(system: dict[str, Any], shape: str, figure: str) -> tuple[float, float] | None:
    """The least and the greatest value of the rounds; None if nothing was measured."""
    values = [one for one in system.get("shapes", {}).get(shape, {}).get(figure, []) if one is not None]
    return (min(values), max(values)) if values else None


def ratio(one: dict[str, Any], other: dict[str, Any], shape: str, figure: str) -> float | None:
    """The median of the rounds' ratios, each of two values measured in the same half minute."""
    ours = one.get("shapes", {}).get(shape, {}).get(figure, [])
    theirs = other.get("shapes", {}).get(shape, {}).get(figure, [])
    pairs = [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]
    return statistics.median(pairs) if pairs else None
