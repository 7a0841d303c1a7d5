"""The story of the kept process, as /ready tells it.

starting ─► ready ─► restarting ─► starting …
    └─► restarting … crash-loop (several failed starts in a row)
failed       the program can't be started at all
draining     told to stop
"""

from __future__ import annotations

import asyncio

from mcpmesh.shim.config import Limits
from mcpmesh.shim.errors import Failure, unavailable
from mcpmesh.shim.log import say
from mcpmesh.shim.server.stdio_process import Exit, Tail


class State:
    """A name, a sentence, and the evidence for it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.name = "starting"
        self.error = ""
        self.exit: Exit | None = None
        self.tail = Tail()
        self.failures = 0
        self.retry_seconds = 0.0
        self._changed = asyncio.Event()

    def set(self, name: str, error: str) -> None:
        """A new state, told to all who wait for one."""
        self.name = name
        self.error = error
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, seconds: float) -> bool:
        """Wait for the next change; False when there was none in time."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def up(self) -> None:
        """The server answers."""
        self.exit = None
        if self.failures:
            say("the server answers again (failures before: %d)", self.failures)
        self.set("ready", "")

    def down(self, sentence: str, exit: Exit | None, tail: Tail | None, settled: bool) -> None:
        """The server ended or could not be started; `settled` says that it had stayed up before."""
        self.failures = 1 if settled else self.failures + 1
        self.exit = exit
        if tail is not None:
            self.tail = tail
        limits = self.limits
        self.retry_seconds = min(limits.backoff_seconds * 2.0 ** min(self.failures - 1, 30), limits.backoff_max_seconds)
        if self.failures <= limits.crash_loop or self.failures % 10 == 0:
            say("%s; next start in %.1f s (failure %d)", sentence, self.retry_seconds, self.failures)
        if tail is None:
            self.set("failed", sentence)
        else:
            self.set("crash-loop" if self.failures >= limits.crash_loop else "restarting", sentence)

    def unready(self) -> Failure:
        """503: why no process is there."""
        return unavailable(
            f"cannot reach the server: {self.error or 'it is ' + self.name}",
            self.name,
            retry_after=max(1, round(self.retry_seconds)),
        )
