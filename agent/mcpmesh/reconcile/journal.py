"""What happened, in sentences: to the log, to the API, to whoever follows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator

from mcpmesh.model.report_items import Event, Level

log = logging.getLogger("mcpmesh")

# A day's worth of a quiet mesh; followers that fall further behind miss the oldest.
_KEPT = 2000

_SEVERITY = {
    Level.DETAIL: logging.DEBUG,
    Level.PROGRESS: logging.INFO,
    Level.CHANGE: logging.INFO,
    Level.TROUBLE: logging.WARNING,
}


class Journal:
    """Events in order, the latest ones kept."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._number = 0
        self._more = asyncio.Event()
        self._closed = False

    def record(self, level: Level, sentence: str, service: str | None = None) -> None:
        """Appends an event and logs it, the service first."""
        self._number += 1
        self._events.append(Event(self._number, time.time(), level, sentence, service))
        log.log(_SEVERITY[level], "%s: %s", service or "mesh", sentence)
        self._more.set()
        self._more = asyncio.Event()

    def close(self) -> None:
        """Lets followers end."""
        self._closed = True
        self._more.set()

    @property
    def last(self) -> int:
        """The number of the latest event."""
        return self._number

    async def follow(self, since: int, forever: bool) -> AsyncIterator[Event]:
        """Events above `since`; with `forever`, new ones until the journal closes."""
        while True:
            more = self._more
            for event in [event for event in self._events if event.number > since]:
                since = event.number
                yield event
            if not forever or self._closed:
                return
            if more is self._more:
                await more.wait()
