"""Observation of everything that belongs to a mesh: processes, shims, Envoys, Kong, Consul.

All peers are asked at once. A peer that can't be read is `Unknown`, not empty.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.errors import PeerError
from mcpmesh.ingress.kong.kong_observer import KongObserver
from mcpmesh.kit.marked_process import Process
from mcpmesh.model.observed_state import (
    Entry,
    Intention,
    Kong,
    ObservedState,
    Registration,
    Sidecar,
    Unknown,
    Workload,
)
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner_input import PlannerInput
from mcpmesh.reconcile.drain_tracker import DrainTracker
from mcpmesh.reconcile.envoy_observer import EnvoyObserver
from mcpmesh.reconcile.external_services import observe_external
from mcpmesh.reconcile.port_claims import PortClaims
from mcpmesh.reconcile.process_index import ProcessIndex, ProcessKind, index_processes, kong_of
from mcpmesh.reconcile.proof_attempt import ProofTarget
from mcpmesh.reconcile.propagation_delay import Propagation
from mcpmesh.reconcile.prover import Prover
from mcpmesh.reconcile.stray_detector import StrayDetector
from mcpmesh.reconcile.stuck_process_detector import StuckProcessDetector
from mcpmesh.workload.runtime import Runtime

# An Envoy or a shim that ran and has not answered for this long is stuck.
SILENT_SECONDS = 10.0

T = TypeVar("T")


class ConsulReader(Protocol):
    """The parts of Consul that are observed."""

    async def registrations(self, mesh: str) -> dict[str, Registration]: ...
    async def entries(self, mesh: str) -> dict[tuple[str, str], Entry]: ...
    async def intentions(self) -> tuple[Intention, ...]: ...


@dataclass(frozen=True)
class Observation:
    """The observed state, and the processes of which it speaks."""

    state: ObservedState
    processes: ProcessIndex


class Observer:
    """Observes; remembers only what one observation can't show, such as since when a process is silent."""

    def __init__(
        self,
        mesh: str,
        consul: ConsulReader,
        runtime: Runtime,
        admin: EnvoyAdmin,
        prover: Prover,
        claims: PortClaims,
        drains: DrainTracker,
        kong: KongObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mesh = mesh
        self._consul = consul
        self._runtime = runtime
        self._envoys = EnvoyObserver(admin)
        self._prover = prover
        self._claims = claims
        self._drains = drains
        self._kong = kong
        self._clock = clock
        self._liveness = StuckProcessDetector()
        self._strays = StrayDetector()
        self._propagation = Propagation(clock)

    async def observe(self, desired: DesiredState, held_back: Mapping[str, str]) -> Observation:
        """The state now. Raises MeshError where the processes can't be listed."""
        self._claims.note_kong(desired.ingress.kong if desired.ingress else None)
        found = await self._runtime.list_processes()
        index = index_processes(found, self._runtime.descends_from)
        registrations, entries, intentions, workloads, envoys, kong = await asyncio.gather(
            _or_unknown(self._consul.registrations(self._mesh)),
            _or_unknown(self._consul.entries(self._mesh)),
            _or_unknown(self._consul.intentions()),
            asyncio.gather(*map(self._runtime.observe, index.of_kind(ProcessKind.WORKLOAD).values())),
            asyncio.gather(*map(self._envoys.observe, index.of_kind(ProcessKind.SIDECAR).values())),
            self._observe_kong(desired, index.get(kong_of(desired.ingress_id))),
        )
        registered = {} if isinstance(registrations, Unknown) else registrations
        self._claims.note_registrations(registered.values())
        by_instance = {workload.instance: workload for workload in workloads}
        by_instance |= await observe_external(desired, registered, self._claims)
        sidecars = {envoy.instance: envoy for envoy in envoys}
        sidecars |= await self._envoys.of_ingress(desired, sidecars, _has_route(entries, self._mesh))
        state = ObservedState(
            registrations=registrations,
            entries=entries,
            intentions=intentions,
            workloads=by_instance,
            sidecars=sidecars,
            proofs=self._prover.prove(proof_targets(desired, registered, by_instance, sidecars)),
            strays=self._strays.strays(found, index, self._runtime.descends_from),
            held_back=held_back,
            stuck_pids=self._stuck(workloads, envoys, kong),
            drained=self._drains.drained(
                desired, registered.values(), sidecars, index.of_kind(ProcessKind.WORKLOAD), kong
            ),
            ingress_draining=self._drains.is_draining(desired.ingress_id),
            kong=kong,
        )
        late = self._propagation.late(desired, PlannerInput.of(desired, state))
        return Observation(replace(state, not_propagated=late), index)

    async def wait_for_any_end(self, processes: ProcessIndex) -> None:
        """Returns when one of these ends (strays apart), or earlier; waits forever where there is none."""
        await self._runtime.wait_for_any_end(list(processes.main.values()))

    async def _observe_kong(self, desired: DesiredState, process: Process | None) -> Kong | None:
        if desired.ingress:
            address, port = desired.ingress.registration["Address"], desired.ingress.port
        else:
            address, port = "127.0.0.1", process.mark.ports["public"] if process else 0
        return await self._kong.observe(process, address, port)

    def _stuck(self, workloads: Sequence[Workload], envoys: Sequence[Sidecar], kong: Kong | None) -> frozenset[int]:
        limits = {w.pid: SILENT_SECONDS for w in workloads if w.pid is not None and w.state == "unreachable"}
        limits |= {envoy.pid: SILENT_SECONDS for envoy in envoys if not envoy.ready}
        if kong and kong.pid is not None and (isinstance(kong.content, Unknown) or not kong.listening):
            limits[kong.pid] = self._kong.start_seconds
        return self._liveness.stuck(limits, self._clock())


def proof_targets(
    desired: DesiredState,
    registrations: Mapping[str, Registration],
    workloads: Mapping[str, Workload],
    sidecars: Mapping[str, Sidecar],
) -> dict[str, ProofTarget]:
    """The wanted instances that can be proven now: registered, and they and their sidecars ready."""
    return {
        instance.id: ProofTarget(wanted.spec, workload.host, sidecar.port)
        for wanted in desired.services.values()
        for instance in wanted.instances
        if instance.id in registrations
        if (workload := workloads.get(instance.id)) and workload.ready
        if (sidecar := sidecars.get(instance.id)) and sidecar.ready
    }


def _has_route(entries: Mapping[tuple[str, str], Entry] | Unknown, mesh: str) -> bool:
    """Whether there is a route of this mesh."""
    found = {} if isinstance(entries, Unknown) else entries
    return any(entry.kind == "http-route" and entry.owner == mesh for entry in found.values())


async def _or_unknown(reading: Awaitable[T]) -> T | Unknown:
    try:
        return await reading
    except PeerError as error:
        return Unknown(str(error))
