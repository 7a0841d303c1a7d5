"""The composition root: the only package that knows every class.

`launch` starts an agent in the background, `run` is one in the foreground,
`sweep` takes down what a dead agent left running.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.daemon.launcher import launch
from mcpmesh.settings import Settings

__all__ = ["launch", "run", "sweep"]

# The lock of the mesh, held until the process ends.
_UNTIL_EXIT = ExitStack()

# The agent's own imports take a second, so they are made where an agent runs only.


def run(settings: Settings, name: str, sources: Sequence[Path]) -> int:
    """See `mcpmesh.daemon.agent_process.run`; raises Refused where another agent of that mesh runs.

    This process holds the mesh's lock from now until its end. Commands that come meanwhile see that an agent is
    starting, and commands that wait for the lock wait for its end.
    """
    home = settings.home(name)
    _UNTIL_EXIT.enter_context(agent_lock.hold(home))
    agent_record.remove(home)
    from mcpmesh.daemon.agent_process import run as run_agent

    return run_agent(settings, name, sources)


def sweep(settings: Settings, name: str, progress: Callable[[str], None]) -> int:
    """See `mcpmesh.daemon.agent_process.sweep`."""
    from mcpmesh.daemon.agent_process import sweep as sweep_mesh

    return sweep_mesh(settings, name, progress)
