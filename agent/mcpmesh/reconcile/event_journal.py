"""The journal of events: kept for the API, streamed to its clients, and logged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator

from mcpmesh.model.agent_reports import Event, Level

log = logging.getLogger("mcpmesh")

# About a day of a quiet mesh. A client that falls further behind misses the oldest events.
KEPT_EVENTS = 2000

_SEVERITY = {
    Level.DETAIL: logging.DEBUG,
    Level.PROGRESS: logging.INFO,
    Level.CHANGE: logging.INFO,
    Level.TROUBLE: logging.WARNING,
}


class Journal:
    """The latest events, in order."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._number = 0
        self._recorded = asyncio.Event()
        self._closed = False

    def record(self, level: Level, sentence: str, service: str | None = None) -> None:
        """Appends an event, and logs it as "SERVICE: SENTENCE"."""
        self._number += 1
        self._events.append(Event(self._number, time.time(), level, sentence, service))
        log.log(_SEVERITY[level], "%s: %s", service or "mesh", sentence)
        self._recorded.set()
        self._recorded = asyncio.Event()

    def close(self) -> None:
        """Ends all `follow` iterators after the events recorded so far."""
        self._closed = True
        self._recorded.set()

    @property
    def last(self) -> int:
        """The number of the latest event."""
        return self._number

    async def follow(self, since: int, forever: bool) -> AsyncIterator[Event]:
        """The events above number `since`; with `forever`, also new ones until the journal closes."""
        while True:
            recorded = self._recorded
            for event in [event for event in self._events if event.number > since]:
                since = event.number
                yield event
            if not forever or self._closed:
                return
            if recorded is self._recorded:
                await recorded.wait()
