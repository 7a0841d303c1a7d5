"""The results as a page: ratios, figures, spread, bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.shim.bars import Bar
from bench.shim.results import median, ratio, spread
from bench.shim.systems import OURS

# (heading, shape, figure, digits after the point)
COLUMNS = (
    ("1 × 1 median ms", "latency", "p50_ms", 2),
    ("1 × 32 calls/s", "one", "per_second", 0),
    ("1 × 32 p99 ms", "one", "p99_ms", 1),
    ("16 × 4 calls/s", "many", "per_second", 0),
    ("16 × 4 p99 ms", "many", "p99_ms", 1),
    ("16 × 4 CPU s per 1,000", "many", "cpu_ms", 3),
    ("sessions/s", "sessions", "per_second", 0),
    ("1 MiB answers/s", "long", "per_second", 0),
    ("grown by MiB", "long", "grown_mib", 1),
)


def page(results: dict[str, Any], found: list[Bar]) -> str:
    """The page in Markdown."""
    machine = results["machine"]
    lines = [
        "# Stdio-to-HTTP bridges, side by side",
        "",
        f"Made by `make bench-shim` on {machine['date']}: {machine['processors']} processors ({machine['model']}), "
        f"Python {machine['python']}, Go {machine['go']}, Node {machine['node'] or 'missing'}. "
        f"{results['rounds']} interleaved rounds of {results['seconds']:g} s per measure; "
        "each figure is the median of the rounds. docs/performance.md explains what is measured and how.",
        "",
        f"## Ratios: {OURS} (a process per session, everything on) against each",
        "",
        "The median of the rounds' ratios; the two values of a ratio were taken within one minute. Calls, sessions and "
        f"answers per second: above 1 is in favour of {OURS}; times and CPU: below 1 is.",
        "",
        *table(results, _ratio_cell(results)),
        "",
        *_comparison(results),
        "## Figures",
        "",
        *table(results, _figure_cell, memory=True),
        "",
        "CPU and memory are those of the bridge, without the MCP server behind it and the load generator. "
        "Memory is RSS in MiB, idle and after all rounds (PSS in brackets). Crossed: another call's answer. Wrong: "
        "any other wrong answer. Failed: errors and refusals. Left: servers that ran on after SIGTERM / SIGKILL to the "
        "bridge, with one session open and a server that does not exit when its stdin ends.",
        "",
        *_notes(results),
        "",
        "## Spread",
        "",
        "The least and the greatest value of the rounds.",
        "",
        *table(results, _spread_cell),
        "",
        "## Bars",
        "",
        "| bar | bound | measured | |",
        "|---|---|---|---|",
        *(_bar(bar) for bar in found),
        "",
    ]
    if results["own"]:
        lines += _own(results["own"])
    return "\n".join(lines)


def _comparison(results: dict[str, Any]) -> list[str]:
    """This checkout's shims compared with those of other checkouts in the same mode; empty if none was measured."""
    systems = {system["name"]: system for system in results["systems"] if not system.get("absent")}
    lines = []
    for other in systems.values():
        ours = systems.get(other.get("compared_with", ""))
        if ours is not None:
            ratios = [ratio(ours, other, shape, figure) for _, shape, figure, _ in COLUMNS[:-1]]
            cells = " | ".join("–" if one is None else f"{one:.3g} ×" for one in ratios)
            lines.append(f"| {other['name']} | {cells} |")
    if not lines:
        return []
    heads = [heading for heading, *_ in COLUMNS[:-1]]
    return [
        "## Ratios: this checkout against other checkouts",
        "",
        "Each row compares this checkout's shim with the named one, which runs in the same mode. "
        "A checkout of the same code shows how large the noise is.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
        *lines,
        "",
    ]


Cell = Callable[[dict[str, Any], str, str, int], str]


def table(results: dict[str, Any], cell: Cell, memory: bool = False) -> list[str]:
    """One row for each system; a system that was not measured has the reason."""
    heads = [heading for heading, *_ in COLUMNS]
    if memory:
        heads += ["MiB idle", "MiB after", "crossed or wrong", "failed", "left"]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for system in results["systems"]:
        if system.get("absent"):
            lines.append(f"| {system['name']} | {system['absent'].replace('|', '/')}" + " |" * len(heads))
            continue
        cells = [cell(system, shape, figure, digits) for _, shape, figure, digits in COLUMNS]
        if memory:
            cells += _memory_cells(system)
        version = ", ".join(system["versions"].values())
        lines.append(f"| {system['name']}{' ' + version if version else ''} | " + " | ".join(cells) + " |")
    return lines


