"""The clock that waits go by; tests hand in a faster one."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Both speeds are 1.0 in real time.

    At `speed` 100.0 a bound of 5 seconds ends after 0.05. `poll_speed` shortens only the pauses between two looks
    at something, and no bound.
    """

    speed: float = 1.0
    poll_speed: float = 1.0

    def now(self) -> float:
        """Seconds of this clock, counted from some moment."""
        return time.monotonic() * self.speed

    def pause_seconds(self, seconds: float) -> float:
        """The real length of a pause of `seconds` between two looks."""
        return seconds / self.poll_speed

    async def pause(self, seconds: float) -> None:
        """A pause of `seconds` between two looks."""
        import asyncio

        await asyncio.sleep(self.pause_seconds(seconds))


REAL_TIME = Clock()
