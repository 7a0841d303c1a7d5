"""`mcpmesh scale`: how many instances of a service run."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mcpmesh.cli.invocation import Invocation, Json, Name, invocation

_MOST = 100


def scale(
    ctx: typer.Context,
    services: Annotated[list[str], typer.Argument(metavar="SERVICE=N…", help="files=3, or files=catalog.")],
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Run that many instances of a service, whatever the catalog says.

    It stands until `SERVICE=catalog`, or until the catalog says another
    number than now. Surplus instances finish their calls first.

    \b
      mcpmesh scale files=3
      mcpmesh scale files=catalog
    """
    this = invocation(ctx, name, as_json)
    wanted = dict(map(_number, services))
    this.run(_ask(this, wanted))
    if this.json:
        this.output.value({"scaled": wanted})
        return
    for service, instances in wanted.items():
        how = "as many as the catalog says" if instances is None else str(instances)
        this.output.line(f"{service}: {how}; see: mcpmesh {this.option}status")


async def _ask(this: Invocation, wanted: dict[str, int | None]) -> None:
    from mcpmesh.cli.wait.mesh_startup import until_begun

    await until_begun(this)
    async with this.agent() as agent:
        for service, instances in wanted.items():
            await agent.scale(service, instances)


def _number(word: str) -> tuple[str, int | None]:
    service, _, count = word.rpartition("=")
    if service and count == "catalog":
        return service, None
    if not service or not re.fullmatch(r"[0-9]{1,3}", count) or not 1 <= int(count) <= _MOST:
        raise typer.BadParameter(f"{word}: has to be SERVICE=N with N from 1 to {_MOST}, or SERVICE=catalog")
    return service, int(count)
