"""`mcpmesh ingress render`: prints the document that Kong gets."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mcpmesh.cli.invocation import Invocation, JsonOption, NameOption, resolve_invocation

ingress = typer.Typer(
    no_args_is_help=True, help="The ingress: show the document that Kong gets.", rich_markup_mode=None
)


@ingress.command()
def render(
    ctx: typer.Context,
    secrets: Annotated[bool, typer.Option("--secrets", help="Show keys and secrets instead of ***.")] = False,
    name: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the document that Kong gets while every service is ready.

    It holds the routes of the catalog, the plugins of the settings and your
    own documents, as YAML; as JSON with --json.

    \b
      mcpmesh ingress render
      mcpmesh ingress render --json | jq .services[].name
    """
    invocation = resolve_invocation(ctx, name, as_json)
    document = invocation.run(_fetch_document(invocation, secrets))
    if invocation.json:
        invocation.output.value(document)
        return
    import yaml

    typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), nl=False)


async def _fetch_document(invocation: Invocation, secrets: bool) -> dict[str, Any]:
    async with invocation.agent() as agent:
        return await agent.ingress_document(secrets)
