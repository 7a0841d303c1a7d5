"""`mcpmesh tools` and `call`: what the servers offer, and using it through the mesh."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcpmesh.cli import shell_completion as completion
from mcpmesh.cli.invocation import Invocation, Json, Name, invocation
from mcpmesh.cli.render.output import harmless

if TYPE_CHECKING:
    from mcpmesh.model.report_items import Tool


def tools(
    ctx: typer.Context,
    service: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE", help="Only this service.", autocompletion=completion.services),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="With the JSON Schema of each tool's arguments.")] = False,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """List the tools of all ready services, asked through the mesh.

    \b
      mcpmesh tools
      mcpmesh tools files --schema
      mcpmesh tools --json | jq -r '.tools[].name'
    """
    this = invocation(ctx, name, as_json)
    found = this.run(_tools(this, service))
    if this.json:
        this.output.value({"tools": found})
        return
    for owner in dict.fromkeys(tool.service for tool in found):
        _show_service(this, owner, [tool for tool in found if tool.service == owner], schema)
    if not found:
        this.output.note("no tools: see what is ready with: mcpmesh status")


def call(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service.", autocompletion=completion.services)],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="Its tool.", autocompletion=completion.tools)],
    arguments: Annotated[
        str | None, typer.Argument(metavar="JSON", help='The arguments, a JSON object; "-" reads it from stdin.')
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Option("--arg", "-a", metavar="KEY=VALUE", help="One argument; the tool's schema says its type."),
    ] = None,
    name: Name = None,
    as_json: Json = False,
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
    this = invocation(ctx, name, as_json)
    given = _object(arguments)
    raise typer.Exit(this.run(_call(this, service, tool, given, args or [])))


async def _tools(this: Invocation, service: str | None) -> list[Tool]:
    from mcpmesh.cli.wait.mesh_startup import until_serving

    await until_serving(this, [service] if service else ())
    async with this.agent() as agent:
        return await agent.tools(service)


def _show_service(this: Invocation, owner: str, found: list[Tool], schema: bool) -> None:
    count = f"{len(found)} {'tool' if len(found) == 1 else 'tools'}"
    this.output.line((owner, "bold"), f" ({count})")
    column = min(max(len(tool.name) for tool in found), 32)
    width = this.output.width
    for tool in found:
        first = harmless(tool.description).strip().partition("\n")[0]
        if width is not None and 4 + max(column, len(tool.name)) + len(first) > width:
            first = first[: max(width - 5 - max(column, len(tool.name)), 0)].rstrip() + "…"
        this.output.line(f"  {tool.name:<{column}}  ", (first, "dim"))
        if schema:
            text = json.dumps(tool.input_schema, indent=2, ensure_ascii=False)
            this.output.line("    " + text.replace("\n", "\n    "))


async def _call(this: Invocation, service: str, tool: str, given: dict[str, Any], args: list[str]) -> int:
    from mcpmesh.cli.render.tool_result import Answer
    from mcpmesh.cli.tool_arguments import typed
    from mcpmesh.cli.wait.mesh_startup import until_serving

    await until_serving(this, [service])
    answer = Answer(this.output)
    async with this.agent() as agent:
        if args:
            described = {found.name: found for found in await agent.tools(service)}
            known = described[tool].input_schema if tool in described else {}
            given = {**given, **typed(args, known)}
        async with aclosing(agent.call(service, tool, given)) as messages:
            async for message in messages:
                answer.take(message)
    return answer.code(service, tool)


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise typer.BadParameter(f"the arguments are no JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter('the arguments must be a JSON object, like {"path": "notes.md"}')
    return value
