"""What is to be said when an agent ended and left its mesh alone."""

from __future__ import annotations

import os

from mcpmesh.api.agent_record import Presence
from mcpmesh.cli.invocation import Invocation
from mcpmesh.kit.marked_process import Process, find_marked

_LAST_LINES = 5
_LAST_BYTES = 8192


def survivors(this: Invocation) -> list[Process]:
    """What of the mesh still runs, its agent apart."""
    return [process for process in find_marked(this.home) if process.mark.role != "agent"]


def obituary(this: Invocation, agent: Presence | None, left: list[Process]) -> str:
    """That it ended, what still runs, what to do, and its last words; `agent` None is one that ended in order."""
    how = f"(process {agent.pid}) died" if agent else "ended without taking it down"
    lines = [
        f'the agent of mesh "{this.name}" {how}; {_runs(left)}',
        f"  go on with what runs: mcpmesh {this.option}up",
        f"  stop it:              mcpmesh {this.option}down",
    ]
    words = _last_words(this) if agent else []
    if words:
        lines += [f"its last words ({this.home / 'logs' / 'agent.log'}):", *(f"  {word}" for word in words)]
    return "\n".join(lines)


def _runs(left: list[Process]) -> str:
    if not left:
        return "nothing of it runs any more."
    services = sorted({process.mark.service for process in left if process.mark.service})
    named = ", ".join(services) or "no service"
    noun = "process" if len(left) == 1 else "processes"
    return f"what it started goes on without it: {named} ({len(left)} {noun} in all)."


def _last_words(this: Invocation) -> list[str]:
    try:
        with (this.home / "logs" / "agent.log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []
