"""The state of the main server process, as /ready reports it.

starting ─► ready ─► restarting ─► starting …
    └─► restarting … crash-loop (several failed starts in a row)
failed       the program can't be started at all
draining     the shim was told to stop
"""

from __future__ import annotations

import asyncio

from mcpmesh.shim.config import Limits
from mcpmesh.shim.errors import Failure, unavailable
from mcpmesh.shim.log import log
from mcpmesh.shim.server.channel import OutputTail, ServerExit


class Lifecycle:
    """A state, the sentence that explains it, and the evidence: exit and last output."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.state = "starting"
        self.error = ""
        self.exit: ServerExit | None = None
        self.tail = OutputTail()
        self.failures = 0
        self.retry_seconds = 0.0
        self._changed = asyncio.Event()

    def set(self, state: str, error: str) -> None:
        """Change the state, and wake everyone who waits for a change."""
        self.state = state
        self.error = error
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, seconds: float) -> bool:
        """Wait for the next change; returns False when there was none in time."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def up(self) -> None:
        """The server answers."""
        self.exit = None
        if self.failures:
            log("the server answers again (failures before: %d)", self.failures)
        self.set("ready", "")

    def down(self, sentence: str, exit: ServerExit | None, tail: OutputTail | None, was_stable: bool) -> None:
        """The server exited or could not be started. Without a tail the program can't be started at all.

        `was_stable` says that the server had stayed up before, so that its earlier failures no longer count.
        """
        self.failures = 1 if was_stable else self.failures + 1
        self.exit = exit
        if tail is not None:
            self.tail = tail
        limits = self.limits
        self.retry_seconds = min(limits.backoff_seconds * 2.0 ** min(self.failures - 1, 30), limits.backoff_max_seconds)
        if self.failures <= limits.crash_loop or self.failures % 10 == 0:
            log("%s; next start in %.1f s (failure %d)", sentence, self.retry_seconds, self.failures)
        if tail is None:
            self.set("failed", sentence)
        else:
            self.set("crash-loop" if self.failures >= limits.crash_loop else "restarting", sentence)

    def unready(self) -> Failure:
        """The failure (503) of a call while no server is there."""
        return unavailable(
            f"cannot reach the server: {self.error or 'it is ' + self.state}",
            self.state,
            retry_after=max(1, round(self.retry_seconds)),
        )
