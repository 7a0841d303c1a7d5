"""Waits in the event loop for a blocking call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T]) -> T:
    """The result of `function()`, run in a daemon thread: unlike asyncio's threads it delays no exit."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def finish(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        try:
            value, error = function(), None
        except BaseException as raised:
            value, error = None, raised
        loop.call_soon_threadsafe(finish, value, error)

    threading.Thread(target=run, name="mcpmesh blocking call", daemon=True).start()
    return await result
