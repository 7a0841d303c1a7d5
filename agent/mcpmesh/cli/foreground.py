"""`mcpmesh up` from start to end: starts or finds the agent, waits for the services, stays, takes the mesh down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mcpmesh.api.agent_lookup import AgentDied, AgentNeverStarted
from mcpmesh.cli import exit_codes
from mcpmesh.cli.interrupts import Interrupts, discard_output, is_closed_output
from mcpmesh.cli.invocation import Invocation
from mcpmesh.cli.render.agent_crash_report import crash_report
from mcpmesh.cli.render.live_progress import Progress
from mcpmesh.cli.render.status_table import print_status
from mcpmesh.cli.status_checks import all_ready
from mcpmesh.cli.teardown import remaining_processes, take_down
from mcpmesh.cli.wait.blocking_call import run_in_thread
from mcpmesh.cli.wait.event_follower import EventFollower
from mcpmesh.daemon import launch
from mcpmesh.errors import Refused
from mcpmesh.model.mesh_status import MeshStatus


async def bring_up(
    invocation: Invocation, sources: Sequence[Path], services: frozenset[str], *, detach: bool, seconds: float
) -> int:
    """Runs `up` to its end and returns its exit code.

    It waits up to `seconds` until all `services` are ready or failed. A signal takes the mesh down, and so does a
    closed output; with `detach` a signal only ends the waiting.
    """
    progress = Progress(invocation.output)
    mesh = _ForegroundMesh(invocation, progress)
    with Interrupts(mesh.say_what_is_awaited, mesh.say_it_is_unfinished) as interrupts:
        try:
            running = asyncio.create_task(mesh.run(sources, services, detach, seconds), name="up")
            interrupted = asyncio.create_task(interrupts.requested.wait(), name="interrupt")
            await asyncio.wait({running, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            interrupted.cancel()
            if running.done():
                if detach or not is_closed_output(running.exception()):
                    return running.result()
                discard_output()
            if detach and mesh.agent_started:
                running.cancel()
                progress.stop()
                progress.say(f"no longer waiting; the mesh goes on starting: {invocation.command_line('status')}")
                return exit_codes.INTERRUPTED
            return await mesh.take_down(running)
        finally:
            progress.stop()


class _ForegroundMesh:
    def __init__(self, invocation: Invocation, progress: Progress) -> None:
        self._invocation = invocation
        self._progress = progress
        self._launch: asyncio.Task[None] | None = None
        self.agent_started = False

    async def run(self, sources: Sequence[Path], services: frozenset[str], detach: bool, seconds: float) -> int:
        """Starts the mesh or attaches to it, waits until its services are settled, and stays unless detached."""
        invocation, progress = self._invocation, self._progress
        last_event = await self._attach(sources)
        if last_event is None:
            progress.start(f'starting mesh "{invocation.name}"')
            await self._launch_agent(sources)
        else:
            progress.start(f'waiting for mesh "{invocation.name}"')
        self.agent_started = True
        async with EventFollower(invocation.home, progress, last_event or 0, invocation.clock) as follower:
            status = await follower.until_settled(services, seconds)
            progress.stop()
            if status is not None:
                self._show(status, detach)
                if detach:
                    return exit_codes.OK if all_ready(status) else exit_codes.NOT_READY
            dead_agent = await follower.agent_end()
        progress.stop()
        remaining = remaining_processes(invocation.home)
        if dead_agent is None and not remaining:
            progress.say(f'mesh "{invocation.name}" was taken down')
            return exit_codes.OK
        invocation.output.note(("error: ", "bold red"), crash_report(invocation.home, dead_agent, remaining))
        return exit_codes.LOST

    async def take_down(self, running: asyncio.Task[int]) -> int:
        """Takes the mesh down, however far its start has come."""
        invocation, progress = self._invocation, self._progress
        if self._launch is not None and not self._launch.done():
            progress.start("waiting for the agent to start, to take it down")
            await asyncio.wait({self._launch})
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        progress.stop()
        progress.start(f'taking mesh "{invocation.name}" down')
        await take_down(invocation, progress)
        progress.stop()
        if invocation.json:
            invocation.output.item({"down": {"mesh": invocation.name}})
        progress.say(f'mesh "{invocation.name}" is down')
        return exit_codes.OK

    def say_what_is_awaited(self) -> None:
        """The answer to a second Ctrl-C."""
        self._progress.say(f"still waiting: {self._progress.current_step()}; Ctrl-C once more leaves at once")

    def say_it_is_unfinished(self) -> None:
        """The answer to a third Ctrl-C."""
        self._progress.stop()
        self._progress.say(f"left before it was down; to finish: {self._invocation.command_line('down')}")

    async def _launch_agent(self, sources: Sequence[Path]) -> None:
        settings, name = self._invocation.settings, self._invocation.name
        self._launch = asyncio.create_task(run_in_thread(lambda: launch(settings, name, sources)), name="launch")
        # An interrupt cancels this task, but lets the launch finish: `take_down` waits for it.
        await asyncio.shield(self._launch)

    async def _attach(self, sources: Sequence[Path]) -> int | None:
        """The number of the last event if this mesh runs, None if not; raises Refused if it has another catalog."""
        invocation = self._invocation
        try:
            async with invocation.agent() as agent:
                status = await agent.status()
                if tuple(status.sources) != tuple(str(path) for path in sources):
                    raise Refused(
                        f'cannot start mesh "{invocation.name}" from {_join(sources)}: it runs already, from '
                        f"{_join(status.sources)}; take that down first: {invocation.command_line('down')}; "
                        "or start a second mesh: mcpmesh --name OTHER up"
                    )
                events = [event.number async for event in agent.events(0, follow=False)]
                pid = agent.record.pid
        except (AgentNeverStarted, AgentDied):
            return None
        self._progress.say(f'mesh "{invocation.name}" runs already (process {pid}): attached')
        return max(events, default=0)

    def _show(self, status: MeshStatus, detach: bool) -> None:
        invocation = self._invocation
        if invocation.json:
            invocation.output.item({"status": status})
            return
        print_status(invocation.output, status)
        if detach:
            invocation.output.note((f"stop it with: {invocation.command_line('down')}", "dim"))
        else:
            invocation.output.note(("Ctrl-C takes it down", "dim"))


def _join(sources: Sequence[object]) -> str:
    return " + ".join(str(source) for source in sources) or "no file"
