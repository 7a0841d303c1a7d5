"""The events that a change of a service's status is reported with; pure."""

from __future__ import annotations

from mcpmesh.model.agent_reports import Level
from mcpmesh.model.mesh_status import ServiceStatus, State


def status_event(before: ServiceStatus | None, now: ServiceStatus) -> tuple[Level, str] | None:
    """Level and sentence; None where nothing worth an event changed: the state, or the reason of a failure."""
    new_failure = now.state is State.FAILED and before is not None and before.detail != now.detail
    if before is not None and before.state is now.state and not new_failure:
        return None
    match now.state:
        case State.READY:
            tools = f", {now.tools} tools" if now.tools is not None else ""
            return Level.CHANGE, f"ready, {now.ready} of {now.wanted}{tools}"
        case State.FAILED | State.DEGRADED if now.detail:
            return Level.TROUBLE, f"{now.state}: {now.detail}"
        case State.STARTING | State.DEGRADED:
            return Level.PROGRESS, f"starting, {now.ready} of {now.wanted} ready"
        case _:
            return Level.CHANGE, f"{now.state}: {now.detail}"
