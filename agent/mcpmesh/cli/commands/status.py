"""`mcpmesh status`: what the agent last saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Invocation, Json, Name, invocation

if TYPE_CHECKING:
    from mcpmesh.model.mesh_status import MeshStatus


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
    from mcpmesh.cli.render.status_table import all_ready

    this = invocation(ctx, name, as_json)
    if watch:
        from mcpmesh.cli.wait.status_watch import watch as watch_mesh

        try:
            this.run(watch_mesh(this))
        except KeyboardInterrupt:
            raise typer.Exit(exit_codes.OK) from None
    seen = this.run(_look(this))
    show(this, seen)
    raise typer.Exit(exit_codes.OK if all_ready(seen) else exit_codes.NOT_READY)


def show(this: Invocation, seen: MeshStatus) -> None:
    """Prints the board as the result of a command."""
    from mcpmesh.cli.render.status_table import board

    if this.json:
        this.output.value(seen)
        return
    for line in board(seen, this.output.width):
        this.output.line(*line)


async def _look(this: Invocation) -> MeshStatus:
    async with this.agent() as agent:
        return await agent.status()
