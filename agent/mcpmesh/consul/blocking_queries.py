"""Words about what changed in Consul, by blocking queries.

One query stands for each table that a pass reads. None is asked more often
than `PAUSE_SECONDS`, whatever Consul does, and a Consul that does not answer
is asked ever more seldom; when it answers again, that is a change too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

# A query of `path` that returns its index when it differs from the one given, or after a while.
Query = Callable[[str, int], Awaitable[int]]

# Changes come in bursts: a registration alone makes four.
PAUSE_SECONDS = 0.1
CEILING_SECONDS = 10.0


@dataclass
class _Board:
    """The words that were not taken yet, each once, in order."""

    words: dict[str, None] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, word: str) -> None:
        self.words[word] = None
        self.filled.set()

    async def take(self) -> str:
        await self.filled.wait()
        word = next(iter(self.words))
        del self.words[word]
        if not self.words:
            self.filled.clear()
        return word


async def changes(
    query: Query, paths: dict[str, str], failures: tuple[type[Exception], ...], pause_seconds: float = PAUSE_SECONDS
) -> AsyncGenerator[str, None]:
    """Yields the word of each path of `paths` whenever it changed; ends only when it is closed.

    A query that raises one of `failures` is tried again; any other error ends
    the iteration. Close it (`contextlib.aclosing`), or its queries stay open.
    """
    board = _Board()
    watches = [
        asyncio.create_task(_watch(query, path, word, board, failures, pause_seconds), name=f"watch {path}")
        for path, word in paths.items()
    ]
    try:
        while True:
            taking = asyncio.create_task(board.take(), name="next change")
            try:
                await asyncio.wait({taking, *watches}, return_when=asyncio.FIRST_COMPLETED)
                for watch in watches:
                    if watch.done():  # a bug: they end by an error alone
                        watch.result()
                word = taking.result()
            finally:
                taking.cancel()
            yield word
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _watch(
    query: Query, path: str, word: str, board: _Board, failures: tuple[type[Exception], ...], pause: float
) -> None:
    index, seen = 0, False
    wait = pause
    while True:
        try:
            found = await query(path, index)
        except failures:
            # Whatever it held may have changed meanwhile, and its indices may begin anew.
            index, wait = 0, min(wait * 2, CEILING_SECONDS)
        else:
            if found != index and seen:
                board.put(word)
            # An index that went back means a restored or a new Consul; 0 would not block.
            index, wait, seen = (max(found, 1) if found >= index else 0), pause, True
        await asyncio.sleep(wait)
