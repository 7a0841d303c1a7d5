"""`mcpmesh pause`: stops healing and changing the mesh for a while."""

from __future__ import annotations

import typer

from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation


def pause(ctx: typer.Context, name: NameOption = None, as_json: JsonOption = False) -> None:
    """Leave the mesh as it is until `resume`.

    Nothing is healed or changed. Calls go on; what dies stays dead. Use it
    to examine a fault without the agent repairing it meanwhile.
    """
    invocation = resolve_invocation(ctx, name, as_json)
    invocation.run(_pause(invocation))
    mesh, resume = invocation.name, invocation.command_line("resume")
    invocation.output.result({"paused": mesh}, f'mesh "{mesh}" is paused: nothing is healed or changed until: {resume}')


async def _pause(invocation: Invocation) -> None:
    from mcpmesh.cli.wait.mesh_startup import until_managed

    await until_managed(invocation.home, invocation.clock)
    async with invocation.agent() as agent:
        await agent.pause()
