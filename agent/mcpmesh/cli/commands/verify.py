"""`mcpmesh verify`: checks each claim about the mesh on the running system."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation
from mcpmesh.cli.render.text import count, wrap
from mcpmesh.cli.shell_completion import complete_service

if TYPE_CHECKING:
    from mcpmesh.cli.render.output import Output
    from mcpmesh.model.agent_reports import Claim


def verify(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="SERVICE", help="Only these services.", autocompletion=complete_service),
    ] = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove every claim against the running system.

    Shows for each claim what was done and what was found: ports, checks,
    identities, mTLS, denied callers, routes and real calls. A claim that
    failed comes with its next step. Exit code 1 when one failed. Waits while
    the mesh is starting.

    \b
      mcpmesh verify
      mcpmesh verify files memory
      mcpmesh verify --json | jq 'select(.ok == false)'
    """
    invocation = resolve_invocation(ctx, name, as_json)
    failed = invocation.run(_verify(invocation, services or []))
    raise typer.Exit(exit_codes.FAILED if failed else exit_codes.OK)


async def _verify(invocation: Invocation, services: list[str]) -> int:
    """Shows claims as they are checked; returns how many failed."""
    from mcpmesh.cli.wait.mesh_startup import until_serving

    output = invocation.output
    await until_serving(invocation.home, invocation.clock, services, every_instance=True)
    number = failed = 0
    async with invocation.agent() as agent, aclosing(agent.verify(services)) as claims:
        async for claim in claims:
            number += 1
            failed += not claim.ok
            if output.json:
                output.item(claim)
            else:
                _print(output, claim)
    if output.json:
        output.item({"summary": {"claims": number, "failed": failed}})
    else:
        output.line((f"{count(number, 'claim')}, {failed} failed", "bold red" if failed else "bold green"))
    return failed


def _print(output: Output, claim: Claim) -> None:
    service = f"{claim.service}: " if claim.service else ""
    mark, style = ("✓ ", "green") if claim.ok else ("✗ ", "bold red")
    output.line((mark, style), wrap(service + claim.claim, output.width, 2))
    if claim.evidence:
        output.line(("  " + wrap(claim.evidence, output.width, 2), "dim"))
    if not claim.ok and claim.next_step:
        output.line("  ", ("next: ", "bold"), wrap(claim.next_step, output.width, 8))
