"""`mcpmesh ingress render`: what Kong is handed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcpmesh.cli.invocation import Json, Name, invocation

if TYPE_CHECKING:
    from mcpmesh.cli.invocation import Invocation

ingress = typer.Typer(no_args_is_help=True, help="The ingress: show what Kong is handed.", rich_markup_mode=None)


@ingress.command()
def render(
    ctx: typer.Context,
    secrets: Annotated[bool, typer.Option("--secrets", help="Show keys and secrets too, instead of ***.")] = False,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Print the document that Kong has while every service serves.

    It holds the routes of the catalog, the plugins of the settings and your
    own documents, as YAML; as JSON with --json.

    \b
      mcpmesh ingress render
      mcpmesh ingress render --json | jq .services[].name
    """
    this = invocation(ctx, name, as_json)
    document = this.run(_document(this, secrets))
    if this.json:
        this.output.value(document)
        return
    import yaml

    typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), nl=False)


async def _document(this: Invocation, secrets: bool) -> dict[str, Any]:
    async with this.agent() as agent:
        return await agent.ingress_document(secrets)
