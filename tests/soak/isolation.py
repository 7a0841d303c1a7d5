"""Many callers that all use the same id and the same progress token; nothing of one may reach another.

Each call names its caller; the server repeats the name in the answer, in each
progress notification, log message and server request. The client compares the
answer with the call, and everything else with the caller (or with the call, if
it must belong to one of several). Some callers subscribe to a resource of their
own, which calls of every caller change: each gets notifications of its own
resource only, and of each change exactly once.

When a legacy process has several callers, a server request is refused, since
it does not say to which caller it belongs. That is correct, and counted. There
each caller is asked once more while no other calls; then, as everywhere else,
no server request is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import uvloop
from tests.integration.shim.running_shim import Shim
from tests.soak.callers import Caller, Line, Tally
from tests.soak.http_client import disconnect
from tests.soak.legacy_caller import LegacyCaller
from tests.soak.modern_caller import ModernCaller
from tests.soak.report import Report

# One of this many callers has a subscription.
SUBSCRIBE_EVERY = 3
# Notifications of changes arrive within this time after the last call (seconds).
TOLD_SECONDS = 60.0


@dataclass(frozen=True)
class Round:
    """Callers of one era at a server of one era, in one isolation."""

    clients: str
    """legacy, modern or both."""
    server: str
    isolation: str
    calls: int
    callers: int = 16
    """Legacy sessions, or modern clients."""
    at_once: int = 4
    """Concurrent calls of one caller, each on a connection of its own."""
    ask_every: int = 500
    """One of this many calls makes the server ask its client."""

    def __str__(self) -> str:
        return f"{self.clients:6} clients, {self.server:6} server, {self.isolation:7}"

    @property
    def has_one_caller(self) -> bool:
        """Whether each server request can belong to one caller only."""
        alone = self.isolation == "session" and self.clients == "legacy"
        return self.server == "modern" or self.isolation == "request" or alone

    @property
    def notifies_changes(self) -> bool:
        """Whether each change is notified. Subscriptions are made at the main process, not at a call's own process:
        in request isolation each, in session isolation a modern client's while the kept one waits for an answer.
        """
        translated = self.server == "legacy" and self.clients != "legacy"
        return self.isolation == "shared" or (self.isolation == "session" and not translated)

    @property
    def all_calls(self) -> int:
        """All calls, with the one that each caller makes while no other runs."""
        return self.calls + (0 if self.has_one_caller else self.callers)

    def scaled(self, factor: float) -> Round:
        """The same with fewer calls, but enough for one server request."""
        return replace(self, calls=max(int(self.calls * factor), self.ask_every))


FULL = [
    Round("legacy", "legacy", "session", 280_000),
    Round("modern", "modern", "session", 190_000),
    Round("modern", "legacy", "session", 130_000),
    Round("both", "modern", "session", 40_000),
    Round("legacy", "legacy", "shared", 100_000, ask_every=700),
    Round("modern", "modern", "shared", 90_000),
    Round("legacy", "modern", "shared", 70_000),
    Round("modern", "legacy", "shared", 50_000, ask_every=700),
    Round("both", "legacy", "shared", 50_000, ask_every=700),
    # A process for each call costs a few milliseconds of two processors.
    Round("legacy", "legacy", "request", 1_500, callers=8, at_once=2, ask_every=7),
    Round("modern", "modern", "request", 1_500, callers=8, at_once=2, ask_every=7),
    Round("legacy", "modern", "request", 1_500, callers=8, at_once=2, ask_every=7),
    Round("modern", "legacy", "request", 1_500, callers=8, at_once=2, ask_every=7),
]
SHORT = [each.scaled(0.01) for each in FULL]


def soak(server: str, rounds: list[Round]) -> Report:
    """Run all rounds, one after the other."""
    report = Report()
    total: Counter[str] = Counter()
    lines: list[str] = []
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
            lines += shim.lines
        finally:
            shim.process.kill()
            shim.process.wait()
        seen = tally.counts
        seen["refused although known"] = seen["refused"] if each.has_one_caller else seen["refused alone"]
        total += seen
        report.say(
            f"{each}: {seen['calls']:7} calls, {seen['calls'] / seconds:6.0f}/s; {seen['progress']} progress, "
            f"{seen['logs']} logs, {seen['updates']} updates, {seen['questions']} questions, "
            f"{seen['refused']} refused, {seen['errors']} errors"
        )
        for example in tally.crossed[:3]:
            report.say(f"  CROSSED: {example}")
        for example in tally.wrong[:3]:
            report.say(f"  WRONG: {example}")
    wanted = sum(each.all_calls for each in rounds)
    report.say(f"{total['calls']} calls in {time.monotonic() - began:.0f} s, all of id 1 and token 1")
    report.bound("crossed answers, notifications and questions", total["crossed"], 0)
    report.bound("wrong or failed answers", total["wrong"], 0)
    report.bound("calls without their answer", wanted - total["calls"], 0)
    report.bound("questions refused although it is known whose they are", total["refused although known"], 0)
    report.bugs(lines)
    for what in ("progress", "logs", "updates", "questions", "errors"):
        report.bound(f"kinds not exercised ({what})", float(total[what] == 0), 0)
    return report


async def _round(port: int, each: Round) -> Tally:
    tally = Tally()
    numbers = iter(range(1, each.calls + 1))  # each free worker takes the next
    callers: list[Caller] = []
    for number in range(each.callers):
        era = each.clients if each.clients != "both" else ("legacy", "modern")[number % 2]
        kind = LegacyCaller if era == "legacy" else ModernCaller
        callers.append(await kind.open(port, f"{era}-{number}", tally))
    for caller in callers[::SUBSCRIBE_EVERY]:
        await caller.subscribe()
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            for _ in range(each.at_once):
                group.create_task(_work(await caller.line(), numbers, each.ask_every))
    if not each.has_one_caller:
        await _alone(callers, each, tally)
    await check_changes(callers, tally, each.notifies_changes)
    for caller in callers:
        await caller.close()
    await disconnect()
    return tally


async def _alone(callers: list[Caller], each: Round, tally: Tally) -> None:
    """One server request for each caller while no other call runs."""
    before = tally.counts["refused"]
    for number, caller in enumerate(callers, each.calls + 1):
        line = await caller.line()
        await line.call("ask", number)
        line.connection.close()
    tally.counts["refused alone"] = tally.counts["refused"] - before


async def check_changes(callers: list[Caller], tally: Tally, each: bool) -> None:
    """Check that no subscriber got a change twice and, where each is due, that none is missing."""
    waiting = [caller for caller in callers if caller.subscribed]
    with suppress(TimeoutError):
        async with asyncio.timeout(TOLD_SECONDS if each else 0):
            while any(caller.updates < caller.touched for caller in waiting):
                await asyncio.sleep(0.01)
    for caller in waiting:
        if caller.updates > caller.touched or (each and caller.updates < caller.touched):
            tally.count_missing(
                f"{caller.name} changed its resource {caller.touched} times and heard {caller.updates} times"
            )


async def _work(line: Line, numbers: Iterator[int], ask_every: int) -> None:
    for number in numbers:
        await line.call(_kind(number, ask_every), number)


def _kind(number: int, ask_every: int) -> str:
    """The tool of the call with this number: mostly a plain one."""
    if ask_every and number % ask_every == 0:
        return "ask"
    if number % 10 == 0:
        return "progress"
    if number % 50 == 29:
        return "touch"
    if number % 50 == 7:
        return "log"
    return "fail" if number % 50 == 13 else "who"
