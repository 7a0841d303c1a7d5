"""One measurement: the load generator calls a bridge, whose meters are read right before and right after."""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.shim import meters
from bench.shim.bridge import Bridge

# Time on top of the time for calls, since the sessions of a slow bridge take that long to open.
SLACK_SECONDS = 60.0


@dataclass(frozen=True)
class Shape:
    """One kind of load."""

    key: str
    words: tuple[str, ...]
    title: str
    warm_seconds: float = 0.3


LATENCY = Shape("latency", ("-sessions", "1", "-inflight", "1"), "1 session × 1 call")
ONE = Shape("one", ("-sessions", "1", "-inflight", "32"), "1 session × 32 calls at once")
MANY = Shape("many", ("-sessions", "16", "-inflight", "4"), "16 sessions × 4 calls at once")
SESSIONS = Shape("sessions", ("-mode", "sessions", "-sessions", "8"), "8 at once open a session, call once, leave")
LONG = Shape("long", ("-tool", "blob", "-inflight", "4"), "answers of 1 MiB, 4 at once")
SHAPES = (LATENCY, ONE, MANY, SESSIONS, LONG)


class Failed(Exception):
    """The load generator failed; the message is the reason."""


def measure(programs: Path, bridge: Bridge, shape: Shape, seconds: float, modern: bool = False) -> dict[str, Any]:
    """The load generator's tally, with `cpu_ms` per call and `grown_mib` of the bridge. Raises Failed."""
    words = [str(programs / "load"), *shape.words, "-for", f"{seconds}s", "-warm", f"{shape.warm_seconds}s"]
    if modern:
        words.append("-modern")
    process = subprocess.Popen(
        [*words, bridge.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    conversation = Conversation(process, seconds + SLACK_SECONDS)
    try:
        conversation.line()
        pids = bridge.pids()
        before = sum(map(meters.cpu_seconds, pids))
        resident = meters.forget_peak(pids)
        conversation.go_on()
        tally: dict[str, Any] = json.loads(conversation.line())
        after = bridge.cpu_seconds()
        tally["grown_mib"] = round(meters.peak(pids) - resident, 2)
        tally["cpu_ms"] = 1000 * (after - before) / tally["calls"] if tally["calls"] else None
        conversation.go_on()
        process.wait(SLACK_SECONDS)
    finally:
        conversation.close()
    return tally


class Conversation:
    """A conversation with the load generator, which is killed when its time is over."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self.process = process
        self._timer = threading.Timer(seconds, process.kill)
        self._timer.daemon = True
        self._timer.start()

    def line(self) -> str:
        """The load generator's next line; raises Failed if it exited instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            assert self.process.stderr is not None
            output = self.process.stderr.read().strip().splitlines()
            raise Failed(output[-1].removeprefix("load: ") if output else "the load could not be finished in time")
        return line

    def go_on(self) -> None:
        """Send the line that the load generator waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
