"""A running mesh under `up`: its events as they come, its board whenever something changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Self

from mcpmesh.api import agent_record
from mcpmesh.api.client import AgentClient
from mcpmesh.api.problem_documents import NoAgent
from mcpmesh.cli.invocation import Invocation
from mcpmesh.cli.render.live_progress import Progress
from mcpmesh.cli.wait.readiness import Settling
from mcpmesh.errors import Broken, MeshError, Unreachable
from mcpmesh.model.mesh_status import MeshStatus

_LOOK_SECONDS = 0.5
# From the last word of an agent to its end.
_END_SECONDS = 10.0


class Following:
    """`async with` it: events are shown from entry on, progress only until `settled`."""

    def __init__(self, this: Invocation, progress: Progress, since: int) -> None:
        self._this = this
        self._progress = progress
        self._since = since
        self._standing = False

    async def __aenter__(self) -> Self:
        self._listening = asyncio.create_task(self._listen(), name="events")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def settled(self, services: frozenset[str], seconds: float) -> MeshStatus | None:
        """The board once every one of `services` is ready or failed; as it is after `seconds`.

        None when the agent ends meanwhile: `ended` says how.
        """
        status = await self.until(Settling(services).over, seconds)
        # What was said meanwhile is shown before the table.
        self._standing = status is not None
        return status

    async def until(self, over: Callable[[MeshStatus, float], bool], seconds: float) -> MeshStatus | None:
        """The first status for which `over` holds at that time, or that after `seconds`; None as in `settled`."""
        end = time.monotonic() + seconds
        async with AgentClient(self._this.home) as agent:
            while True:
                try:
                    status = await agent.status()
                except NoAgent:
                    if await self._lives():
                        continue
                    return None
                self._progress.board(status)
                now = time.monotonic()
                if over(status, now) or now >= end:
                    return status
                await asyncio.wait({self._listening}, timeout=_LOOK_SECONDS)

    async def ended(self) -> agent_record.Presence | None:
        """Waits for the agent's end: None when the mesh was taken down, else the agent that died."""
        await asyncio.wait({self._listening})
        return self._listening.result()

    async def _listen(self) -> agent_record.Presence | None:
        home = self._this.home
        seen = agent_record.read(home)
        while True:
            try:
                async with AgentClient(home) as agent:
                    if seen is None or agent.presence.pid != seen.pid:
                        self._since = 0  # Another agent counts anew.
                    seen = agent.presence
                    async with aclosing(agent.events(self._since, follow=True)) as events:
                        async for event in events:
                            self._since = event.number
                            self._progress.event(event, quiet=self._standing)
            except (Broken, Unreachable):
                pass
            if not await self._lives():
                return agent_record.read(home)

    async def _lives(self) -> bool:
        """Whether an agent lives and answers; one that stopped answering has a moment to leave."""
        end = time.monotonic() + _END_SECONDS
        while agent_record.alive(self._this.home):
            try:
                async with AgentClient(self._this.home) as agent:
                    await agent.status()
                    return True
            except NoAgent:
                if time.monotonic() > end and agent_record.read(self._this.home) is not None:
                    return True  # It is stuck, not gone: go on trying.
            except MeshError:
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False
