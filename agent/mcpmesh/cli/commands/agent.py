"""`mcpmesh agent`: the agent itself, for those who supervise it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcpmesh.cli.invocation import Json, Name, invocation


def agent(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="The catalog; again for an overlay."),
    ] = None,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Run the agent in the foreground, for systemd and containers.

    It logs to stderr. SIGTERM ends the agent alone: services go on and the
    next agent adopts them. `mcpmesh down` takes everything down. A catalog
    with a mistake is told by `mcpmesh status`; it begins once that is mended.

    \b
      mcpmesh agent -f /etc/mcpmesh/mesh.yaml
    """
    from mcpmesh.cli.catalog_files import awaited
    from mcpmesh.daemon import run

    this = invocation(ctx, name, as_json)
    raise typer.Exit(run(this.settings, this.name, awaited(files or [])))
