"""The message of `up` when an agent has ended and left its mesh running."""

from __future__ import annotations

import os
from pathlib import Path

from mcpmesh.api.agent_lookup import command_line
from mcpmesh.api.agent_record import AgentRecord
from mcpmesh.cli.render.text import count
from mcpmesh.kit.marked_process import Process

_LAST_LINES = 5
_LAST_BYTES = 8192


def crash_report(home: Path, dead_agent: AgentRecord | None, remaining: list[Process]) -> str:
    """That the agent ended, what still runs, what to do, and the end of its log.

    `dead_agent` is None for an agent that ended in order.
    """
    mesh = home.name
    end = f"(process {dead_agent.pid}) died" if dead_agent else "ended without taking it down"
    lines = [
        f'the agent of mesh "{mesh}" {end}; {_what_runs(remaining)}',
        f"  keep what runs: {command_line(mesh, 'up')}",
        f"  stop it:        {command_line(mesh, 'down')}",
    ]
    log = home / "logs" / "agent.log"
    last_lines = _last_lines(log) if dead_agent else []
    if last_lines:
        lines += [f"the last lines of its log ({log}):", *(f"  {line}" for line in last_lines)]
    return "\n".join(lines)


def _what_runs(remaining: list[Process]) -> str:
    if not remaining:
        return "nothing of it runs any more."
    services = sorted({process.mark.service for process in remaining if process.mark.service})
    names = ", ".join(services) or "no service"
    return f"what it started goes on without it: {names} ({count(len(remaining), 'process')} in all)."


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []
