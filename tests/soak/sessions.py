"""Callers are dropped in every way without being ended; what is left of them is counted through /proc.

Callers of both eras, in every isolation, over servers of both eras. The start
is a shim that has served: after a warm-up in which each way was gone as often
as later, with as many callers at once, and all of it settled. What a process
takes for its first crowds is no leak (Python takes memory a MiB at a time, and
keeps each of which anything is in use); what grows from there is one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.soak.client import CALLERS
from tests.soak.report import Report
from tests.soak.shim_exits import ENDS, end_shims
from tests.soak.stages import STAGES, Running, Stage, running, settle


@dataclass(frozen=True)
class Size:
    """How many callers are dropped in which way."""

    warm_up: int
    """Repetitions of each way at each stage in the warm-up, before the first count."""
    each_way: int
    """Repetitions of each way at each stage."""
    exclusive: int
    """Repetitions of each way that needs the shim for itself, in the warm-up and after it."""
    clients: int
    """Client processes that are killed; as many more are stopped before."""
    client_sessions: int
    """Legacy sessions of each such client at each stage, each with a modern call and a subscription."""
    shims: int
    """Shims that are ended by each signal."""
    shim_callers: int
    """Callers of each such shim."""

    def callers(self, stages: list[Stage]) -> int:
        """The number of callers without the warm-up."""
        dropped = sum(len(stage.drops) * self.each_way + len(stage.exclusive) * self.exclusive for stage in stages)
        killed = len(stages) * 2 * self.clients * self.client_sessions * CALLERS
        return dropped + killed + len(ENDS) * self.shims * self.shim_callers


FULL = Size(warm_up=30, each_way=30, exclusive=10, clients=5, client_sessions=4, shims=9, shim_callers=6)
SHORT = Size(warm_up=5, each_way=5, exclusive=1, clients=1, client_sessions=1, shims=1, shim_callers=3)


def soak(server: str, size: Size, stages: list[Stage] = STAGES) -> Report:
    """Run the whole soak test."""
    report = Report()
    began = time.monotonic()
    with running(server, stages) as shims:
        for each in shims:
            each.drop_exclusively(size.exclusive)
            each.drop(size.warm_up)
        settle(shims)
        for each in shims:
            each.begin(report)
        for each in shims:
            each.drop(size.each_way)
        kill_clients(shims, size)
        settle(shims)
        for each in shims:
            each.compare_with_start(report, "the end")
        # Not earlier, since after a server's exit a shim returns all its free memory.
        exclusive = [each for each in shims if each.stage.exclusive]
        for each in exclusive:
            each.drop_exclusively(size.exclusive)
        settle(exclusive)
        for each in exclusive:
            each.compare_with_start(report, "after its server died")
        report.bound("processes left after they stopped", sum(each.stop() for each in shims), 0)
        report.bugs(line for each in shims for line in each.shim.lines)
    report.bound("processes left of shims that were ended", end_shims(server, size.shims, size.shim_callers, report), 0)
    report.say(f"{size.callers(stages)} callers in {time.monotonic() - began:.0f} s")
    return report


def kill_clients(shims: list[Running], size: Size) -> None:
    """Kill client processes with all that they have open; some were stopped before, like a closed laptop."""
    with client_processes(shims, size) as killed, client_processes(shims, size) as stopped:
        for client in stopped:
            client.send_signal(signal.SIGSTOP)
        for client in (*killed, *stopped):
            client.kill()


@contextmanager
def client_processes(shims: list[Running], size: Size) -> Iterator[list[subprocess.Popen[str]]]:
    """Client processes with sessions, calls and subscriptions open at every stage."""
    ports = [str(each.shim.port) for each in shims]
    argv = [sys.executable, "-m", "tests.soak.client", str(size.client_sessions), *ports]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(size.clients)]
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "open\n", "the client could not open its sessions"
            for each in shims:
                each.sessions += size.client_sessions
                each.dropped += size.client_sessions * CALLERS
        yield clients
    finally:
        for client in clients:
            client.kill()
            client.wait()
            assert client.stdout is not None
            client.stdout.close()
