"""`mcpmesh verify`: each claim about the mesh, tried on the running system."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli import shell_completion as completion
from mcpmesh.cli.invocation import Invocation, Json, Name, invocation
from mcpmesh.cli.render.output import wrapped

if TYPE_CHECKING:
    from mcpmesh.model.report_items import Claim


def verify(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="SERVICE", help="Only these services.", autocompletion=completion.services),
    ] = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Prove every claim against the running system.

    Says what was done and seen: ports, checks, identities, mTLS, denied callers, routes and real calls;
    each failed claim comes with its next step. Exit code 1 when one failed.
    Waits while the mesh is starting.

    \b
      mcpmesh verify
      mcpmesh verify files memory
      mcpmesh verify --json | jq 'select(.ok == false)'
    """
    this = invocation(ctx, name, as_json)
    failed = this.run(_verify(this, services or []))
    raise typer.Exit(exit_codes.FAILED if failed else exit_codes.OK)


async def _verify(this: Invocation, services: list[str]) -> int:
    """Shows claims as they come; returns how many failed."""
    from mcpmesh.cli.wait.mesh_startup import until_serving

    await until_serving(this, services, every_instance=True)
    claims = failed = 0
    async with this.agent() as agent, aclosing(agent.verify(services)) as tried:
        async for claim in tried:
            claims += 1
            failed += not claim.ok
            if this.json:
                this.output.item(claim)
            else:
                _show(this, claim)
    if this.json:
        this.output.item({"summary": {"claims": claims, "failed": failed}})
    else:
        noun = "claim" if claims == 1 else "claims"
        this.output.line((f"{claims} {noun}, {failed} failed", "bold red" if failed else "bold green"))
    return failed


def _show(this: Invocation, claim: Claim) -> None:
    subject = f"{claim.service}: " if claim.service else ""
    mark, style = ("✓ ", "green") if claim.ok else ("✗ ", "bold red")
    width = this.output.width
    this.output.line((mark, style), wrapped(subject + claim.claim, width, 2))
    if claim.evidence:
        this.output.line(("  " + wrapped(claim.evidence, width, 2), "dim"))
    if not claim.ok and claim.next_step:
        this.output.line("  ", ("next: ", "bold"), wrapped(claim.next_step, width, 8))
