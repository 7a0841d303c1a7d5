"""Callers opened and dropped in every impolite way, and what is left of them, counted through /proc.

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
from tests.soak.ends import ENDS, end_shims
from tests.soak.report import Report
from tests.soak.stages import STAGES, Running, Stage, running, settle


@dataclass(frozen=True)
class Size:
    """How many callers are dropped how."""

    warm_up: int
    """Times each way at each stage, before the start is counted."""
    each_way: int
    """Times each way at each stage."""
    alone: int
    """Times each way that needs the shim for itself; before the start as often."""
    clients: int
    """Client processes that are killed, and as many that are stopped first."""
    client_sessions: int
    """Legacy sessions of each such client at each stage; a modern call and a subscription beside each."""
    shims: int
    """Shims that end with each signal."""
    shim_callers: int
    """Callers of each such shim."""

    def callers(self, stages: list[Stage]) -> int:
        """All but the warm-up's."""
        dropped = sum(len(stage.drops) * self.each_way + len(stage.alone) * self.alone for stage in stages)
        killed = len(stages) * 2 * self.clients * self.client_sessions * CALLERS
        return dropped + killed + len(ENDS) * self.shims * self.shim_callers


FULL = Size(warm_up=30, each_way=30, alone=10, clients=5, client_sessions=4, shims=9, shim_callers=6)
SHORT = Size(warm_up=5, each_way=5, alone=1, clients=1, client_sessions=1, shims=1, shim_callers=3)


def soak(server: str, size: Size, stages: list[Stage] = STAGES) -> Report:
    """All of it."""
    report = Report()
    began = time.monotonic()
    with running(server, stages) as shims:
        for each in shims:
            each.drop_alone(size.alone)
            each.drop(size.warm_up)
        settle(shims)
        for each in shims:
            each.begin(report)
        for each in shims:
            each.drop(size.each_way)
        kill_clients(shims, size)
        settle(shims)
        for each in shims:
            each.judge(report, "the end")
        # Only now, since the end of a server makes a shim give back all that is free.
        alone = [each for each in shims if each.stage.alone]
        for each in alone:
            each.drop_alone(size.alone)
        settle(alone)
        for each in alone:
            each.judge(report, "after its server died")
        report.bound("processes left after they stopped", sum(each.stop() for each in shims), 0)
        report.bugs(line for each in shims for line in each.shim.lines)
    report.bound("processes left of shims that were ended", end_shims(server, size.shims, size.shim_callers, report), 0)
    report.say(f"{size.callers(stages)} callers in {time.monotonic() - began:.0f} s")
    return report


def kill_clients(shims: list[Running], size: Size) -> None:
    """Client processes killed with all that they had open; some were stopped before, as a laptop that is shut."""
    with client_processes(shims, size) as killed, client_processes(shims, size) as stopped:
        for client in stopped:
            client.send_signal(signal.SIGSTOP)
        for client in (*killed, *stopped):
            client.kill()


@contextmanager
def client_processes(shims: list[Running], size: Size) -> Iterator[list[subprocess.Popen[str]]]:
    """Clients with all that they hold open at every stage."""
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
