"""`mcpmesh resume`: ends a pause."""

from __future__ import annotations

import typer

from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation


def resume(ctx: typer.Context, name: NameOption = None, as_json: JsonOption = False) -> None:
    """Heal and apply changes again after `pause`."""
    invocation = resolve_invocation(ctx, name, as_json)
    invocation.run(_resume(invocation))
    mesh, status = invocation.name, invocation.command_line("status")
    invocation.output.result({"resumed": mesh}, f'mesh "{mesh}" heals and applies changes again; see: {status}')


async def _resume(invocation: Invocation) -> None:
    from mcpmesh.cli.wait.mesh_startup import until_managed

    await until_managed(invocation.home, invocation.clock)
    async with invocation.agent() as agent:
        await agent.resume()
