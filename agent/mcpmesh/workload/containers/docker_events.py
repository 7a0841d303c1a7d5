"""Tells when something about our containers changes, so that nobody has to look again and again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from mcpmesh.errors import PeerError
from mcpmesh.workload.containers.docker_engine import DockerEngine

# What happens inside a container is no change of it.
_CHANGES = ("start", "die", "destroy")
# A Docker that is away is asked again this often.
_AGAIN_SECONDS = 1.0


class ContainerChanges:
    """Listens to Docker's events in a task, until `close`."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def begin(self, label: str) -> None:
        """Listens from now on; once is enough."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen(label), name="docker events")

    async def change(self) -> None:
        """Returns at the next change."""
        self._changed.clear()
        await self._changed.wait()

    async def close(self) -> None:
        """Tells nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self, label: str) -> None:
        while True:
            try:
                async with aclosing(self._engine.events(label)) as events:
                    async for event in events:
                        if str(event.get("Action", "")) in _CHANGES:
                            self._changed.set()
            except PeerError:
                pass  # who asks Docker for more tells of it
            await asyncio.sleep(_AGAIN_SECONDS)
            # Nobody knows what happened meanwhile.
            self._changed.set()
