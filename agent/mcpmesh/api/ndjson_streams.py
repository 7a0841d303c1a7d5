"""Asynchronous iterators as HTTP responses of one JSON value a line (application/x-ndjson).

A task of its own runs each iterator to its end, so the iterator's `finally` is complete even when the client
disconnects. An error before the first line becomes the response's status. A later error becomes the last line,
{"error": {…}}. Empty lines keep a quiet stream alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mcpmesh.api import json_codec, problem_documents
from mcpmesh.api.responses import NDJSON
from mcpmesh.errors import MeshError

# A client that reads slowly slows the agent's iterator down instead of filling memory.
QUEUED_ITEMS = 256

_END = object()


@dataclass(frozen=True)
class StreamTiming:
    """The pauses and bounds of a stream, in seconds."""

    # After three times this without a byte, clients take the agent for gone.
    keep_alive_seconds: float = 10.0
    # How long a response waits for its first line, so that an early error gets a status of its own.
    first_line_seconds: float = 1.0
    # From the last step of `down` to the end of the streams that report it.
    closing_seconds: float = 1.0


class Streams:
    """Owns the tasks of all open streams of one application."""

    def __init__(self, timing: StreamTiming | None = None) -> None:
        self._timing = timing or StreamTiming()
        self._tasks: set[asyncio.Task[None]] = set()
        self._shared: _Replay | None = None

    async def respond(self, items: AsyncIterator[Any], name: str) -> NdjsonResponse:
        """A response with a line for each item; raises the MeshError that came before the first item."""
        queue: asyncio.Queue[object] = asyncio.Queue(QUEUED_ITEMS)
        task = self._start(_fill(queue, items), name)
        first: list[object] = []
        try:
            async with asyncio.timeout(self._timing.first_line_seconds):
                first.append(await queue.get())
        except TimeoutError:
            pass  # The stream is quiet, not failed.
        except BaseException:
            task.cancel()
            raise
        if first and isinstance(first[0], Exception):
            raise first[0]
        return NdjsonResponse(_encode_lines(first, queue, self._timing.keep_alive_seconds), task)

    def run_to_end(self, begin: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        """The items of `begin()`, which runs to its end even when all clients disconnect.

        It runs once: a later caller gets all items from the first one on. After a failure it is begun again.
        """
        if self._shared is None or self._shared.failed:
            self._shared = _Replay()
            self._start(self._shared.run(begin()), "down")
        return self._shared.listen()

    async def close(self) -> None:
        """Ends every stream and waits for the clean-up of their iterators.

        Streams that are about to end by themselves have `closing_seconds` for that; the others end with an error.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timing.closing_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=f"api {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class NdjsonResponse(StreamingResponse):
    """A streaming response; its task ends with it, however the response ends."""

    media_type = NDJSON

    def __init__(self, lines: AsyncIterator[bytes], task: asyncio.Task[None]) -> None:
        super().__init__(lines, headers={"Cache-Control": "no-store"})
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._task.cancel()


class _Replay:
    """Keeps all items of an iterator, for listeners that join at any time."""

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
                self._wake_listeners()
        except asyncio.CancelledError:
            self._error = _agent_ended()
            raise
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._wake_listeners()

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

    def _wake_listeners(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _fill(queue: asyncio.Queue[object], items: AsyncIterator[Any]) -> None:
    last: object = _END
    try:
        async for item in items:
            await queue.put(item)
    except asyncio.CancelledError:
        # The queue may be full with nobody reading. A client that does read must not take its items for a whole answer.
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(_agent_ended())
        raise
    except Exception as error:
        last = error
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
    await queue.put(last)


async def _encode_lines(
    first: list[object], queue: asyncio.Queue[object], keep_alive_seconds: float
) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(keep_alive_seconds):
                item = first.pop() if first else await queue.get()
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


def _agent_ended() -> MeshError:
    return problem_documents.NoAgent("cannot go on: the agent ended in the middle of its answer; see: mcpmesh status")
