"""`mcpmesh validate`, `import`, `schema`: catalog files, without any agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Json, Name, invocation
from mcpmesh.errors import CatalogError, Problem

if TYPE_CHECKING:
    from mcpmesh.model.service import Catalog


def read(paths: list[Path]) -> Catalog:
    """The catalog of these files; raises CatalogError with every mistake in them."""
    from mcpmesh.catalog.loader import load

    return load(paths, os.environ)


def validate(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="A catalog; further ones are overlays.")],
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Check catalog files without any agent.

    Names each mistake with file, line, field and what would be right.
    Exit code 2 when there is one.

    \b
      mcpmesh validate mesh.yaml
      mcpmesh validate mesh.yaml production.yaml
      mcpmesh validate .mcp.json --json
    """
    from mcpmesh.cli.catalog_files import existing

    this = invocation(ctx, name, as_json)
    try:
        existing(files)
        catalog = read(files)
    except CatalogError as error:
        if not this.json:
            raise
        from mcpmesh.api.problem_documents import problem_fields

        this.output.value({"valid": False, "problems": [problem_fields(problem) for problem in error.problems]})
        raise typer.Exit(exit_codes.INPUT) from None
    if this.json:
        services = list(catalog.services)
        this.output.value({"valid": True, "problems": [], "services": services, "warnings": catalog.warnings})
        return
    for warning in catalog.warnings:
        this.output.note(("warning: ", "yellow"), warning)
    count = len(catalog.services)
    named = " + ".join(str(path) for path in files)
    this.output.line(f"{named}: valid, {count} {'service' if count == 1 else 'services'}")


def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .mcp.json or another file with mcpServers.")],
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help='Where to write; "-" for stdout.')] = Path(
        "mesh.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace the file where there is one.")] = False,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Turn an .mcp.json into a mesh.yaml.

    The new file is as private as the old one: both may hold secrets. `up`
    reads an .mcp.json as it is, too; a mesh.yaml can say more.

    \b
      mcpmesh import .mcp.json
      mcpmesh import .mcp.json -o - | less
    """
    from mcpmesh.catalog.importer import imported
    from mcpmesh.cli.catalog_files import existing

    this = invocation(ctx, name, as_json)
    existing([file])
    # Relative paths of the new file are relative to its own folder.
    made = imported(file, None if str(to) == "-" else to.absolute().parent)
    if str(to) != "-":
        _write(to, made.text, force, file.stat().st_mode & 0o777)
    for warning in made.warnings:
        this.output.note(("warning: ", "yellow"), warning)
    if this.json:
        said = {"text": made.text} if str(to) == "-" else {"written": str(to)}
        this.output.value({**said, "warnings": made.warnings})
    elif str(to) == "-":
        typer.echo(made.text, nl=False)
    else:
        this.output.line(f"wrote {to}; look through it, then: mcpmesh up -f {to}")


def schema(ctx: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """Print the JSON Schema of mesh.yaml, for editors.

    \b
      mcpmesh schema > mesh.schema.json
    """
    from mcpmesh.catalog.schema import json_schema

    invocation(ctx, name, as_json).output.value(json_schema())


def _write(path: Path, text: str, force: bool, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        handle = os.open(path, flags, mode)
    except FileExistsError:
        raise CatalogError(
            [Problem(path, None, "", "it is there already; replace it with --force or name another one with -o")]
        ) from None
    except OSError as error:
        raise CatalogError([Problem(path, None, "", f"cannot write it: {error.strerror}")]) from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
