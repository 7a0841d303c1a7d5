"""The processes with this mesh's mark, looked for a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from mcpmesh.kit.marked_process import Process
from mcpmesh.workload.runtime import Runtime

# A guard ends what its server has left behind in some hundred milliseconds.
_ENDING_SECONDS = 2.0


async def still_running(
    runtime: Runtime, processes: Collection[Process], seconds: float = _ENDING_SECONDS
) -> list[Process]:
    """Those that run after `seconds` too: a process that is just ending may outlive its parent for a moment."""
    await asyncio.sleep(seconds)
    running = await runtime.found()
    return [process for process in processes if process in running]
