"""`mcpmesh up`: starts the mesh of a catalog and stays with it in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import JsonOption, NameOption, resolve_invocation

# The first start of many servers from npm takes minutes.
_TIMEOUT_SECONDS = 900


def up(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="mesh.yaml or .mcp.json; again for an overlay."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Exit once all is ready or failed; it runs on.")
    ] = False,
    timeout: Annotated[
        int, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long to wait for services to be ready.")
    ] = _TIMEOUT_SECONDS,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the mesh of a catalog, or attach to it if it runs already.

    Without -f it takes ./mesh.yaml, else ./.mcp.json. Ctrl-C takes the mesh
    down, and so does a closed terminal. With --detach the mesh runs on; exit
    code 4 then says that some services are not ready (the others run).

    \b
      mcpmesh up -f .mcp.json
      mcpmesh up -f mesh.yaml -f staging.yaml --detach
      mcpmesh --name staging up -f mesh.yaml
    """
    from mcpmesh.cli.catalog_files import files_or_default, load_catalog
    from mcpmesh.cli.foreground import bring_up

    invocation = resolve_invocation(ctx, name, as_json)
    sources = files_or_default(files or [])
    catalog = load_catalog(sources)
    for warning in catalog.warnings:
        invocation.output.warning(warning)
    services = frozenset(catalog.services)
    try:
        code = invocation.run(bring_up(invocation, sources, services, detach=detach, seconds=timeout))
    except KeyboardInterrupt:
        raise typer.Exit(exit_codes.INTERRUPTED) from None
    raise typer.Exit(code)
