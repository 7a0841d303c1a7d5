"""Sessions opened and dropped in every impolite way, and what is left of them, counted through /proc.

The start is a shim that has served: after a warm-up in which each way was gone
as often as `WARM_UP`, as many sessions at once as later, and all of it settled.
What a fresh process takes for its first requests is no leak; what grows from
there is one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop
from tests.integration.shim.shim_running import Shim, children, descendants, marked, until
from tests.soak.counting import Count, count
from tests.soak.report import Report
from tests.soak.ways import WAYS, Client, abandon, drop
from tests.soak.wire import disconnect

AT_ONCE = 16
SETTLE_SECONDS = 60.0
MEMORY_PERCENT = 5.0
# So that a soak need not wait half an hour; the timers are the same ones.
SOON = {"session_idle_seconds": 1.0, "silent_peer_seconds": 1.0, "children": 512, "stop_seconds": 0.5}


@dataclass(frozen=True)
class Size:
    """How many sessions are dropped how."""

    warm_up: int
    """Times each way, before the start is counted."""
    each_way: int
    """Times each way, at one shim."""
    clients: int
    """Client processes that are killed, and as many that are stopped first."""
    client_sessions: int
    """Sessions of each such client."""
    shims: int
    """Shims that end with each signal."""
    shim_sessions: int
    """Sessions of each such shim."""

    @property
    def sessions(self) -> int:
        """All but the warm-up's."""
        ends = len(ENDS) * self.shims * self.shim_sessions
        return len(WAYS) * self.each_way + 2 * self.clients * self.client_sessions + ends


# How a shim ends: a signal to it, or (negative) to its guard; and its exit code.
ENDS = {"SIGTERM": 0, "SIGINT": 0, "SIGKILL": -9, "guard SIGKILL": 4}

FULL = Size(warm_up=40, each_way=140, clients=5, client_sessions=10, shims=10, shim_sessions=6)
SHORT = Size(warm_up=15, each_way=15, clients=1, client_sessions=4, shims=1, shim_sessions=3)


def soak(server: str, size: Size) -> Report:
    """All of it."""
    report = Report()
    began = time.monotonic()
    shim = Shim({"command": server, "limits": SOON})
    try:
        shim.wait_ready()
        report.say(f"ready, nothing served yet:  {count(shim.process.pid)}")
        drop_all(shim, size.warm_up)
        start = settled(shim)
        processes = marked(shim.mark)
        report.say(f"the start, {len(WAYS) * size.warm_up} sessions later:  {start}, {len(processes)} processes")
        drop_all(shim, size.each_way)
        kill_clients(shim, size)
        end = settled(shim)
        left = len(marked(shim.mark)) - len(processes)
        opened = shim.metric("sessions_opened_total")
        report.say(f"the end, {opened:.0f} sessions opened:  {end}, {left:+d} processes")
        report.say(f"memory {end.grown(start):+.2f} % (the worse of RSS and PSS)")
        wanted = len(WAYS) * (size.warm_up + size.each_way) + 2 * size.clients * size.client_sessions
        report.bound("sessions that were not opened", max(0, wanted - opened), 0)
        report.bound("processes more than at the start", left, 0)
        report.bound("descriptors more than at the start", end.descriptors - start.descriptors, 0)
        report.bound("memory over the start", end.grown(start), MEMORY_PERCENT, " %")
        report.bound("bugs that the shim told of", sum("a bug in" in line for line in shim.lines), 0)
        shim.stop()
        report.bound("processes left after it stopped", len(marked(shim.mark)), 0)
        report.bound("processes left of shims that were ended", end_shims(server, size, report), 0)
        report.say(f"{size.sessions} sessions in {time.monotonic() - began:.0f} s")
    finally:
        shim.process.kill()
        shim.process.wait()
    return report


def drop_all(shim: Shim, times: int) -> None:
    """Each way so many times, a few at once."""

    async def every() -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with places:
                await drop(shim.port, WAYS[number % len(WAYS)])

        async with asyncio.TaskGroup() as group:
            for number in range(times * len(WAYS)):
                group.create_task(one(number))
        await disconnect()

    uvloop.run(every())


def settled(shim: Shim) -> Count:
    """What the shim has once every trace of its clients should be gone; else what it still has then."""

    def quiet() -> bool:
        now = shim.info()
        # The kept server and one spare; the connection is the one that asks.
        return (now["sessions"], now["in_flight"], now["children"], shim.metric("connections")) == (0, 0, 2, 1)

    until(quiet, SETTLE_SECONDS)
    return count(shim.process.pid)


def kill_clients(shim: Shim, size: Size) -> None:
    """Client processes killed with all that they had open; some were stopped before, as a laptop that is shut."""
    with client_processes(shim, size) as killed, client_processes(shim, size) as stopped:
        for client in stopped:
            client.send_signal(signal.SIGSTOP)
        for client in (*killed, *stopped):
            client.kill()


@contextmanager
def client_processes(shim: Shim, size: Size) -> Iterator[list[subprocess.Popen[str]]]:
    """Clients with their sessions open."""
    argv = [sys.executable, "-m", "tests.soak.client", str(shim.port), str(size.client_sessions)]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(size.clients)]
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n", "the client could not open its sessions"
        yield clients
    finally:
        for client in clients:
            client.kill()
            client.wait()
            assert client.stdout is not None
            client.stdout.close()


def end_shims(server: str, size: Size, report: Report) -> int:
    """Shims over stubborn servers ended in the middle of their sessions; how many processes outlive them."""
    left = 0
    for name, code in ENDS.items():
        slowest = 0.0
        for _ in range(size.shims):
            limits = {**SOON, "stop_seconds": 0.3}
            shim = Shim({"command": server, "args": ["-stubborn"], "limits": limits, "drain_seconds": 0.2})
            try:
                shim.wait_ready()
                seconds, outlived = uvloop.run(_end(shim, name, code, size.shim_sessions))
                slowest = max(slowest, seconds)
                left += outlived
            finally:
                shim.process.kill()
                shim.process.wait()
            shim.close()
        what = f"{size.shims * size.shim_sessions} sessions at {size.shims} shims"
        report.say(f"{what} ended by {name}: all gone {slowest:.2f} s after it at most")
    return left


async def _end(shim: Shim, name: str, code: int, sessions: int) -> tuple[float, int]:
    """Seconds until nothing was left of it, and how many processes were left all the same."""
    for _ in range(sessions):
        client = await Client.open(shim.port)
        abandon(client.connection.begin(client.call("never")))
    everything = descendants(shim.process.pid)
    assert len(everything) >= 2 * sessions, "each server has a detached process besides"
    (guard,) = (int(word) for word in children(shim.process.pid))
    began = time.monotonic()
    target = guard if name.startswith("guard") else shim.process.pid
    os.kill(target, getattr(signal, name.split()[-1]))
    ended = await asyncio.to_thread(shim.process.wait, 30)
    assert ended == code, f"after {name} the shim ended with {ended}, not {code}"
    while (left := marked(shim.mark)) and time.monotonic() < began + 20:
        await asyncio.sleep(0.02)
    await disconnect()
    return time.monotonic() - began, len(left)
