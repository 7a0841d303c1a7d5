"""The processes with this mesh's mark, looked for a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from mcpmesh.kit.marked_process import Process
from mcpmesh.workload.runtime import Runtime

# A guard ends what its server has left behind in some hundred milliseconds.
ENDING_SECONDS = 2.0


async def still_running(
    runtime: Runtime, processes: Collection[Process], ending_seconds: float = ENDING_SECONDS
) -> list[Process]:
    """Those that still run after `ending_seconds`. A process that is just ending may outlive its parent for so long."""
    await asyncio.sleep(ending_seconds)
    running = await runtime.list_processes()
    return [process for process in processes if process in running]
