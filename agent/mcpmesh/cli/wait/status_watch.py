"""`mcpmesh status --watch`: shows the status again whenever it changes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from mcpmesh.cli.clock import Clock
from mcpmesh.cli.render.live_status import LiveStatus
from mcpmesh.cli.render.output import Output
from mcpmesh.cli.wait.agent_startup import connect
from mcpmesh.model.mesh_status import MeshStatus

# An event of the agent triggers a look at once; this is for changes without an event.
_POLL_SECONDS = 2.0


async def watch_status(home: Path, clock: Clock, output: Output) -> None:
    """Shows each new status, on a terminal in place of the last one, until the agent ends or Ctrl-C."""
    async with connect(home, clock) as agent:
        event_seen = asyncio.Event()

        async def read_events() -> None:
            async with aclosing(agent.events(0, follow=True)) as events:
                async for _ in events:
                    event_seen.set()

        reader = asyncio.create_task(read_events(), name="events")
        shown: MeshStatus | None = None
        try:
            with LiveStatus(output) as live:
                while not reader.done():
                    status = await agent.status()
                    if status != shown:
                        live.show(status)
                        shown = status
                    event_seen.clear()
                    waiting = asyncio.create_task(event_seen.wait(), name="event")
                    await asyncio.wait(
                        {waiting, reader},
                        timeout=clock.pause_seconds(_POLL_SECONDS),
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    waiting.cancel()
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
