"""Starts an agent in a session of its own, and returns when its API answers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mcpmesh.api import agent_lock, agent_record
from mcpmesh.errors import WorkloadError
from mcpmesh.kit.marked_process import Mark, Process, is_alive, spawn
from mcpmesh.kit.private_files import private_folder
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.settings import Settings

# Enough for a cold start of Python with all imports on a busy machine.
_START_SECONDS = 60.0


def launch(settings: Settings, name: str, sources: Sequence[Path]) -> None:
    """Starts `mcpmesh agent` for these catalog files; its output goes to `<home>/logs/agent.log`.

    Raises WorkloadError with the agent's output when it ends before its API answers.
    """
    home = private_folder(settings.home(name))
    log = private_folder(home / "logs") / "agent.log"
    began = log.stat().st_size if log.exists() else 0
    argv = [sys.executable, "-m", "mcpmesh", "--name", name, "agent"]
    for source in sources:
        argv += ["-f", str(source.absolute())]
    mark = Mark(name, str(home), AGENT)
    # The announcement of a dead agent is not removed here: it could be that of one that has just started.
    found = agent_record.read(home)
    of_dead_agent = None if agent_lock.is_held(home) else found
    pid = spawn(mark, argv, env=_environment(), log=log, cwd=Path.cwd())
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        # Another command may have started an agent at the same time; that one will do.
        if agent_record.read(home) not in (None, of_dead_agent) and agent_lock.is_held(home):
            return
        if not is_alive(Process(pid, mark)) and not agent_lock.is_held(home):
            break
        time.sleep(0.05)  # this function is not async, and waits for a file of another program
    output = log.read_bytes()[began:].decode(errors="replace").strip().removeprefix("error: ")
    raise WorkloadError(output or f"cannot start the agent: it did not answer within {_START_SECONDS:.0f} s; see {log}")


def _environment() -> dict[str, str]:
    """Our whole environment: the catalog may refer to any variable by `${NAME}`."""
    return dict(os.environ)
