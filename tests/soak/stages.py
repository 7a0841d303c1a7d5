"""A shim in one isolation over a server of one era, and the callers that are dropped at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import uvloop
from tests.integration.shim.running_shim import Shim, marked, until
from tests.soak import legacy_drops, modern_drops
from tests.soak.http_client import disconnect
from tests.soak.process_counts import Count, count
from tests.soak.report import Report

AT_ONCE = 16
SETTLE_SECONDS = 60.0
MEMORY_PERCENT = 5.0
# A shim checks once a second whether it can return memory.
GIVE_BACK_SECONDS = 1.2
# A count over its bound is repeated for this long (seconds): the machine may stand still for a second.
STILL_SECONDS = 15.0
# Short times, so that a soak need not wait half an hour; the timers are the same.
SOON = {
    "session_idle_seconds": 1.0,
    "silent_peer_seconds": 1.0,
    "spare_idle_seconds": 1.0,
    "input_seconds": 0.2,
    "stop_seconds": 0.5,
    "backoff_seconds": 0.05,
    "backoff_max_seconds": 0.05,
    "children": 512,
}


Drop: TypeAlias = Callable[[int], Awaitable[None]]
"""A function that connects to a shim's port as a client and drops it."""


@dataclass(frozen=True)
class Stage:
    """A configuration at which callers of both eras are dropped."""

    isolation: str
    era: str
    """The server's era."""

    def __str__(self) -> str:
        return f"{self.isolation}, {self.era} server"

    @property
    def legacy_ways(self) -> list[legacy_drops.Way]:
        """The ways of legacy clients; the server is killed only if it belongs to one session or one call."""
        own = self.isolation == "request" or (self.isolation, self.era) == ("session", "legacy")
        return [*legacy_drops.WAYS, *([legacy_drops.server_dies] if own else [])]

    @property
    def has_one_caller(self) -> bool:
        """Whether a server request can belong to one caller only, however many there are."""
        return self.era == "modern" or self.isolation == "request"

    @property
    def modern_ways(self) -> list[modern_drops.Way]:
        """The ways of modern clients; a server request may be refused if it could belong to several callers."""
        asked = modern_drops.input_never_retried if self.has_one_caller else modern_drops.input_refused_or_never_retried
        own = self.isolation == "request"
        return [*modern_drops.WAYS, asked, *([modern_drops.server_dies] if own else [])]

    @property
    def drops(self) -> list[Drop]:
        """Every way that may run beside others."""
        return [
            *(partial(legacy_drops.drop, way=way) for way in self.legacy_ways),
            *(partial(modern_drops.drop, way=way) for way in self.modern_ways),
        ]

    @property
    def exclusive(self) -> list[Drop]:
        """Ways that need the shim for themselves: they kill a shared server, or its request needs a clear caller."""
        asked = [] if self.has_one_caller else [modern_drops.input_never_retried]
        dies = [] if self.isolation == "request" else [modern_drops.server_dies]
        return [partial(modern_drops.drop, way=way) for way in (*asked, *dies)]


STAGES = [Stage(isolation, era) for isolation in ("session", "shared", "request") for era in ("legacy", "modern")]


class Running:
    """The running shim of a stage."""

    def __init__(self, stage: Stage, shim: Shim) -> None:
        self.stage = stage
        self.shim = shim
        self.dropped = 0
        self.sessions = 0
        self._start: Count
        self._processes = 0

    def drop(self, times: int) -> None:
        """Drop callers `times` times in each way, a few at once."""
        uvloop.run(_all(self.shim.port, self.stage.drops * times))
        self.dropped += len(self.stage.drops) * times
        self.sessions += len(self.stage.legacy_ways) * times

    def drop_exclusively(self, times: int) -> None:
        """Drop callers in the ways that need the shim for themselves, one after the other."""
        for drop in self.stage.exclusive * times:
            uvloop.run(_all(self.shim.port, [drop]))
            self.shim.wait_ready()
            until(lambda: self.shim.info()["in_flight"] == 0)
            self.dropped += 1

    def settle(self) -> None:
        """Wait until every trace of its clients is gone; fails with what is left if that takes long."""
        # The main server, and the connection of this query.
        quiet = {"sessions": 0, "in_flight": 0, "children": 1, "suspended": 0, "connections": 1}
        seen: dict[str, float] = {}

        def is_quiet() -> bool:
            now = self.shim.info()
            seen.update({what: now[what] for what in ("sessions", "in_flight", "children")})
            seen.update({what: self.shim.metric(what) for what in ("suspended", "connections")})
            return seen == quiet

        with suppress(AssertionError):
            until(is_quiet, SETTLE_SECONDS)
        assert seen == quiet, f"{self.stage}: after {SETTLE_SECONDS:g} s there still is {seen}"

    def begin(self, report: Report) -> None:
        """Take the first count."""
        self._start = count(self.shim.process.pid)
        self._processes = len(marked(self.shim.mark))
        report.say(f"{self.stage}: the start, {self.dropped} callers later: {self._start}, {self._processes} processes")

    def compare_with_start(self, report: Report, when: str) -> None:
        """Take a count and compare it with the first."""
        shim, start, (end, left) = self.shim, self._start, self._end()
        opened, refused = shim.metric("sessions_opened_total"), shim.metric("refused_requests_total")
        report.say(f"{self.stage}: {when}, {self.dropped} callers, {opened:.0f} sessions: {end}")
        report.say(f"  memory {end.grown(start):+.2f} % (the worse of the two); {refused:.0f} questions refused")
        report.bound("sessions that were not opened", max(0, self.sessions - opened), 0)
        report.bound("processes more than at the start", left, 0)
        report.bound("descriptors more than at the start", end.descriptors - start.descriptors, 0)
        report.bound("memory over the start", end.grown(start), MEMORY_PERCENT, " %")

    def _end(self) -> tuple[Count, int]:
        """The counts, and how many processes there are more than at the start, once within bounds or for good.

        A shim that stood still returns memory later than others; a leak is never returned.
        """
        latest = time.monotonic() + STILL_SECONDS
        while True:
            end, left = count(self.shim.process.pid), len(marked(self.shim.mark)) - self._processes
            more = end.descriptors > self._start.descriptors or end.grown(self._start) > MEMORY_PERCENT
            if not (more or left > 0) or time.monotonic() > latest:
                return end, left
            time.sleep(0.2)

    def stop(self) -> int:
        """Stop the shim; returns how many processes are left."""
        self.shim.stop()
        return len(marked(self.shim.mark))


def settle(shims: list[Running]) -> None:
    """Wait until all shims are idle, long enough for them to return free memory."""
    for each in shims:
        each.settle()
    time.sleep(GIVE_BACK_SECONDS)


async def _all(port: int, drops: list[Drop]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(drop: Drop) -> None:
        async with places:
            await drop(port)

    async with asyncio.TaskGroup() as group:
        for drop in drops:
            group.create_task(one(drop))
    await disconnect()


@contextmanager
def running(server: str, stages: list[Stage]) -> Iterator[list[Running]]:
    """Run the shims of all stages at the same time, so that they settle at the same time."""
    shims: list[Running] = []
    try:
        for stage in stages:
            words = ["-modern"] if stage.era == "modern" else []
            config = {"command": server, "args": words, "isolation": stage.isolation, "limits": SOON}
            shims.append(Running(stage, Shim(config)))
        for each in shims:
            each.shim.wait_ready()
        yield shims
    finally:
        for each in shims:
            each.shim.process.kill()
            each.shim.process.wait()
