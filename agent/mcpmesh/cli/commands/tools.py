"""`mcpmesh tools`: lists the tools of the services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation
from mcpmesh.cli.render.text import count, strip_control_sequences
from mcpmesh.cli.shell_completion import complete_service

if TYPE_CHECKING:
    from mcpmesh.cli.render.output import Output
    from mcpmesh.model.agent_reports import Tool

# A longer name shifts the description of its own line only.
_MAX_NAME_WIDTH = 32


def tools(
    ctx: typer.Context,
    service: Annotated[
        str | None, typer.Argument(metavar="SERVICE", help="Only this service.", autocompletion=complete_service)
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Add the JSON Schema of each tool's arguments.")] = False,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tools of all ready services, asked for through the mesh.

    \b
      mcpmesh tools
      mcpmesh tools files --schema
      mcpmesh tools --json | jq -r '.tools[].name'
    """
    invocation = resolve_invocation(ctx, name, as_json)
    offered = invocation.run(_fetch_tools(invocation, service))
    if invocation.json:
        invocation.output.value({"tools": offered})
        return
    for owner in dict.fromkeys(tool.service for tool in offered):
        _print_service(invocation.output, owner, [tool for tool in offered if tool.service == owner], schema)
    if not offered:
        invocation.output.note("no tools: see which services are ready with: mcpmesh status")


async def _fetch_tools(invocation: Invocation, service: str | None) -> list[Tool]:
    from mcpmesh.cli.wait.mesh_startup import until_serving

    await until_serving(invocation.home, invocation.clock, [service] if service else ())
    async with invocation.agent() as agent:
        return await agent.tools(service)


def _print_service(output: Output, service: str, offered: list[Tool], with_schema: bool) -> None:
    output.line((service, "bold"), f" ({count(len(offered), 'tool')})")
    column = min(max(len(tool.name) for tool in offered), _MAX_NAME_WIDTH)
    for tool in offered:
        used = 4 + max(column, len(tool.name))
        description = strip_control_sequences(tool.description).strip().partition("\n")[0]
        if output.width is not None and used + len(description) > output.width:
            description = description[: max(output.width - used - 1, 0)].rstrip() + "…"
        output.line(f"  {tool.name:<{column}}  ", (description, "dim"))
        if with_schema:
            text = json.dumps(tool.input_schema, indent=2, ensure_ascii=False)
            output.line("    " + text.replace("\n", "\n    "))
