"""Copies the output of containers into the mesh's logs as it is written.

So `mcpmesh logs` reads files for both runtimes, and the last lines of a
container are kept when it is removed.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from io import FileIO
from pathlib import Path

from mcpmesh.errors import MeshError
from mcpmesh.workload.containers.docker_engine import DockerEngine

# Docker delivers the rest of an ended container's output within moments; on a loaded machine that takes seconds.
_END_SECONDS = 10.0


class LogCopier:
    """One task for each container that runs; each ends with its container, or with `close`."""

    def __init__(self, engine: DockerEngine, end_seconds: float = _END_SECONDS) -> None:
        self._engine = engine
        self._end_seconds = end_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Stops copying; the next agent continues from the same place."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self, id_: str, log: Path) -> asyncio.Task[None]:
        """Copies the output of the container `id_` to `log` (0600), from where an earlier agent stopped."""
        if id_ not in self._tasks:
            task = asyncio.create_task(self._copy(id_, log), name=f"logs {log.stem}")
            self._tasks[id_] = task
            task.add_done_callback(lambda _: self._tasks.pop(id_, None))
        return self._tasks[id_]

    async def finish(self, id_: str, log: Path) -> None:
        """Returns when all output of an ended container is in `log`, or after `end_seconds`."""
        task = self.start(id_, log)
        await asyncio.wait([task], timeout=self._end_seconds)
        task.cancel()

    async def _copy(self, id_: str, log: Path) -> None:
        try:
            since, file = _open(log)
            with file:
                async with aclosing(self._engine.output(id_, since)) as output:
                    async for chunk in output:
                        # A write into the kernel's cache takes microseconds: a thread for each would cost more.
                        file.write(chunk)
        except (MeshError, OSError):
            return  # Docker does not answer, or the disk is full: the next discovery starts again


def _open(log: Path) -> tuple[float, FileIO]:
    """The time of the last write there (Unix seconds; 0 if there was none), and the file to append to."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    since = log.stat().st_mtime if log.exists() else 0.0
    return since, FileIO(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
