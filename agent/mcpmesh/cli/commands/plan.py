"""`mcpmesh plan`: shows what would change, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation
from mcpmesh.cli.render.text import count, wrap

if TYPE_CHECKING:
    from mcpmesh.cli.render.output import Output
    from mcpmesh.model.agent_reports import Step


def plan(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Plan for this catalog instead; again for an overlay."),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 7 when something would change.")] = False,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the agent would do for a catalog; nothing is changed.

    Exit code 0, or with --exit-code 0 for no change and 7 for changes.

    \b
      mcpmesh plan
      mcpmesh plan -f mesh.yaml -f production.yaml
    """
    invocation = resolve_invocation(ctx, name, as_json)
    steps = invocation.run(_fetch_steps(invocation, files or []))
    if invocation.json:
        invocation.output.value({"steps": steps})
    else:
        _print(invocation.output, steps)
    changes = any(not step.waiting for step in steps)
    raise typer.Exit(exit_codes.CHANGES if exit_code and changes else exit_codes.OK)


async def _fetch_steps(invocation: Invocation, files: list[Path]) -> list[Step]:
    from mcpmesh.cli.catalog_files import require_files
    from mcpmesh.cli.wait.mesh_startup import until_managed

    sources = require_files(files)
    await until_managed(invocation.home, invocation.clock)
    async with invocation.agent() as agent:
        return await agent.plan(sources)


def _print(output: Output, steps: list[Step]) -> None:
    for step in steps:
        mark, style = ("… ", "cyan") if step.waiting else ("~ ", "yellow")
        service = "" if not step.service or step.sentence.startswith(step.service) else f"{step.service}: "
        output.line((mark, style), wrap(service + step.sentence, output.width, 2))
    changes = sum(not step.waiting for step in steps)
    if changes:
        output.line((f"{count(changes, 'step')} to do; nothing was done", "bold"))
    elif steps:
        output.line(("nothing to do but to wait", "bold"))
    else:
        output.line(("in sync: nothing to do", "bold green"))
