"""`mcpmesh import`: turns an .mcp.json into a mesh.yaml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mcpmesh.cli.invocation import JsonOption, NameOption, resolve_invocation
from mcpmesh.errors import CatalogError, Problem

_STDOUT = Path("-")


def import_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .mcp.json or another file with mcpServers.")],
    target: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help='The file to write; "-" for stdout.')
    ] = Path("mesh.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn an .mcp.json into a mesh.yaml.

    The new file gets the mode of the old one, since both may hold secrets.
    `up` also reads an .mcp.json as it is; a mesh.yaml has more settings.

    \b
      mcpmesh import .mcp.json
      mcpmesh import .mcp.json -o - | less
    """
    from mcpmesh.catalog import importer
    from mcpmesh.cli.catalog_files import require_files

    output = resolve_invocation(ctx, name, as_json).output
    require_files([file])
    to_stdout = target == _STDOUT
    # Relative paths in the new file are relative to its own folder.
    result = importer.import_file(file, None if to_stdout else target.absolute().parent)
    if not to_stdout:
        _write(target, result.text, force, file.stat().st_mode & 0o777)
    for warning in result.warnings:
        output.warning(warning)
    if output.json:
        fields = {"text": result.text} if to_stdout else {"written": str(target)}
        output.value({**fields, "warnings": result.warnings})
    elif to_stdout:
        typer.echo(result.text, nl=False)
    else:
        output.line(f"wrote {target}; check it, then: mcpmesh up -f {target}")


def _write(path: Path, text: str, force: bool, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        handle = os.open(path, flags, mode)
    except FileExistsError:
        raise CatalogError(
            [Problem(path, None, "", "it exists already; replace it with --force or name another file with -o")]
        ) from None
    except OSError as error:
        raise CatalogError([Problem(path, None, "", f"cannot write it: {error.strerror}")]) from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
