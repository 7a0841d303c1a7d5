"""`mcpmesh status --watch`: the board, whenever it changes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from mcpmesh.cli.invocation import Invocation
from mcpmesh.cli.render.live_status import Picture
from mcpmesh.model.mesh_status import MeshStatus

# Changes show at once: the agent's events wake the picture. This is for what makes no event.
_LOOK_SECONDS = 2.0


async def watch(this: Invocation) -> None:
    """Prints each new picture; on a terminal, in the place of the old one. Ends by an error or Ctrl-C."""
    async with this.agent() as agent:
        changed = asyncio.Event()

        async def listen() -> None:
            async with aclosing(agent.events(0, follow=True)) as events:
                async for _ in events:
                    changed.set()

        listening = asyncio.create_task(listen(), name="events")
        shown: MeshStatus | None = None
        try:
            with Picture(this.output) as picture:
                while not listening.done():
                    seen = await agent.status()
                    if seen != shown:
                        picture.show(seen)
                        shown = seen
                    changed.clear()
                    waiting = asyncio.create_task(changed.wait(), name="change")
                    await asyncio.wait({waiting, listening}, timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
                    waiting.cancel()
            await listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
