"""Commands given while a mesh is starting wait for what they need of it, and say so on stderr.

When the mesh cannot start, or after a bound, the command goes on: its own request then says what is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from mcpmesh.cli.clock import Clock
from mcpmesh.cli.render.live_progress import Progress
from mcpmesh.cli.render.output import Output
from mcpmesh.cli.wait.agent_startup import connect
from mcpmesh.cli.wait.event_follower import EventFollower
from mcpmesh.cli.wait.readiness import ServingCondition, is_managed
from mcpmesh.model.mesh_status import MeshStatus

# From the agent's start: packages of servers may be downloaded meanwhile, and the person sees what is waited for.
_TIMEOUT_SECONDS = 300.0
# An agent of this age has done its first reconcile passes. A service that starts later gets this long, too.
_YOUNG_SECONDS = 60.0

Condition = Callable[[MeshStatus, float], bool]


async def until_managed(home: Path, clock: Clock) -> None:
    """Waits until the agent has begun to manage the mesh."""
    await _until(home, clock, lambda _: lambda status, _: is_managed(status))


async def until_serving(
    home: Path, clock: Clock, services: Collection[str] = (), *, every_instance: bool = False
) -> None:
    """Waits until these services (or all) serve calls through the ingress, or have failed."""

    def condition(agent_age: float) -> Condition:
        deadline = clock.now() + _YOUNG_SECONDS - agent_age
        return ServingCondition(services, deadline, every_instance=every_instance).holds

    await _until(home, clock, condition)


async def _until(home: Path, clock: Clock, condition_for_age: Callable[[float], Condition]) -> None:
    async with connect(home, clock) as agent:
        agent_age = time.time() - agent.record.started
        condition = condition_for_age(agent_age)
        if condition(await agent.status(), clock.now()):
            return
        since = max([event.number async for event in agent.events(0, follow=False)], default=0)
    # Not with --json: stdout is for the command's own result.
    progress = Progress(Output(False))
    progress.start(f'waiting until mesh "{home.name}" is ready')
    try:
        async with EventFollower(home, progress, since, clock) as follower:
            await follower.until(condition, max(_TIMEOUT_SECONDS - agent_age, _YOUNG_SECONDS))
    finally:
        progress.stop()
