"""`mcpmesh validate`: checks catalog files without an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import JsonOption, NameOption, resolve_invocation
from mcpmesh.cli.render.text import count
from mcpmesh.errors import CatalogError


def validate(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="A catalog; further ones are overlays.")],
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check catalog files; no agent is needed.

    Names each mistake with file, line, field and what would be right.
    Exit code 2 when there is one.

    \b
      mcpmesh validate mesh.yaml
      mcpmesh validate mesh.yaml production.yaml
      mcpmesh validate .mcp.json --json
    """
    from mcpmesh.cli.catalog_files import load_catalog, require_files

    output = resolve_invocation(ctx, name, as_json).output
    try:
        require_files(files)
        catalog = load_catalog(files)
    except CatalogError as error:
        if not output.json:
            raise
        from mcpmesh.api.problem_documents import problem_fields

        output.value({"valid": False, "problems": [problem_fields(problem) for problem in error.problems]})
        raise typer.Exit(exit_codes.INPUT) from None
    if output.json:
        services = list(catalog.services)
        output.value({"valid": True, "problems": [], "services": services, "warnings": catalog.warnings})
        return
    for warning in catalog.warnings:
        output.warning(warning)
    names = " + ".join(str(path) for path in files)
    output.line(f"{names}: valid, {count(len(catalog.services), 'service')}")
