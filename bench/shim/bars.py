"""The bars that the shim has to meet: each is a ratio within one run, or an absolute bound."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bench.shim.results import ratio
from bench.shim.systems import OURS

STATIC = "static Go server"
GO = "TBXark/mcp-proxy (Go)"


@dataclass(frozen=True)
class Bar:
    """One bar. `value` is None if the run did not measure it."""

    text: str
    bound: float
    value: float | None
    above: bool = False
    """Whether the value has to be above the bound; otherwise it has to be at or below it."""
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value > self.bound if self.above else self.value <= self.bound


def bars(results: dict[str, Any]) -> list[Bar]:
    """All bars of a run, with their values."""
    systems = {system["name"]: system for system in results["systems"] if not system.get("absent")}
    ours, shared = systems.get(OURS), systems.get(f"{OURS} shared")
    if ours is None:
        return []
    rivals = [system for system in systems.values() if system["kind"] == "rival"]
    scripts = [system for system in rivals if system["name"] != GO]
    static, bridge = systems.get(STATIC), systems.get(GO)

    def against(other: dict[str, Any] | None, shape: str, figure: str, one: dict[str, Any] = ours) -> float | None:
        return None if other is None else ratio(one, other, shape, figure)

    def worst(one: dict[str, Any] | None, others: Iterable[dict[str, Any]], shape: str, figure: str, best: Any) -> Any:
        ratios = [found for other in others if one and (found := ratio(one, other, shape, figure)) is not None]
        return best(ratios, default=None)

    one_process = [system for system in rivals if not system["own_child"]]
    process_each = [system for system in rivals if system["own_child"]]
    found = [
        Bar("CPU per call at 16 × 4, of the Go bridge's", 0.5, against(bridge, "many", "cpu_ms")),
        Bar("CPU per call at 16 × 4, of the static Go server's", 1.5, against(static, "many", "cpu_ms")),
        Bar(
            "calls/s at 16 × 4, of the fastest rival's", 1.0, worst(ours, rivals, "many", "per_second", min), above=True
        ),
        Bar("p99 at 16 × 4, of the best rival's", 1.0, worst(ours, rivals, "many", "p99_ms", max)),
        Bar("latency at 1 × 1 (median), of the static Go server's", 1.5, against(static, "latency", "p50_ms")),
        Bar(
            "sessions/s over one process, of the fastest rival's that has one",
            1.0,
            worst(shared, one_process, "sessions", "per_second", min),
            above=True,
        ),
        Bar(
            "sessions/s with a process each, of the fastest rival's that has one each",
            1.0,
            worst(ours, process_each, "sessions", "per_second", min),
            above=True,
        ),
        Bar("CPU per call with a process per session, of shared", 1.3, against(shared, "many", "cpu_ms")),
        Bar(
            "answers of 1 MiB per second, of the fastest Python or Node bridge's",
            2.5,
            worst(ours, scripts, "long", "per_second", min),
            above=True,
        ),
        Bar("memory growth at 4 answers of 1 MiB at once", 8.0, _most(ours, "long", "grown_mib"), unit=" MiB"),
        Bar("wrong, crossed or failed answers of ours", 0.0, _faulty(systems.values()), unit=""),
    ]
    return found + own_bars(results.get("own") or {})


def own_bars(own: dict[str, Any]) -> list[Bar]:
    """The bars that need no rival."""
    if not own:
        return []

    def of_starts(pick: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(pick(start) for start in own["starts"])

    found = [
        Bar("CPU of a start, the shim's process", 150.0, of_starts(lambda one: one["cpu_ms"]), unit=" ms"),
        Bar(
            "memory after a start (RSS), the shim's process",
            40.0,
            of_starts(lambda one: one["memory"]["rss"]),
            unit=" MiB",
        ),
        Bar("CPU while idle", 1.0, own["idle_cpu_ms_per_second"], unit=" ms/s"),
        Bar("a session opens with a spare process ready (median)", 5.0, own["open_ms"]["p50"], unit=" ms"),
    ]
    for isolation, one in own.get("sessions", {}).items():
        grown = 100 * (one["after"]["pss"] / one["before"]["pss"] - 1)
        found.append(Bar(f"memory growth over {one['sessions']} sessions, {isolation}", 5.0, grown, unit=" %"))
    return found


def _most(system: dict[str, Any], shape: str, figure: str) -> float | None:
    values = [one for one in system["shapes"].get(shape, {}).get(figure, []) if one is not None]
    return max(values, default=None)


def _faulty(systems: Iterable[dict[str, Any]]) -> float:
    return float(
        sum(
            shape[key]
            for system in systems
            if system["kind"] == "ours"
            for shape in system["shapes"].values()
            for key in ("crossed", "wrong", "failed")
        )
    )
