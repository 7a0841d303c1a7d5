"""What every part of a shim needs: its configuration, clock, counters and background tasks."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from mcpmesh.shim.config import Config
from mcpmesh.shim.log import log
from mcpmesh.shim.metrics import Metrics


class Context:
    """Belongs to one running event loop. `now` is monotonic seconds, `wall_clock` seconds since 1970."""

    __slots__ = ("_loop", "_tasks", "config", "draining", "limits", "memory_freed", "metrics", "now", "wall_clock")

    def __init__(
        self,
        config: Config,
        now: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.metrics = Metrics()
        self.now = now
        self.wall_clock = wall_clock
        self.draining = False
        """The shim stops: it takes no new calls."""
        self.memory_freed = False
        """A process or a connection ended, and its memory was not returned to the system yet."""
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> None:
        """Run a coroutine in the background; an exception that it does not catch is a bug and logged as one."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `callback` after `seconds`."""
        return self._loop.call_later(seconds, callback)

    def _task_done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            trace = "".join(traceback.format_exception(error))
            log("a bug in %s, please report it: %s", task.get_name(), trace)
