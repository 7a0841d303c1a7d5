"""`mcpmesh logs`: prints the logs of a service."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation
from mcpmesh.cli.shell_completion import complete_service


def logs(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service.", autocompletion=complete_service)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines, until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=1_000_000, help="How many of the last lines to show.")
    ] = 100,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the log of a service and all its instances.

    \b
      mcpmesh logs files
      mcpmesh logs files -f -n 0
    """
    invocation = resolve_invocation(ctx, name, as_json)
    try:
        invocation.run(_print_lines(invocation, service, lines, follow))
    except KeyboardInterrupt:
        raise typer.Exit(exit_codes.OK if follow else exit_codes.INTERRUPTED) from None


async def _print_lines(invocation: Invocation, service: str, lines: int, follow: bool) -> None:
    output = invocation.output
    async with invocation.agent() as agent, aclosing(agent.logs(service, lines, follow)) as log_lines:
        async for line in log_lines:
            if output.json:
                output.item({"line": line})
            else:
                output.line(line)
