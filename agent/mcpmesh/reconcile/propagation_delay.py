"""Registrations that do not reach the Envoys of all callers in time."""

from __future__ import annotations

import time
from collections.abc import Callable

from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner_input import PlannerInput

# Consul tells callers of a change within half a second. But its agent may not
# synchronise with the catalog for up to half a minute when a registration comes
# at the wrong moment.
LIMIT_SECONDS = 2.0


class Propagation:
    """Remembers since when the callers of each service have been behind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._behind_since: dict[str, float] = {}

    def late(self, desired: DesiredState, state: PlannerInput | None) -> frozenset[str]:
        """The services with a caller that has been behind for too long, each once per `LIMIT_SECONDS`."""
        now = self._clock()
        behind = [name for name in desired.services if state and not state.has_propagated(name)]
        self._behind_since = {name: self._behind_since.get(name, now) for name in behind}
        late = frozenset(name for name, since in self._behind_since.items() if now - since > LIMIT_SECONDS)
        self._behind_since |= dict.fromkeys(late, now)
        return late
