"""`mcpmesh call`: calls a tool through the mesh."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

import typer

from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation
from mcpmesh.cli.shell_completion import complete_service, complete_tool
from mcpmesh.cli.tool_arguments import parse_object, parse_pairs


def call(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service.", autocompletion=complete_service)],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool.", autocompletion=complete_tool)],
    arguments: Annotated[
        str | None, typer.Argument(metavar="JSON", help='The arguments as a JSON object; "-" reads it from stdin.')
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--arg", "-a", metavar="KEY=VALUE", help="One argument, of the type in the tool's schema."),
    ] = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call a tool through the mesh, as a client at the ingress would.

    The result goes to stdout, progress and log messages to stderr. Exit code
    1 when the tool reports an error. With --json, every JSON-RPC message is
    one line, the response last.

    \b
      mcpmesh call files read_text_file '{"path": "notes.md"}'
      mcpmesh call files read_text_file --arg path=notes.md --arg head=5
      jq -n '{path: "notes.md"}' | mcpmesh call files read_text_file -
    """
    invocation = resolve_invocation(ctx, name, as_json)
    raise typer.Exit(invocation.run(_call(invocation, service, tool, parse_object(arguments), pairs or [])))


async def _call(invocation: Invocation, service: str, tool: str, arguments: dict[str, Any], pairs: list[str]) -> int:
    from mcpmesh.cli.render.tool_result import ToolResult
    from mcpmesh.cli.wait.mesh_startup import until_serving

    await until_serving(invocation.home, invocation.clock, [service])
    result = ToolResult(invocation.output)
    async with invocation.agent() as agent:
        if pairs:
            schemas = {offered.name: offered.input_schema for offered in await agent.tools(service)}
            arguments = {**arguments, **parse_pairs(pairs, schemas.get(tool, {}))}
        async with aclosing(agent.call(service, tool, arguments)) as messages:
            async for message in messages:
                result.take(message)
    return result.finish(service, tool)
