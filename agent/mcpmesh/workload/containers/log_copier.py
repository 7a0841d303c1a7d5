"""What containers say, copied into the mesh's logs while they say it.

So `mcpmesh logs` reads files wherever instances run, and the last words of a
container outlive it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from io import FileIO
from pathlib import Path

from mcpmesh.errors import MeshError
from mcpmesh.workload.containers.docker_engine import DockerEngine

# What was said before the end comes within moments of it, on a loaded machine a few of them.
_END_SECONDS = 10.0


class LogCopier:
    """One task for each container that runs; each ends with its container, or with `close`."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Copies no more; who comes next begins where this left off."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, id_: str, log: Path) -> asyncio.Task[None]:
        """Copies what the container `id_` says to `log` (0600), from where an earlier agent left off."""
        if id_ not in self._tasks:
            task = asyncio.create_task(self._copy(id_, log), name=f"logs {log.stem}")
            self._tasks[id_] = task
            task.add_done_callback(lambda _: self._tasks.pop(id_, None))
        return self._tasks[id_]

    async def end(self, id_: str, log: Path) -> None:
        """Returns when all that an ended container said is in `log`."""
        task = self.begin(id_, log)
        await asyncio.wait([task], timeout=_END_SECONDS)
        task.cancel()

    async def _copy(self, id_: str, log: Path) -> None:
        try:
            since, sink = _opened(log)
            with sink:
                async with aclosing(self._engine.said(id_, since)) as said:
                    async for words in said:
                        # Into the kernel's cache, which takes microseconds: a thread for each would cost more.
                        sink.write(words)
        except (MeshError, OSError):
            return  # Docker is away, or the disk full: whoever looks for the container next begins again


def _opened(log: Path) -> tuple[float, FileIO]:
    """When something was last written there (Unix seconds; 0 if never), and where to go on."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    since = log.stat().st_mtime if log.exists() else 0.0
    return since, FileIO(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
