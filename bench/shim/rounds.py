"""The interleaved run: every system is up all the time, and each measure visits them in turn.

So compared values are measured within half a minute, in an order that changes
from round to round, since the speed of the machine drifts.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.shim import meters
from bench.shim.bridge import Bridge, Broken
from bench.shim.load import SESSIONS, SHAPES, Failed, Shape, measure
from bench.shim.packages import Say, Unavailable, package
from bench.shim.systems import System

IDLE_SECONDS = 5.0
# After this number of failed rounds, a system gets the same measure no more.
FAILURES = 2


@dataclass
class Row:
    """The measurements of one system: one tally per shape and round. `absent` says why there is none."""

    system: System
    absent: str = ""
    idle: meters.Memory | None = None
    after: meters.Memory | None = None
    idle_cpu_ms_per_second: float = 0.0
    tallies: dict[str, list[dict[str, Any] | None]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    restarts: int = 0
    left: dict[str, int] = field(default_factory=dict)


class InterleavedRun:
    """The systems of a run, their processes and their measurements."""

    def __init__(self, systems: Sequence[System], programs: Path, folder: Path, seconds: float, say: Say) -> None:
        self.rows = [Row(system) for system in systems]
        self.programs = programs
        self.folder = folder
        self.seconds = seconds
        self.say = say
        self.packages: dict[str, Path] = {}
        self.bridges: dict[str, Bridge] = {}
        self._starts = 0

    @property
    def present(self) -> list[Row]:
        """The rows of the systems that work on this machine."""
        return [row for row in self.rows if not row.absent]

    def install(self) -> None:
        """Install the packages of all systems. A system whose package can't be installed is absent from then on."""
        for row in self.rows:
            name = row.system.package
            try:
                self.packages[row.system.name] = package(name, self.say) if name else self.programs
            except Unavailable as error:
                row.absent = f"not measured: {error}"

    def start(self, row: Row, stubborn: bool = False) -> Bridge:
        """Start a system and wait until it answers; raises Broken."""
        self._starts += 1
        folder = self.folder / str(self._starts)
        folder.mkdir()
        system = row.system
        bridge = Bridge(system, self.packages[system.name], self.programs / "child", folder, stubborn)
        self.bridges[system.name] = bridge
        bridge.wait_ready()
        return bridge

    def stop(self, row: Row, number: int = signal.SIGTERM) -> int:
        """Stop a system; returns how many of its servers ran on."""
        bridge = self.bridges.pop(row.system.name, None)
        return bridge.stop(number).children if bridge is not None else 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start all systems, and stop them at the end."""
        try:
            for row in self.present:
                self._start(row)
            yield
        finally:
            for row in self.rows:
                self.stop(row)

    def _start(self, row: Row, stubborn: bool = False) -> None:
        self.say(f"starting {row.system.name}")
        try:
            self.start(row, stubborn)
        except Broken as error:
            self.stop(row)
            row.absent = f"not measured: {error}"

    def watch_idle(self, seconds: float = IDLE_SECONDS) -> None:
        """Measure memory and CPU time of each system without calls."""
        before = {row.system.name: self.bridges[row.system.name].cpu_seconds() for row in self.present}
        time.sleep(seconds)
        for row in self.present:
            bridge = self.bridges[row.system.name]
            row.idle_cpu_ms_per_second = 1000 * (bridge.cpu_seconds() - before[row.system.name]) / seconds
            row.idle = meters.memory(bridge.pids())

    def round(self, number: int, shapes: Sequence[Shape] = SHAPES) -> None:
        """Take each measure once on each system."""
        for place, shape in enumerate(shapes):
            self.say(f"round {number + 1}: {shape.title}")
            rows = self.present
            turn = (number * len(shapes) + place) * 3 % max(len(rows), 1)
            for row in rows[turn:] + rows[:turn]:
                if shape is not SESSIONS or not row.system.modern:
                    self._measure(row, shape)

    def _measure(self, row: Row, shape: Shape) -> None:
        tallies = row.tallies.setdefault(shape.key, [])
        if tallies.count(None) >= FAILURES:
            tallies.append(None)
            return
        try:
            if row.system.name not in self.bridges:
                row.restarts += 1
                self.start(row)
            tally = measure(self.programs, self.bridges[row.system.name], shape, self.seconds, row.system.modern)
            tallies.append(tally)
            if tally.get("fault"):
                row.faults.setdefault(shape.key, tally["fault"])
        except (Failed, Broken) as error:
            tallies.append(None)
            row.faults.setdefault(shape.key, str(error))
            # A failed system may stay broken, so the next measure starts it again.
            self.stop(row)

    def watch_after(self) -> None:
        """Measure memory after all rounds."""
        for row in self.present:
            if (bridge := self.bridges.get(row.system.name)) is not None:
                row.after = meters.memory(bridge.pids())

    def leave_behind(self) -> None:
        """Count the servers that outlive each bridge when it is stopped, and when it is killed, with a session open."""
        for name, number in (("term", signal.SIGTERM), ("kill", signal.SIGKILL)):
            rows = [row for row in self.present if not row.system.modern]
            self.say(f"SIG{name.upper()} to each")
            try:
                for row in rows:
                    with contextlib.suppress(Broken):
                        self.start(row, stubborn=True)
                        self.bridges[row.system.name].open_session()
                with ThreadPoolExecutor(len(rows)) as pool:
                    for row, left in zip(rows, pool.map(self.stop, rows, [number] * len(rows)), strict=True):
                        row.left[name] = left
            finally:
                for row in rows:
                    self.stop(row)
