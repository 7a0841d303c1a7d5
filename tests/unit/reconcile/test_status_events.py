"""Which changes of a service's status are reported, and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcpmesh.model.agent_reports import Level
from mcpmesh.model.mesh_status import ServiceStatus, State
from mcpmesh.reconcile.status_events import status_event

READY = ServiceStatus("files", State.READY, 2, 2, tools=4)
DEGRADED = ServiceStatus("files", State.DEGRADED, 2, 1, "exit 1")
FAILED = ServiceStatus("files", State.FAILED, 2, 0, "no such program")
STARTING = ServiceStatus("files", State.STARTING, 2, 0)


@pytest.mark.parametrize(
    ("now", "event"),
    [
        (READY, (Level.CHANGE, "ready, 2 of 2, 4 tools")),
        (replace(READY, tools=0), (Level.CHANGE, "ready, 2 of 2, 0 tools")),
        (replace(READY, tools=None), (Level.CHANGE, "ready, 2 of 2")),
        (DEGRADED, (Level.TROUBLE, "degraded: exit 1")),
        (replace(DEGRADED, detail=""), (Level.PROGRESS, "starting, 1 of 2 ready")),
        (FAILED, (Level.TROUBLE, "failed: no such program")),
        (STARTING, (Level.PROGRESS, "starting, 0 of 2 ready")),
        (replace(STARTING, detail="loading"), (Level.PROGRESS, "starting, 0 of 2 ready")),
        (
            replace(FAILED, state=State.DRAINING, detail="no longer wanted"),
            (Level.CHANGE, "draining: no longer wanted"),
        ),
        (replace(FAILED, state=State.UNKNOWN, detail="no Consul"), (Level.CHANGE, "unknown: no Consul")),
        (replace(FAILED, detail=""), (Level.CHANGE, "failed: ")),
    ],
)
def test_a_new_state_is_reported(now: ServiceStatus, event: tuple[Level, str]) -> None:
    assert status_event(None, now) == event
    other = STARTING if now.state is not State.STARTING else READY
    assert status_event(other, now) == event


@pytest.mark.parametrize("now", [READY, DEGRADED, FAILED, STARTING])
def test_the_same_state_is_not_reported_again(now: ServiceStatus) -> None:
    assert status_event(now, now) is None
    assert status_event(now, replace(now, ready=7)) is None


def test_another_reason_of_a_failure_is_reported_and_no_other_reason_is() -> None:
    assert status_event(FAILED, replace(FAILED, detail="exit 1")) == (Level.TROUBLE, "failed: exit 1")
    assert status_event(DEGRADED, replace(DEGRADED, detail="exit 2")) is None
    assert status_event(STARTING, replace(STARTING, detail="loading")) is None
