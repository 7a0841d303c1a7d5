"""`mcpmesh status`: what the agent last saw."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exits
from mcpmesh.cli.invocation import Invocation, Json, Name, invocation

if TYPE_CHECKING:
    from mcpmesh.model.status import MeshStatus

# Changes show at once: the agent's events wake the picture. This is for what makes no event.
_LOOK_SECONDS = 2.0


def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show changes as they happen, until Ctrl-C.")] = False,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Show services, instances, health, tools and addresses.

    Exit code 0 when everything is ready, 4 otherwise.

    \b
      mcpmesh status
      mcpmesh status --watch
      mcpmesh status --json | jq -r '.services[].address'
    """
    from mcpmesh.cli.board import all_ready

    this = invocation(ctx, name, as_json)
    if watch:
        try:
            this.run(_watch(this))
        except KeyboardInterrupt:
            raise typer.Exit(exits.OK) from None
    seen = this.run(_look(this))
    show(this, seen)
    raise typer.Exit(exits.OK if all_ready(seen) else exits.NOT_READY)


def show(this: Invocation, seen: MeshStatus) -> None:
    """Prints the board as the result of a command."""
    from mcpmesh.cli.board import board

    if this.json:
        this.output.value(seen)
        return
    for line in board(seen, this.output.width):
        this.output.line(*line)


async def _look(this: Invocation) -> MeshStatus:
    async with this.agent() as agent:
        return await agent.status()


async def _watch(this: Invocation) -> None:
    """Prints each new picture; on a terminal, in the place of the old one. Ends by an error or Ctrl-C."""
    from mcpmesh.cli.picture import Picture

    async with this.agent() as agent:
        changed = asyncio.Event()

        async def listen() -> None:
            async for _ in agent.events(0, follow=True):
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
