"""Tells when something about our containers changes, so that nobody has to look again and again."""

from __future__ import annotations

import asyncio
import threading
import time

from mcpmesh.errors import PeerError, WorkloadError
from mcpmesh.workload.containers.engine import Engine

# What happens inside a container is no change of it.
_CHANGES = ("start", "die", "destroy")
# A Docker that is away is asked again this often.
_AGAIN_SECONDS = 1.0


class Watch:
    """Listens to Docker's events in a thread that ends with the program."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread: threading.Thread | None = None
        self._changed: asyncio.Event | None = None
        self._closed = False

    def begin(self, label: str) -> None:
        """Listens from now on; once is enough."""
        if self._thread is None:
            loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
            self._thread = threading.Thread(target=self._listen, args=(label, loop), name="docker events", daemon=True)
            self._thread.start()

    async def change(self) -> None:
        """Returns at the next change."""
        if self._changed is None:
            await asyncio.Event().wait()
            return
        self._changed.clear()
        await self._changed.wait()

    def close(self) -> None:
        """Tells nobody any more."""
        self._closed = True

    def _listen(self, label: str, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closed:
            try:
                for event in self._engine.events(label):
                    if str(event.get("Action", "")) in _CHANGES:
                        self._tell(loop)
            except (PeerError, WorkloadError):
                time.sleep(_AGAIN_SECONDS)  # a thread of its own
                self._tell(loop)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._closed and self._changed is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._changed.set)
