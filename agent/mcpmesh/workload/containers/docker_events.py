"""Docker's events about our containers, so that nothing has to poll for changes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from mcpmesh.errors import PeerError
from mcpmesh.workload.containers.docker_engine import DockerEngine

# Events inside a container (exec, health) are no changes of it.
_CHANGES = ("start", "die", "destroy")
# How long after a failure Docker is asked again.
_RETRY_SECONDS = 1.0


class ContainerChanges:
    """Listens to Docker's events in a task, until `close`."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def start(self, label: str) -> None:
        """Starts listening to the containers with that label; a second call does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen(label), name="docker events")

    async def wait_for_change(self) -> None:
        """Returns at the next change."""
        self._changed.clear()
        await self._changed.wait()

    async def close(self) -> None:
        """Stops listening."""
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
                pass  # the next call that needs Docker's answer reports it
            await asyncio.sleep(_RETRY_SECONDS)
            # Events may have been missed meanwhile.
            self._changed.set()
