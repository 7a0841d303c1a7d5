"""The number of retries that each Envoy allows for its upstreams, set at its admin address."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from mcpmesh.envoy.bootstrap import retry_budget
from mcpmesh.errors import PeerError
from mcpmesh.model.observed_state import Sidecar
from mcpmesh.reconcile.action_targets import EnvoyCommands


class RetryBudgets:
    """Remembers for which clusters each Envoy (by pid) has its budget already."""

    def __init__(self, envoys: EnvoyCommands) -> None:
        self._envoys = envoys
        self._set: dict[int, frozenset[str]] = {}

    async def apply(self, sidecars: Collection[Sidecar]) -> None:
        """Sets the budget for each cluster that an Envoy has learnt of since the last time."""
        for sidecar in sidecars:
            known = self._set.get(sidecar.pid, frozenset())
            new = frozenset(sidecar.clusters) - known
            if sidecar.ready and new:
                with suppress(PeerError):  # it may be ending; if not, the next pass sets the budget
                    await self._envoys.set_runtime(sidecar.admin, retry_budget(new))
                    self._set[sidecar.pid] = known | new
        self._set = {sidecar.pid: self._set.get(sidecar.pid, frozenset()) for sidecar in sidecars}
