"""`mcpmesh down`: stops everything of a mesh, in order."""

from __future__ import annotations

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import JsonOption, NameOption, resolve_invocation
from mcpmesh.cli.render.text import count


def down(ctx: typer.Context, name: NameOption = None, as_json: JsonOption = False) -> None:
    """Drain and stop everything of the mesh, the agent last.

    Running calls may end first. Processes that a dead agent left behind are
    stopped too. Nothing to stop is no error (exit code 0).

    \b
      mcpmesh down
      mcpmesh --name staging down
    """
    from mcpmesh.cli.render.live_progress import Progress
    from mcpmesh.cli.teardown import take_down

    invocation = resolve_invocation(ctx, name, as_json)
    mesh, output = invocation.name, invocation.output
    progress = Progress(output)
    progress.start(f'taking mesh "{mesh}" down')
    try:
        result = invocation.run(take_down(invocation, progress))
    except KeyboardInterrupt:
        progress.stop()
        output.note(f"left before it was down; a running agent goes on. To finish: {invocation.command_line('down')}")
        raise typer.Exit(exit_codes.INTERRUPTED) from None
    finally:
        progress.stop()
    if output.json:
        output.item({"down": {"mesh": mesh, "by_agent": result.by_agent, "stopped": result.stopped}})
    elif result.by_agent:
        output.line(f'mesh "{mesh}" is down')
    elif result.stopped:
        output.line(f'mesh "{mesh}" is down: it had no agent any more, {count(result.stopped, "process")} stopped')
    else:
        output.line(f'mesh "{mesh}" was not running: nothing to stop')
