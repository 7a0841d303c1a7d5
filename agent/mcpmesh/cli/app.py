"""The commands, and what becomes of an error that one of them ends with."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mcpmesh import __version__
from mcpmesh.cli import exit_codes
from mcpmesh.cli.commands import agent, down, ingress, logs, pause, plan, scale, status, tools, up, validate, verify
from mcpmesh.cli.invocation import Common, Json, Name, invocation
from mcpmesh.errors import MeshError


class Commands(TyperGroup):
    """Turns errors of ours into a sentence and an exit code; others are bugs and show where they are."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MeshError as error:
            common = ctx.obj if isinstance(ctx.obj, Common) else Common()
            common.output.error(error)
            raise typer.Exit(exit_codes.code_of(error)) from error
        except KeyboardInterrupt:
            raise typer.Exit(exit_codes.INTERRUPTED) from None


_EPILOG = "\b\nExit codes:\n" + "\n".join(f"{code:>5}  {meaning}" for code, meaning in exit_codes.TABLE)

app = typer.Typer(
    name="mcpmesh",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    name: Name = None,
    as_json: Json = False,
    version: Annotated[bool, typer.Option("--version", help="Say the version and leave.")] = False,
) -> None:
    """A service mesh for MCP servers: identity, mTLS, policy and one address.

    Start with a mesh.yaml or with the .mcp.json that you have:

    \b
      mcpmesh up -f .mcp.json
      mcpmesh verify
      mcpmesh call files list_directory --arg path=.
    """
    this = invocation(ctx, name, as_json)
    if version:
        if this.json:
            this.output.value({"version": __version__})
        else:
            typer.echo(f"mcpmesh {__version__}")
        raise typer.Exit(exit_codes.OK)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(exit_codes.INPUT)


for _function in (
    up.up,
    down.down,
    status.status,
    verify.verify,
    tools.tools,
    tools.call,
    logs.logs,
    plan.plan,
    validate.validate,
    validate.import_,
    pause.pause,
    pause.resume,
    pause.reload,
    scale.scale,
    validate.schema,
    agent.agent,
):
    app.command(_function.__name__.rstrip("_"))(_function)

app.add_typer(ingress.ingress, name="ingress")
