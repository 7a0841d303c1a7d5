"""The results as a picture: `plot.py RESULTS.json PICTURE.svg`.

It runs in an environment of its own (bench/requirements.txt), so that the project does not need matplotlib.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]  # installed in the environment of its own

mpl.use("svg")
# The same figures give the same file. Text as text halves its size.
mpl.rcParams["svg.hashsalt"] = "bench"
mpl.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot  # noqa: E402

PANELS = (
    ("calls/s, 16 sessions × 4", "many", "per_second"),
    ("p99 in ms, 16 sessions × 4", "many", "p99_ms"),
    ("CPU s of the bridge per 1,000 calls", "many", "cpu_ms"),
    ("sessions/s, 8 at once", "sessions", "per_second"),
    ("1 MiB answers/s, 4 at once", "long", "per_second"),
    ("latency in ms, 1 × 1", "latency", "p50_ms"),
)
COLOURS = {"ours": "#0b6e4f", "checkout": "#7fb69e", "rival": "#9a9a9a", "reference": "#c9b458"}


def values(system: dict[str, Any], shape: str, figure: str) -> list[float]:
    """The values of all rounds."""
    return [one for one in system["shapes"].get(shape, {}).get(figure, []) if one is not None]


def draw(results: dict[str, Any], target: Path) -> None:
    """Bars are medians, whiskers the least and the greatest round. The scale is logarithmic: values differ 100-fold."""
    systems = [system for system in results["systems"] if not system.get("absent")][::-1]
    figure, axes = pyplot.subplots(2, 3, figsize=(16, 8), layout="constrained")
    for axis, (title, shape, key) in zip(axes.flat, PANELS, strict=True):
        shown = [(system, found) for system in systems if (found := values(system, shape, key))]
        middles = [statistics.median(found) for _, found in shown]
        reach = [
            [middle - min(found) for middle, (_, found) in zip(middles, shown, strict=True)],
            [max(found) - middle for middle, (_, found) in zip(middles, shown, strict=True)],
        ]
        names = [system["name"] for system, _ in shown]
        colours = [COLOURS[system["kind"]] for system, _ in shown]
        drawn = axis.barh(names, middles, xerr=reach, color=colours, error_kw={"lw": 0.8})
        axis.bar_label(
            drawn, [f"{middle:,.3g}" if middle < 100 else f"{middle:,.0f}" for middle in middles], padding=4, fontsize=7
        )
        axis.set_xscale("log")
        axis.set_xmargin(0.25)
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    machine = results["machine"]
    figure.suptitle(
        f"{machine['date']}, {machine['processors']} processors, {results['rounds']} interleaved rounds", fontsize=10
    )
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
