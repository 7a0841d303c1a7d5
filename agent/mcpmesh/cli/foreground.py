"""The life of a mesh as `up` sees it: launched or found, awaited, watched, taken down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mcpmesh.api import agent_record
from mcpmesh.api.client import AgentClient, Died, NeverStarted
from mcpmesh.cli import exit_codes
from mcpmesh.cli.commands.status import show
from mcpmesh.cli.interrupts import Interrupts, mute, nobody_listens
from mcpmesh.cli.invocation import Invocation
from mcpmesh.cli.render.crash_report import obituary, survivors
from mcpmesh.cli.render.live_progress import Progress
from mcpmesh.cli.render.status_table import all_ready
from mcpmesh.cli.teardown import answering, in_thread, take_down
from mcpmesh.cli.wait.event_follower import Following
from mcpmesh.daemon import launch
from mcpmesh.errors import Refused
from mcpmesh.model.mesh_status import MeshStatus


async def bring_up(
    this: Invocation, sources: Sequence[Path], services: frozenset[str], *, detach: bool, seconds: float
) -> int:
    """Runs `up` to its end and returns its exit code; `services` are those that the board has to show."""
    progress = Progress(this.output)
    mesh = _Mesh(this, progress)
    with Interrupts(mesh.still_waiting, mesh.leave_at_once) as interrupts:
        try:
            work = asyncio.create_task(mesh.live(sources, services, detach, seconds), name="up")
            asked = asyncio.create_task(interrupts.asked.wait(), name="interrupt")
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if work.done():
                if detach or not nobody_listens(work.exception()):
                    return work.result()
                mute()
            if detach and mesh.launched:
                work.cancel()
                progress.settle()
                progress.say(f"left to start by itself; see: mcpmesh {this.option}status")
                return exit_codes.INTERRUPTED
            return await mesh.leave(work)
        finally:
            progress.settle()


class _Mesh:
    def __init__(self, this: Invocation, progress: Progress) -> None:
        self._this = this
        self._progress = progress
        self._launching: asyncio.Task[None] | None = None
        self.launched = False

    async def live(self, sources: Sequence[Path], services: frozenset[str], detach: bool, seconds: float) -> int:
        """Launches or attaches, waits until everything is settled, and stays unless detached."""
        this, progress = self._this, self._progress
        since = await self._attach(sources)
        if since is None:
            progress.moving(f'starting mesh "{this.name}"')
            self._launching = asyncio.create_task(
                in_thread(lambda: launch(this.settings, this.name, sources)), name="launch"
            )
            await asyncio.shield(self._launching)
            since = 0
        else:
            progress.moving(f'waiting for mesh "{this.name}"')
        self.launched = True
        following = Following(this, progress, since)
        async with following:
            status = await following.settled(services, seconds)
            progress.settle()
            if status is not None:
                self._report(status, detach)
                if detach:
                    return exit_codes.OK if all_ready(status) else exit_codes.NOT_READY
            died = await following.ended()
        progress.settle()
        left = survivors(this)
        if died is None and not left:
            progress.say(f'mesh "{this.name}" was taken down')
            return exit_codes.OK
        this.output.note(("error: ", "bold red"), obituary(this, died, left))
        return exit_codes.LOST

    async def leave(self, work: asyncio.Task[int]) -> int:
        """Takes the mesh down, however far it has come."""
        this, progress = self._this, self._progress
        if self._launching is not None and not self._launching.done():
            progress.moving("waiting for the agent to start, to take it down")
            await asyncio.wait({self._launching})
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        progress.settle()
        progress.moving(f'taking mesh "{this.name}" down')
        await take_down(this, progress)
        progress.settle()
        if this.json:
            this.output.item({"down": {"mesh": this.name}})
        progress.say(f'mesh "{this.name}" is down')
        return exit_codes.OK

    def still_waiting(self) -> None:
        """What a second Ctrl-C says."""
        self._progress.say(f"still waiting: {self._progress.waiting_for()}; Ctrl-C once more leaves at once")

    def leave_at_once(self) -> None:
        """What a third Ctrl-C says."""
        self._progress.settle()
        self._progress.say(f"left before it was down; to finish: mcpmesh {self._this.option}down")

    async def _attach(self, sources: Sequence[Path]) -> int | None:
        """The last event's number where this mesh runs already, None where it doesn't; Refused for another catalog."""
        this = self._this
        try:
            await answering(this)
            async with AgentClient(this.home) as agent:
                status = await agent.status()
                if tuple(status.sources) != tuple(str(path) for path in sources):
                    raise Refused(
                        f'cannot start mesh "{this.name}" from {_names(sources)}: it runs already, from '
                        f"{_names(status.sources)}; take that down first: mcpmesh {this.option}down; "
                        "or start a second mesh: mcpmesh --name OTHER up"
                    )
                seen = [event.number async for event in agent.events(0, follow=False)]
        except (NeverStarted, Died):
            return None
        found = agent_record.read(this.home)
        self._progress.say(f'mesh "{this.name}" runs already (process {found.pid if found else "?"}): attached')
        return max(seen, default=0)

    def _report(self, status: MeshStatus, detach: bool) -> None:
        this = self._this
        if this.json:
            this.output.item({"status": status})
            return
        show(this, status)
        if detach:
            this.output.note((f"stop it with: mcpmesh {this.option}down", "dim"))
        else:
            this.output.note(("Ctrl-C takes it down", "dim"))


def _names(sources: Sequence[object]) -> str:
    return " + ".join(str(source) for source in sources) or "no file"