def _figure_cell(system: dict[str, Any], shape: str, figure: str, digits: int) -> str:
    value = median(system, shape, figure)
    return "–" if value is None else f"{value:,.{digits}f}"


def _spread_cell(system: dict[str, Any], shape: str, figure: str, digits: int) -> str:
    found = spread(system, shape, figure)
    return "–" if found is None else f"{found[0]:,.{digits}f} – {found[1]:,.{digits}f}"


def _ratio_cell(results: dict[str, Any]) -> Cell:
    ours = next((system for system in results["systems"] if system["name"] == OURS), None)

    def cell(system: dict[str, Any], shape: str, figure: str, _digits: int) -> str:
        if ours is None or figure == "grown_mib":
            return "–"
        found = ratio(ours, system, shape, figure)
        return "–" if found is None else f"{found:.3g} ×"

    return cell


def _memory_cells(system: dict[str, Any]) -> list[str]:
    cells = []
    for when in ("idle", "after"):
        memory = system[when]
        cells.append(f"{memory['rss']:.0f} ({memory['pss']:.0f})" if memory else "–")
    shapes = system["shapes"].values()
    cells.append(f"{sum(shape['crossed'] + shape['wrong'] for shape in shapes):,}")
    cells.append(f"{sum(shape['failed'] for shape in shapes):,}")
    left = system["left"]
    cells.append(f"{left['term']} / {left['kill']}" if left else "–")
    return cells


def _notes(results: dict[str, Any]) -> list[str]:
    lines = []
    for system in results["systems"]:
        if system.get("absent"):
            continue
        notes = [system["note"]] if system["note"] else []
        notes += [f"`{shape}`: {fault[:160]}" for shape, fault in system["faults"].items()]
        if system["restarts"]:
            notes.append(f"started again {system['restarts']} times after it failed")
        if notes:
            lines.append(f"- {system['name']}: " + "; ".join(notes).replace("\n", " "))
    return lines


def _bar(bar: Bar) -> str:
    sign = ">" if bar.above else "≤"
    value = "not measured" if bar.value is None else f"{bar.value:.3g}{bar.unit}"
    verdict = {None: "–", True: "met", False: "**not met**"}[bar.met]
    return f"| {bar.text} | {sign} {bar.bound:g}{bar.unit} | {value} | {verdict} |"


def _own(own: dict[str, Any]) -> list[str]:
    starts = own["starts"]

    def of_starts(pick: Callable[[dict[str, Any]], float]) -> str:
        values = sorted(pick(start) for start in starts)
        return f"{values[len(values) // 2]:.1f} ({values[0]:.1f} – {values[-1]:.1f})"

    lines = [
        "## The shim alone",
        "",
        f"Medians of {len(starts)} starts (least – greatest); the guard is the small process that leaves no "
        "server behind.",
        "",
        "| | shim | guard |",
        "|---|---|---|",
        "| CPU until ready, ms | "
        f"{of_starts(lambda one: one['cpu_ms'])} | {of_starts(lambda one: one['guard_cpu_ms'])} |",
    ]
    for kind in ("rss", "pss"):
        shim, guard = (of_starts(lambda one, key=key: one[key][kind]) for key in ("memory", "guard_memory"))  # type: ignore[misc]  # noqa: B023
        lines.append(f"| {kind.upper()}, MiB | {shim} | {guard} |")
    lines += [
        "",
        f"Start to the first answer: {of_starts(lambda one: one['wall_ms'])} ms. "
        f"Idle with a session: {own['idle_cpu_ms_per_second']:.2f} ms of CPU per second. "
        f"A session opens in {own['open_ms']['p50']:.2f} ms (median; worst {own['open_ms']['p99']:.2f} ms) "
        "when a spare process is ready.",
        "",
    ]
    for isolation, one in own.get("sessions", {}).items():
        lines.append(
            f"{one['sessions']:,} sessions opened and ended ({isolation}), 8 at once: {one['per_second']:,.0f}/s; "
            f"PSS of shim and guard {one['before']['pss']:.1f} → {one['after']['pss']:.1f} MiB."
        )
    return [*lines, ""]
