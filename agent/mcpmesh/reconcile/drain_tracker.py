"""Which draining instances have finished their calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import Kong, Registration, Sidecar
from mcpmesh.plan.desired_state import DesiredState

# Callers learn within about 100 ms that an instance drains. Only after this time
# does "no call under way" mean that no other call will come.
SETTLE_SECONDS = 1.0
# The time to finish for an ingress without any workload.
DEFAULT_SECONDS = 10.0


class DrainTracker:
    """Remembers since when each instance drains.

    Consul holds the drain of an instance (its maintenance mode). It has none
    for the ingress, so that one is noted here.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def note_drain(self, id_: str) -> None:
        """Remembers that the ingress was told to drain."""
        self._since.setdefault(id_, self._clock())

    def is_draining(self, id_: str) -> bool:
        """Whether that instance, or the ingress, was draining at the latest call of `drained`, or noted since."""
        return id_ in self._since

    def drained(
        self,
        desired: DesiredState,
        registrations: Collection[Registration],
        sidecars: Mapping[str, Sidecar],
        workloads: Mapping[str, Process],
        kong: Kong | None,
    ) -> frozenset[str]:
        """The draining instances without a call under way, or whose time to finish is over."""
        now = self._clock()
        draining = {registration.id for registration in registrations if registration.draining}
        if desired.ingress is None and desired.ingress_id in self._since:
            draining.add(desired.ingress_id)
        self._since = {id_: self._since.get(id_, now) for id_ in draining}
        done = set()
        for id_, since in self._since.items():
            sidecar = sidecars.get(id_)
            quiet = sidecar is None or not sidecar.ready or sidecar.active == 0
            if id_ == desired.ingress_id and kong and kong.pid is not None:
                quiet = False  # a Kong ends by itself after its last call
            passed = now - since
            if (quiet and passed >= SETTLE_SECONDS) or passed >= _limit_seconds(id_, desired, sidecar, workloads):
                done.add(id_)
        return frozenset(done)


def _limit_seconds(id_: str, desired: DesiredState, sidecar: Sidecar | None, workloads: Mapping[str, Process]) -> float:
    """How long an instance may take to finish its calls; the ingress may take as long as any instance."""
    wanted = desired.services.get(sidecar.service) if sidecar else None
    if wanted:
        return wanted.spec.timeouts.drain
    if process := workloads.get(id_):
        return process.mark.drain
    return max((process.mark.drain for process in workloads.values()), default=DEFAULT_SECONDS)
