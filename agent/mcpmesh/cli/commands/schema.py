"""`mcpmesh schema`: prints the JSON Schema of mesh.yaml."""

from __future__ import annotations

import typer

from mcpmesh.cli.invocation import JsonOption, NameOption, resolve_invocation


def schema(ctx: typer.Context, name: NameOption = None, as_json: JsonOption = False) -> None:
    """Print the JSON Schema of mesh.yaml, for editors.

    \b
      mcpmesh schema > mesh.schema.json
    """
    from mcpmesh.catalog.schema import json_schema

    resolve_invocation(ctx, name, as_json).output.value(json_schema())
