"""Takes a mesh down: through its agent, else by stopping the processes that carry its mark."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpmesh.cli.invocation import Invocation

if TYPE_CHECKING:
    from pathlib import Path

    from mcpmesh.cli.render.live_progress import Progress
    from mcpmesh.kit.marked_process import Process


@dataclass(frozen=True)
class TeardownResult:
    """How a mesh was taken down: by its agent or not, and how many processes without an agent were stopped."""

    by_agent: bool
    stopped: int


async def take_down(invocation: Invocation, progress: Progress) -> TeardownResult:
    """Takes the mesh down and returns when nothing of it is left; raises MeshError when that fails.

    It works with an agent that runs, that has died, or that dies meanwhile.
    """
    from mcpmesh.api import agent_record
    from mcpmesh.api.agent_lookup import AgentDied, AgentNeverStarted
    from mcpmesh.cli.wait.agent_startup import until_agent_ended

    home = invocation.home
    by_agent = False
    try:
        async with invocation.agent() as agent:
            by_agent = True
            async with aclosing(agent.down()) as events:
                async for event in events:
                    progress.show_event(event)
    except (AgentDied, AgentNeverStarted):
        by_agent = False
    await until_agent_ended(home, invocation.clock)
    if not remaining_processes(home):
        agent_record.remove(home)
        return TeardownResult(by_agent, 0)
    # Left by an agent that died, or unknown to the agent that ran.
    from mcpmesh.cli.wait.blocking_call import run_in_thread
    from mcpmesh.daemon import sweep

    stopped = await run_in_thread(lambda: sweep(invocation.settings, invocation.name, progress.say))
    return TeardownResult(by_agent, stopped)


def remaining_processes(home: Path) -> list[Process]:
    """The processes of the mesh at `home` that still run, without its agent."""
    from mcpmesh.kit.marked_process import find_marked
    from mcpmesh.model.reserved_names import AGENT

    return [process for process in find_marked(home) if process.mark.role != AGENT]
