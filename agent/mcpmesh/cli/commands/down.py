"""`mcpmesh down`: everything of a mesh stopped, in order."""

from __future__ import annotations

import typer

from mcpmesh.cli import exit_codes
from mcpmesh.cli.invocation import Json, Name, invocation


def down(ctx: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """Drain and stop everything of the mesh, the agent last.

    Calls under way may end first. What an agent that died has left is found
    by its mark and stopped too. When nothing runs, that is fine (exit 0).

    \b
      mcpmesh down
      mcpmesh --name staging down
    """
    from mcpmesh.cli.render.live_progress import Progress
    from mcpmesh.cli.teardown import take_down

    this = invocation(ctx, name, as_json)
    progress = Progress(this.output)
    progress.moving(f'taking mesh "{this.name}" down')
    try:
        leave = this.run(take_down(this, progress))
    except KeyboardInterrupt:
        progress.settle()
        this.output.note(f"left; a living agent goes on with it. To see it to its end: mcpmesh {this.option}down")
        raise typer.Exit(exit_codes.INTERRUPTED) from None
    finally:
        progress.settle()
    if this.json:
        this.output.item({"down": {"mesh": this.name, "by_agent": leave.by_agent, "stopped": leave.stopped}})
    elif leave.by_agent:
        this.output.line(f'mesh "{this.name}" is down')
    elif leave.stopped:
        noun = "process" if leave.stopped == 1 else "processes"
        this.output.line(f'mesh "{this.name}" is down: its agent was gone, {leave.stopped} {noun} stopped')
    else:
        this.output.line(f'mesh "{this.name}" was not running: nothing to stop')
