"""Follows a running mesh: shows its events as they happen, and polls its status for a condition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Self

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.api.agent_record import AgentRecord
from mcpmesh.api.client import AgentClient
from mcpmesh.api.problem_documents import NoAgent
from mcpmesh.cli.clock import Clock
from mcpmesh.cli.render.live_progress import Progress
from mcpmesh.cli.wait.readiness import SettledCondition
from mcpmesh.errors import Broken, MeshError, Unreachable
from mcpmesh.model.mesh_status import MeshStatus

_POLL_SECONDS = 0.5
# From an agent's last answer to the end of its process.
_EXIT_SECONDS = 10.0


class EventFollower:
    """Shows events inside `async with`; those of level progress only until `until_settled` returns.

    An agent that restarts meanwhile is followed too.
    """

    def __init__(self, home: Path, progress: Progress, since: int, clock: Clock) -> None:
        self._home = home
        self._progress = progress
        self._since = since
        self._clock = clock
        self._settled = False

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read_events(), name="events")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def until_settled(self, services: frozenset[str], seconds: float) -> MeshStatus | None:
        """The status once all `services` are ready or failed, or after `seconds`.

        None when the agent ends meanwhile: `agent_end` says how.
        """
        status = await self.until(SettledCondition(services).holds, seconds)
        # Only now: progress that was reported meanwhile is shown before the table.
        self._settled = status is not None
        return status

    async def until(self, condition: Callable[[MeshStatus, float], bool], seconds: float) -> MeshStatus | None:
        """The first status for which `condition` holds, or that after `seconds`; None as in `until_settled`."""
        end = self._clock.now() + seconds
        async with AgentClient(self._home) as agent:
            while True:
                try:
                    status = await agent.status()
                except NoAgent:
                    if await self._agent_runs():
                        continue
                    return None
                self._progress.show_status(status)
                now = self._clock.now()
                if condition(status, now) or now >= end:
                    return status
                await asyncio.wait({self._reader}, timeout=self._clock.pause_seconds(_POLL_SECONDS))

    async def agent_end(self) -> AgentRecord | None:
        """Waits for the agent's end: None when it took the mesh down, else the record of the agent that died."""
        await asyncio.wait({self._reader})
        return self._reader.result()

    async def _read_events(self) -> AgentRecord | None:
        record = agent_record.read(self._home)
        while True:
            try:
                async with AgentClient(self._home) as agent:
                    if record is None or agent.record.pid != record.pid:
                        self._since = 0  # Another agent numbers its events from 1 again.
                    record = agent.record
                    async with aclosing(agent.events(self._since, follow=True)) as events:
                        async for event in events:
                            self._since = event.number
                            self._progress.show_event(event, hide_progress=self._settled)
            except (Broken, Unreachable):
                pass
            if not await self._agent_runs():
                return agent_record.read(self._home)

    async def _agent_runs(self) -> bool:
        """Whether an agent runs; one that stopped answering has `_EXIT_SECONDS` to end."""
        end = self._clock.now() + _EXIT_SECONDS
        while agent_lock.is_held(self._home):
            try:
                async with AgentClient(self._home) as agent:
                    await agent.status()
                    return True
            except NoAgent:
                if self._clock.now() > end and agent_record.read(self._home) is not None:
                    return True  # It is stuck, not ended: go on trying.
            except MeshError:
                return True
            await self._clock.pause(_POLL_SECONDS)
        return False
