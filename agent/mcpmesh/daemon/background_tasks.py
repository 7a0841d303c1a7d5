"""The agent's background tasks: each has a name and an end, and an unexpected error in one ends the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mcpmesh.model.agent_reports import Level
from mcpmesh.reconcile.event_journal import Journal


class BackgroundTasks:
    """Runs tasks until `close`; calls `on_bug` when a task ended with an error, which is then `bug` (see errors.py)."""

    def __init__(self, journal: Journal, on_bug: Callable[[], None]) -> None:
        self.bug: BaseException | None = None
        self._journal = journal
        self._on_bug = on_bug
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Starts a task."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._done)
        self._tasks.add(task)
        return task

    async def close(self) -> None:
        """Cancels all tasks, and waits for their ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        """Without one of its tasks the agent would only seem to work, so it ends."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._journal.record(
            Level.TROUBLE, f'the agent ends, the mesh keeps running: "{task.get_name()}" failed with {error!r}'
        )
        self.bug = self.bug or error
        self._on_bug()
