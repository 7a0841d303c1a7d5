"""`mcpmesh agent`: runs the agent itself, under systemd or in a container."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcpmesh.cli.invocation import JsonOption, NameOption, resolve_invocation


def agent(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="The catalog; again for an overlay."),
    ] = None,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the agent in the foreground, for systemd and containers.

    It logs to stderr. SIGTERM ends only the agent: services go on, and the
    next agent adopts them. `mcpmesh down` stops everything. If the catalog
    has a mistake at the start, `mcpmesh status` shows it, and the agent
    changes nothing until the file is corrected.

    \b
      mcpmesh agent -f /etc/mcpmesh/mesh.yaml
    """
    from mcpmesh.cli.catalog_files import files_that_may_appear
    from mcpmesh.daemon import run

    invocation = resolve_invocation(ctx, name, as_json)
    raise typer.Exit(run(invocation.settings, invocation.name, files_that_may_appear(files or [])))
