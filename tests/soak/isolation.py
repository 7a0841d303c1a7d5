"""Many callers who all use the same id and the same progress token, and nothing of one ever reaches another.

Each call says whose it is; the server says it again in the answer, in each
progress notification, log message and question. The client compares: the
answer with the call, everything else with the caller (where it must belong to
one call of several, with the call).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import uvloop
from tests.integration.shim.shim_running import Shim
from tests.soak.callers import Caller, LegacyCaller, Line, ModernCaller, Tally
from tests.soak.report import Report
from tests.soak.wire import disconnect


@dataclass(frozen=True)
class Round:
    """Callers of one era against a server of one era, in one isolation."""

    clients: str
    """legacy, modern or both."""
    server: str
    isolation: str
    calls: int
    callers: int = 16
    """Legacy sessions, or modern clients."""
    at_once: int = 4
    """Calls of one caller at a time, each on a connection of its own."""
    ask_every: int = 500
    """One call in so many has the server ask its client something; 0: none."""

    def __str__(self) -> str:
        return f"{self.clients:6} clients, {self.server:6} server, {self.isolation:7}"

    def scaled(self, factor: float) -> Round:
        """The same with fewer calls."""
        return replace(self, calls=max(int(self.calls * factor), 200))


FULL = [
    Round("legacy", "legacy", "session", 330_000),
    Round("modern", "modern", "session", 220_000),
    Round("modern", "legacy", "session", 150_000),
    Round("legacy", "legacy", "shared", 130_000, ask_every=5_000),
    Round("legacy", "modern", "shared", 90_000),
    Round("modern", "legacy", "shared", 60_000, ask_every=0),
    Round("both", "modern", "session", 40_000),
    # A process for each call: a few milliseconds of two processors for one.
    Round("legacy", "legacy", "request", 2_500, callers=8, at_once=2, ask_every=7),
    Round("modern", "modern", "request", 2_500, callers=8, at_once=2, ask_every=7),
]
SHORT = [each.scaled(0.04) for each in FULL]


def soak(server: str, rounds: list[Round]) -> Report:
    """All rounds, one after the other."""
    report = Report()
    total: Counter[str] = Counter()
    began = time.monotonic()
    for each in rounds:
        words = ["-modern"] if each.server == "modern" else []
        shim = Shim({"command": server, "args": words, "isolation": each.isolation, "limits": {"children": 128}})
        try:
            shim.wait_ready()
            started = time.monotonic()
            tally = uvloop.run(_round(shim.port, each))
            seconds = time.monotonic() - started
            shim.stop()
        finally:
            shim.process.kill()
            shim.process.wait()
        total += tally.counts
        seen = tally.counts
        report.say(
            f"{each}: {seen['calls']:7} calls, {seen['calls'] / seconds:6.0f}/s; {seen['progress']} progress, "
            f"{seen['logs']} logs, {seen['questions']} questions ({seen['refused']} refused), {seen['errors']} errors"
        )
        for example in tally.crossed[:3]:
            report.say(f"  CROSSED: {example}")
        for example in tally.wrong[:3]:
            report.say(f"  WRONG: {example}")
    wanted = sum(each.calls for each in rounds)
    report.say(f"{total['calls']} calls in {time.monotonic() - began:.0f} s, all of id 1 and token 1")
    report.bound("crossed answers, notifications and questions", total["crossed"], 0)
    report.bound("wrong or failed answers", total["wrong"], 0)
    report.bound("calls without their answer", wanted - total["calls"], 0)
    for what in ("progress", "logs", "questions", "errors"):
        report.bound(f"kinds not exercised ({what})", float(total[what] == 0), 0)
    return report


async def _round(port: int, each: Round) -> Tally:
    tally = Tally()
    numbers = iter(range(1, each.calls + 1))  # whoever is free takes the next
    callers: list[Caller] = []
    for number in range(each.callers):
        era = each.clients if each.clients != "both" else ("legacy", "modern")[number % 2]
        kind = LegacyCaller if era == "legacy" else ModernCaller
        callers.append(await kind.open(port, f"{era}-{number}", each.isolation, tally))
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            for _ in range(each.at_once):
                group.create_task(_work(await caller.line(), numbers, each.ask_every))
    for caller in callers:
        await caller.close()
    await disconnect()
    return tally


async def _work(line: Line, numbers: Iterator[int], ask_every: int) -> None:
    for number in numbers:
        await line.call(_kind(number, ask_every), number)


def _kind(number: int, ask_every: int) -> str:
    """What call number so-and-so is: mostly a plain one."""
    if ask_every and number % ask_every == 0:
        return "ask"
    if number % 10 == 0:
        return "progress"
    if number % 50 == 7:
        return "log"
    return "fail" if number % 50 == 13 else "who"
