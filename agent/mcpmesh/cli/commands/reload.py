"""`mcpmesh reload`: reads the catalog again at once."""

from __future__ import annotations

import typer

from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation


def reload(ctx: typer.Context, name: NameOption = None, as_json: JsonOption = False) -> None:
    """Read the catalog again now.

    The agent notices a saved file, or a changed file of a secret, by itself
    within a second or two. This command reads at once and says whether the
    catalog can be used. Exit code 2 when it cannot; the last good catalog
    then stays in force.
    """
    invocation = resolve_invocation(ctx, name, as_json)
    invocation.run(_reload(invocation))
    mesh, status = invocation.name, invocation.command_line("status")
    invocation.output.result({"reloaded": mesh}, f'mesh "{mesh}" has read its catalog again; see: {status}')


async def _reload(invocation: Invocation) -> None:
    async with invocation.agent() as agent:
        await agent.reload()
