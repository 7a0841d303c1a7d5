"""Learns of changes in Consul by blocking queries.

One query runs for each table that a reconcile pass reads. There is a pause of
`PAUSE_SECONDS` between two queries of a table, and a growing one while Consul
does not answer. When it answers again, that counts as a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

# A query of `path` that returns its index when it differs from the one given, or after a while.
Query = Callable[[str, int], Awaitable[int]]

# Changes come in bursts: a registration alone makes four.
PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 10.0


@dataclass
class _ChangeQueue:
    """The names of changed tables that were not taken yet, each once, in order."""

    names: dict[str, None] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, name: str) -> None:
        self.names[name] = None
        self.filled.set()

    async def take(self) -> str:
        await self.filled.wait()
        name = next(iter(self.names))
        del self.names[name]
        if not self.names:
            self.filled.clear()
        return name


async def changes(
    query: Query, paths: dict[str, str], failures: tuple[type[Exception], ...], pause_seconds: float = PAUSE_SECONDS
) -> AsyncGenerator[str, None]:
    """Yields the name of each path in `paths` (path to name) whenever it changed; ends only when it is closed.

    A query that raises one of `failures` is tried again; any other error ends
    the iteration. Close it (`contextlib.aclosing`), or its queries stay open.
    """
    queue = _ChangeQueue()
    watches = [
        asyncio.create_task(_watch(query, path, name, queue, failures, pause_seconds), name=f"watch {path}")
        for path, name in paths.items()
    ]
    try:
        while True:
            taking = asyncio.create_task(queue.take(), name="next change")
            try:
                await asyncio.wait({taking, *watches}, return_when=asyncio.FIRST_COMPLETED)
                for watch in watches:
                    if watch.done():  # it ended with an unexpected error, which is raised here
                        watch.result()
                name = taking.result()
            finally:
                taking.cancel()
            yield name
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _watch(
    query: Query, path: str, name: str, queue: _ChangeQueue, failures: tuple[type[Exception], ...], pause: float
) -> None:
    index, has_answered = 0, False
    wait = pause
    while True:
        try:
            found = await query(path, index)
        except failures:
            # Everything may have changed meanwhile, and its indices may start from the beginning.
            index, wait = 0, min(wait * 2, MAX_PAUSE_SECONDS)
        else:
            if found != index and has_answered:
                queue.put(name)
            # A lower index means a restored or a new Consul; a query with 0 does not block.
            index, wait, has_answered = (max(found, 1) if found >= index else 0), pause, True
        await asyncio.sleep(wait)
