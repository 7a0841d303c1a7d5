"""`mcpmesh scale`: sets the number of instances of a service."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation

_MAX_INSTANCES = 100


def scale(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="SERVICE=N…", help="files=3, or files=catalog.")],
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run N instances of a service, in place of the catalog's number.

    It applies until `SERVICE=catalog`, or until the catalog's number changes.
    Surplus instances finish their calls first.

    \b
      mcpmesh scale files=3
      mcpmesh scale files=catalog
    """
    invocation = resolve_invocation(ctx, name, as_json)
    numbers = dict(map(_parse, words))
    invocation.run(_scale(invocation, numbers))
    if invocation.json:
        invocation.output.value({"scaled": numbers})
        return
    for service, instances in numbers.items():
        number = "as many as the catalog says" if instances is None else str(instances)
        invocation.output.line(f"{service}: {number}; see: {invocation.command_line('status')}")


async def _scale(invocation: Invocation, numbers: dict[str, int | None]) -> None:
    from mcpmesh.cli.wait.mesh_startup import until_managed

    await until_managed(invocation.home, invocation.clock)
    async with invocation.agent() as agent:
        for service, instances in numbers.items():
            await agent.scale(service, instances)


def _parse(word: str) -> tuple[str, int | None]:
    """The service and its number, None for the catalog's; raises BadParameter."""
    service, _, number = word.rpartition("=")
    if service and number == "catalog":
        return service, None
    if not service or not re.fullmatch(r"[0-9]{1,3}", number) or not 1 <= int(number) <= _MAX_INSTANCES:
        raise typer.BadParameter(f"{word}: must be SERVICE=N with N from 1 to {_MAX_INSTANCES}, or SERVICE=catalog")
    return service, int(number)
