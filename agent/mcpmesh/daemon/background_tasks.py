"""The agent's tasks: each has a name and an end, and an error that nobody expected ends the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mcpmesh.model.report_items import Level
from mcpmesh.reconcile.journal import Journal


class BackgroundTasks:
    """Runs tasks until `close`; calls `failed` when one has ended of a `bug` (see errors.py)."""

    def __init__(self, journal: Journal, failed: Callable[[], None]) -> None:
        self.bug: BaseException | None = None
        self._journal = journal
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begins a task."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.add(task)
        return task

    async def close(self) -> None:
        """Cancels all, and waits for their ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The agent would only seem to go on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._journal.record(Level.TROUBLE, f'the agent ends, the mesh runs on: "{task.get_name()}" ended of {error!r}')
        self.bug = self.bug or error
        self._failed()
