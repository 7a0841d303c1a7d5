"""`mcpmesh status`: shows the state of the mesh as the agent last observed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation

if TYPE_CHECKING:
    from mcpmesh.model.mesh_status import MeshStatus


def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show changes as they happen, until Ctrl-C.")] = False,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show services, instances, health, tools and addresses.

    Exit code 0 when everything is ready, 4 otherwise.

    \b
      mcpmesh status
      mcpmesh status --watch
      mcpmesh status --json | jq -r '.services[].address'
    """
    from mcpmesh.cli.render.status_table import print_status
    from mcpmesh.cli.status_checks import all_ready

    invocation = resolve_invocation(ctx, name, as_json)
    if watch:
        from mcpmesh.cli.wait.status_watch import watch_status

        try:
            invocation.run(watch_status(invocation.home, invocation.clock, invocation.output))
        except KeyboardInterrupt:
            raise typer.Exit(exit_codes.OK) from None
    current = invocation.run(_fetch_status(invocation))
    print_status(invocation.output, current)
    raise typer.Exit(exit_codes.OK if all_ready(current) else exit_codes.NOT_READY)


async def _fetch_status(invocation: Invocation) -> MeshStatus:
    async with invocation.agent() as agent:
        return await agent.status()
