"""Commands typed while a mesh is starting wait for what they need of it, and say so on stderr.

Where it can't come up, or after a bound, they go on: what they ask then says why not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from mcpmesh.cli.invocation import Invocation
from mcpmesh.cli.render.live_progress import Progress
from mcpmesh.cli.render.output import Output
from mcpmesh.cli.wait.event_follower import Following
from mcpmesh.cli.wait.readiness import Serving, has_begun
from mcpmesh.model.mesh_status import MeshStatus

# From the agent's start: servers may be downloaded then, and whoever waits sees what for.
_SECONDS = 300.0
# An agent of this age has made its first passes; what starts later is waited for as long.
_FRESH_SECONDS = 60.0


async def until_begun(this: Invocation) -> None:
    """Until the agent looks after the mesh."""
    await _until(this, lambda _: lambda status, _: has_begun(status))


async def until_serving(this: Invocation, services: Collection[str] = (), *, every_instance: bool = False) -> None:
    """Until these services (or all) are ready or failed, with the ingress in front of them."""

    def serving(age: float) -> Callable[[MeshStatus, float], bool]:
        until = time.monotonic() + _FRESH_SECONDS - age
        return Serving(services, until, every_instance=every_instance).over

    await _until(this, serving)


async def _until(this: Invocation, needed: Callable[[float], Callable[[MeshStatus, float], bool]]) -> None:
    async with this.agent() as agent:
        age = time.time() - agent.presence.started
        over = needed(age)
        if over(await agent.status(), time.monotonic()):
            return
        since = max([event.number async for event in agent.events(0, follow=False)], default=0)
    # Not with --json: stdout belongs to the command.
    progress = Progress(Output(False))
    progress.moving(f'waiting until mesh "{this.name}" is ready')
    try:
        async with Following(this, progress, since) as following:
            await following.until(over, max(_SECONDS - age, _FRESH_SECONDS))
    finally:
        progress.settle()
