"""Shims that are ended by different signals while callers use them, and the processes that outlive them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from itertools import cycle

import uvloop
from tests.integration.shim.running_shim import SECONDS, Shim, children, descendants, marked
from tests.soak.disconnects import abandon, begin_call
from tests.soak.http_client import disconnect
from tests.soak.legacy_drops import Client
from tests.soak.modern_drops import calling, listening
from tests.soak.report import Report

# How a shim is ended: by a signal to it or to its guard; and its exit code.
ENDS = {"SIGTERM": 0, "SIGINT": 0, "SIGKILL": -9, "guard SIGKILL": 4}


def end_shims(server: str, shims: int, callers: int, report: Report) -> int:
    """End `shims` shims by each signal, over stubborn servers, in all isolations; returns the processes left."""
    left, lines = 0, list[str]()
    isolations = cycle(("session", "shared", "request"))
    for name, code in ENDS.items():
        slowest = 0.0
        for _ in range(shims):
            shim = Shim(
                {
                    "command": server,
                    "args": ["-stubborn"],
                    "isolation": (isolation := next(isolations)),
                    "limits": {"stop_seconds": 0.3},
                    "drain_seconds": 0.2,
                }
            )
            try:
                shim.wait_ready()
                seconds, outlived = uvloop.run(_end(shim, name, code, callers, isolation))
                slowest = max(slowest, seconds)
                left += outlived
            finally:
                shim.process.kill()
                shim.process.wait()
            shim.close()
            lines += shim.lines
        what = f"{shims * callers} callers at {shims} shims"
        report.say(f"{what} ended by {name}: all gone {slowest:.2f} s after it at most")
    report.bugs(lines)
    return left


async def _end(shim: Shim, name: str, code: int, callers: int, isolation: str) -> tuple[float, int]:
    """Seconds until no process was left, and how many processes were left nevertheless."""
    for number in range(callers):
        if number % 3 == 1:
            await calling(shim.port)
        elif number % 3 == 2:
            await listening(shim.port)
        else:
            client = await Client.open(shim.port)
            abandon(await begin_call(client.connection, client.call("hang")))
    everything = descendants(shim.process.pid)
    servers = 1 if isolation == "shared" else 1 + -(-callers // 3)
    assert len(everything) >= 1 + 2 * servers, "each server has a detached process besides"
    (guard,) = (int(word) for word in children(shim.process.pid))
    began = time.monotonic()
    target = guard if name.startswith("guard") else shim.process.pid
    os.kill(target, getattr(signal, name.split()[-1]))
    ended = await asyncio.to_thread(shim.process.wait, SECONDS)
    assert ended == code, f"after {name} the shim ended with {ended}, not {code}"
    while (left := marked(shim.mark)) and time.monotonic() < began + SECONDS:
        await asyncio.sleep(0.02)
    await disconnect()
    return time.monotonic() - began, len(left)
