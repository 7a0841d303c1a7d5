"""`mcpmesh plan`: what would change, with nothing done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Invocation, Json, Name, invocation
from mcpmesh.cli.render.output import wrapped

if TYPE_CHECKING:
    from mcpmesh.model.report_items import Step


def plan(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Plan for this catalog instead; again for an overlay."),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 7 when something would change.")] = False,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Show what the agent would do for a catalog; nothing is done.

    Exit code 0, or with --exit-code 0 for no change and 7 for changes.

    \b
      mcpmesh plan
      mcpmesh plan -f mesh.yaml -f production.yaml
    """
    this = invocation(ctx, name, as_json)
    steps = this.run(_plan(this, files or []))
    if this.json:
        this.output.value({"steps": steps})
    else:
        _show(this, steps)
    changes = any(not step.waiting for step in steps)
    raise typer.Exit(exit_codes.CHANGES if exit_code and changes else exit_codes.OK)


async def _plan(this: Invocation, files: list[Path]) -> list[Step]:
    from mcpmesh.cli.catalog_files import existing
    from mcpmesh.cli.wait.mesh_startup import until_begun

    sources = existing(files)
    await until_begun(this)
    async with this.agent() as agent:
        return await agent.plan(sources)


def _show(this: Invocation, steps: list[Step]) -> None:
    width = this.output.width
    for step in steps:
        mark, style = ("… ", "cyan") if step.waiting else ("~ ", "yellow")
        subject = "" if not step.service or step.sentence.startswith(step.service) else f"{step.service}: "
        this.output.line((mark, style), wrapped(subject + step.sentence, width, 2))
    changes = sum(not step.waiting for step in steps)
    if changes:
        this.output.line((f"{changes} {'step' if changes == 1 else 'steps'} to do; nothing was done", "bold"))
    elif steps:
        this.output.line(("nothing to do but to wait", "bold"))
    else:
        this.output.line(("in sync: nothing to do", "bold green"))
