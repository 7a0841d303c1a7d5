"""Iterators of the agent as lines of JSON (application/x-ndjson).

Each iterator is run to its end by a task of its own: what stands in its
`finally` happens there when the client leaves, in full. An error raised
before the first line becomes a status; a later one becomes the last line,
{"error": {…}}. Empty lines keep a quiet stream alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mcpmesh.api import json_codec, problem_documents
from mcpmesh.api.responses import NDJSON
from mcpmesh.errors import MeshError

# A client may take an agent to be gone that says nothing for three times as long.
KEEP_ALIVE_SECONDS = 10.0
# How long the first line is waited for, so that an early error still gets its own status.
PATIENCE_SECONDS = 1.0
# A client that reads slowly slows the agent's iterator down instead of filling memory.
AHEAD = 256

# From the last deed of `down` to the end of the streams that tell of it.
CLOSING_SECONDS = 1.0

_END = object()


def _cut() -> MeshError:
    return problem_documents.NoAgent("cannot go on: the agent ended in the middle of its answer; see: mcpmesh status")


class Streams:
    """Owns the tasks of all open streams of one application."""

    def __init__(self, keep_alive_seconds: float = KEEP_ALIVE_SECONDS) -> None:
        self._keep_alive_seconds = keep_alive_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._farewell: _Replay | None = None

    async def respond(self, items: AsyncIterator[Any], name: str) -> Lines:
        """A response with one line for each item; raises the MeshError that came before the first."""
        queue: asyncio.Queue[object] = asyncio.Queue(AHEAD)
        task = self._start(_pump(items, queue), name)
        head: list[object] = []
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                head.append(await queue.get())
        except TimeoutError:
            pass  # Nothing yet: it is a quiet stream, not a failed one.
        except BaseException:
            task.cancel()
            raise
        if head and isinstance(head[0], Exception):
            raise head[0]
        return Lines(_lines(head, queue, self._keep_alive_seconds), task)

    def farewell(self, begin: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        """What `begin` gives, run to its end even when all listeners leave.

        It is begun once and told in full to whoever asks; anew only after it failed.
        """
        if self._farewell is None or self._farewell.failed:
            self._farewell = _Replay()
            self._start(self._farewell.run(begin()), "down")
        return self._farewell.listen()

    async def close(self) -> None:
        """Ends every stream and waits for what their iterators do at the end.

        Those about to end by themselves have a moment to do so; the others end with an error.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=f"api {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _pump(items: AsyncIterator[Any], queue: asyncio.Queue[object]) -> None:
    last: object = _END
    try:
        async for item in items:
            await queue.put(item)
    except asyncio.CancelledError:
        # Nobody may be reading; who is must not take what came so far for all.
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(_cut())
        raise
    except Exception as error:
        last = error
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
    await queue.put(last)


class Lines(StreamingResponse):
    """Lines and the task behind them, which ends with the response, however that ends."""

    media_type = NDJSON

    def __init__(self, lines: AsyncIterator[bytes], task: asyncio.Task[None]) -> None:
        super().__init__(lines, headers={"Cache-Control": "no-store"})
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._task.cancel()


async def _lines(head: list[object], queue: asyncio.Queue[object], keep_alive_seconds: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(keep_alive_seconds):
                item = head.pop() if head else await queue.get()
        except TimeoutError:
            yield b"\n"
            continue
        if item is _END:
            return
        if isinstance(item, MeshError):
            yield json_codec.encode({"error": problem_documents.document(item)}) + b"\n"
            return
        if isinstance(item, Exception):
            raise item
        yield json_codec.encode(item) + b"\n"


class _Replay:
    """Items kept from the first one on, for listeners that come at any time."""

    def __init__(self) -> None:
        self._ended = False
        self._items: list[Any] = []
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def failed(self) -> bool:
        return self._error is not None

    async def run(self, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                self._items.append(item)
                self._tell()
        except asyncio.CancelledError:
            self._error = _cut()
            raise
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._tell()

    async def listen(self) -> AsyncIterator[Any]:
        position = 0
        while True:
            changed = self._changed
            while position < len(self._items):
                yield self._items[position]
                position += 1
            if self._ended:
                if self._error is not None:
                    raise self._error
                return
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
