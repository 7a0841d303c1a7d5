"""What is to be said when an agent died and left its mesh alone."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mcpmesh.api.presence import Presence
from mcpmesh.cli.invocation import Invocation
from mcpmesh.model.status import MeshStatus

_LAST_LINES = 5
_LAST_BYTES = 8192


def obituary(this: Invocation, agent: Presence, status: MeshStatus | None) -> str:
    """That it died, what still runs, what to do, and its last words."""
    lines = [
        f'the agent of mesh "{this.name}" (process {agent.pid}) died; {_left(status)}',
        f"  go on with what runs: mcpmesh {this.option}up",
        f"  stop it:              mcpmesh {this.option}down",
    ]
    words = _last_words(this)
    if words:
        lines += [f"its last words ({this.home / 'logs' / 'agent.log'}):", *(f"  {word}" for word in words)]
    return "\n".join(lines)


def _left(status: MeshStatus | None) -> str:
    if status is None or not status.services:
        return "what it had started may still run."
    instances = [instance for service in status.services for instance in service.instances]
    servers = _living(instance.pid for instance in instances)
    sidecars = _living(instance.sidecar_pid for instance in instances)
    return f"{servers} of {len(instances)} instances and {sidecars} of their sidecars still run without it."


def _living(pids: Iterable[int | None]) -> int:
    return sum(_lives(pid) for pid in pids if pid is not None)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _last_words(this: Invocation) -> list[str]:
    try:
        with (this.home / "logs" / "agent.log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return []
