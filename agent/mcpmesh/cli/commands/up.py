"""`mcpmesh up`: a mesh from its catalog, watched until it stands, and as long as it is in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Json, Name, invocation

# Starting many servers from npm for the first time takes minutes.
_TIMEOUT_SECONDS = 900


def up(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="mesh.yaml or .mcp.json; again for an overlay."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running when everything is ready.")] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long to wait for services to be ready.")
    ] = _TIMEOUT_SECONDS,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Start the mesh of a catalog, or attach to it where it runs.

    Without -f, ./mesh.yaml is taken, else ./.mcp.json. Ctrl-C takes the mesh
    down, and so does a closed terminal. With --detach it stays; exit code 4
    then says that some services are not ready (the others run).

    \b
      mcpmesh up -f .mcp.json
      mcpmesh up -f mesh.yaml -f staging.yaml --detach
      mcpmesh --name staging up -f mesh.yaml
    """
    from mcpmesh.cli.catalog_files import chosen
    from mcpmesh.cli.commands.validate import read
    from mcpmesh.cli.foreground import bring_up

    this = invocation(ctx, name, as_json)
    sources = chosen(files or [])
    catalog = read(sources)
    for warning in catalog.warnings:
        this.output.note(("warning: ", "yellow"), warning)
    try:
        code = this.run(bring_up(this, sources, frozenset(catalog.services), detach=detach, seconds=timeout))
    except KeyboardInterrupt:
        raise typer.Exit(exit_codes.INTERRUPTED) from None
    raise typer.Exit(code)
