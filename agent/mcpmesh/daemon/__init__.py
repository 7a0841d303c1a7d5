"""The composition root: the one place that knows every class.

`launch` starts an agent in the background, `run` is one in the foreground,
`sweep` takes down what an agent that died has left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from mcpmesh.api import agent_record
from mcpmesh.daemon.launcher import launch
from mcpmesh.settings import Settings

__all__ = ["launch", "run", "sweep"]

# What it holds goes with the process.
_FOR_LIFE = ExitStack()

# The agent's own imports take a second; only those who run one wait for them.


def run(settings: Settings, name: str, sources: Sequence[Path]) -> int:
    """See `mcpmesh.daemon.agent_process.run`; raises Refused where another agent of that mesh runs.

    The mesh is this process's own from now until its end: whoever comes meanwhile can tell that it is starting, and who
    waits for the lock waits for that end.
    """
    home = settings.home(name)
    _FOR_LIFE.enter_context(agent_record.held(home))
    agent_record.withdraw(home)
    from mcpmesh.daemon.agent_process import run as run_agent

    return run_agent(settings, name, sources)


def sweep(settings: Settings, name: str, progress: Callable[[str], None]) -> int:
    """See `mcpmesh.daemon.agent_process.sweep`."""
    from mcpmesh.daemon.agent_process import sweep as sweep_mesh

    return sweep_mesh(settings, name, progress)
