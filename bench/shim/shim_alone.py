"""Measures of the shim alone: the cost of a start and of idling, the time to open a session, memory after sessions.

No other system runs meanwhile, so that PSS shows what one shim really adds.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.shim import meters
from bench.shim.bridge import Bridge
from bench.shim.load import SESSIONS, Shape, measure
from bench.shim.packages import Say
from bench.shim.systems import OURS, System, shim

STARTS = 7
IDLE_SECONDS = 10.0
OPENS = 15
DROPPED_SESSIONS = 2000
# The shim returns freed memory a second or two after its sessions have ended.
SETTLE_SECONDS = 4.0


class ShimAlone:
    """Starts one shim after another and measures it."""

    def __init__(self, programs: Path, folder: Path, say: Say) -> None:
        self.programs = programs
        self.folder = folder
        self.say = say
        self._starts = 0

    @contextlib.contextmanager
    def _running(self, isolation: str) -> Iterator[Bridge]:
        self._starts += 1
        folder = self.folder / f"own-{self._starts}"
        folder.mkdir()
        bridge = Bridge(System(OURS, shim(isolation)), self.programs, self.programs / "child", folder)
        try:
            bridge.wait_ready()
            yield bridge
        finally:
            bridge.stop()

    def measure(self, starts: int = STARTS, idle_seconds: float = IDLE_SECONDS, opens: int = OPENS) -> dict[str, Any]:
        """All measures but the many sessions; CPU in ms, memory in MiB."""
        self.say("the shim alone: starts")
        found: dict[str, Any] = {"starts": [self._start() for _ in range(starts)]}
        self.say("the shim alone: idling, opening sessions")
        with self._running("session") as bridge:
            bridge.open_session()
            began = bridge.cpu_seconds()
            time.sleep(idle_seconds)
            found["idle_cpu_ms_per_second"] = 1000 * (bridge.cpu_seconds() - began) / idle_seconds
            found["open_ms"] = self._opens(bridge, opens)
        return found

    def _start(self) -> dict[str, Any]:
        began = time.monotonic()
        with self._running("session") as bridge:
            took = time.monotonic() - began
            shim_pid = bridge.process.pid
            guards = bridge.pids() - {shim_pid}
            return {
                "wall_ms": 1000 * took,
                "cpu_ms": 1000 * meters.cpu_seconds(shim_pid),
                "guard_cpu_ms": 1000 * sum(map(meters.cpu_seconds, guards)),
                "memory": vars(meters.memory({shim_pid})),
                "guard_memory": vars(meters.memory(guards)),
            }

    def _opens(self, bridge: Bridge, opens: int) -> dict[str, float]:
        shape = Shape("opens", ("-mode", "opens", "-opens", str(opens)), "sessions one after another")
        tally = measure(self.programs, bridge, shape, seconds=opens)
        return {key: tally[f"{key}_ms"] for key in ("p50", "p99")}

    def sessions(self, isolation: str, count: int = DROPPED_SESSIONS) -> dict[str, Any]:
        """Memory of shim and guard before and after `count` sessions were opened, used and ended."""
        self.say(f"the shim alone: {count} sessions, {isolation}")
        with self._running(isolation) as bridge:
            # Memory that the first sessions need once does not count as growth.
            measure(self.programs, bridge, SESSIONS, 0.1)
            time.sleep(SETTLE_SECONDS)
            before = meters.memory(bridge.pids())
            opened = 0
            rates = []
            while opened < count:
                tally = measure(self.programs, bridge, SESSIONS, 1.0)
                opened += tally["calls"]
                rates.append(tally["per_second"])
            time.sleep(SETTLE_SECONDS)
            after = meters.memory(bridge.pids())
            return {
                "sessions": opened,
                "per_second": statistics.median(rates),
                "before": vars(before),
                "after": vars(after),
                "children": len(meters.left(bridge.child)),
            }
