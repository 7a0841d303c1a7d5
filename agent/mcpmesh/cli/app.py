"""The list of commands, and the exit code of a command that ends with an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mcpmesh import __version__
from mcpmesh.cli import exit_codes
from mcpmesh.cli.commands import (
    agent,
    call,
    down,
    import_file,
    ingress,
    logs,
    pause,
    plan,
    reload,
    resume,
    scale,
    schema,
    status,
    tools,
    up,
    validate,
    verify,
)
from mcpmesh.cli.invocation import Common, JsonOption, NameOption, resolve_invocation
from mcpmesh.errors import MeshError


class Commands(TyperGroup):
    """Turns a MeshError into a message and an exit code. Any other exception is a bug and keeps its traceback."""

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
    name: NameOption = None,
    as_json: JsonOption = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A service mesh for MCP servers: identity, mTLS, policy and one address.

    Start with a mesh.yaml or with the .mcp.json that you have:

    \b
      mcpmesh up -f .mcp.json
      mcpmesh verify
      mcpmesh call files list_directory --arg path=.
    """
    invocation = resolve_invocation(ctx, name, as_json)
    if version:
        invocation.output.result({"version": __version__}, f"mcpmesh {__version__}")
        raise typer.Exit(exit_codes.OK)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(exit_codes.INPUT)


# In the order of `mcpmesh --help`.
_COMMANDS: dict[str, Callable[..., None]] = {
    "up": up.up,
    "down": down.down,
    "status": status.status,
    "verify": verify.verify,
    "tools": tools.tools,
    "call": call.call,
    "logs": logs.logs,
    "plan": plan.plan,
    "validate": validate.validate,
    "import": import_file.import_file,
    "pause": pause.pause,
    "resume": resume.resume,
    "reload": reload.reload,
    "scale": scale.scale,
    "schema": schema.schema,
    "agent": agent.agent,
}

for _name, _function in _COMMANDS.items():
    app.command(_name)(_function)

app.add_typer(ingress.ingress, name="ingress")
