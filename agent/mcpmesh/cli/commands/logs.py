"""`mcpmesh logs`: what a service's programs wrote."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli import shell_completion as completion
from mcpmesh.cli.invocation import Invocation, Json, Name, invocation


def logs(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service.", autocompletion=completion.services)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines, until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=1_000_000, help="How many of the last lines.")
    ] = 100,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Show the log of a service and all its instances.

    \b
      mcpmesh logs files
      mcpmesh logs files -f -n 0
    """
    this = invocation(ctx, name, as_json)
    try:
        this.run(_logs(this, service, lines, follow))
    except KeyboardInterrupt:
        raise typer.Exit(exit_codes.OK if follow else exit_codes.INTERRUPTED) from None


async def _logs(this: Invocation, service: str, lines: int, follow: bool) -> None:
    async with this.agent() as agent, aclosing(agent.logs(service, lines, follow)) as written:
        async for line in written:
            if this.json:
                this.output.item({"line": line})
            else:
                this.output.line(line)
