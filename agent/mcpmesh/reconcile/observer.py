"""One look at everything that is ours: processes, shims, Envoys, Consul.

All peers are asked at once. One that cannot be read is `Unknown`; a process
that does not answer is remembered until it is called stuck.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.errors import PeerError
from mcpmesh.ingress.kong.kong_observer import KongObserver
from mcpmesh.ingress.kong.kong_process import ROLE as KONG
from mcpmesh.kit.marked_process import Process, find_marked
from mcpmesh.kit.ports import PortAllocator, accepts_connections
from mcpmesh.model.observed_state import (
    Entry,
    Intention,
    Kong,
    ObservedState,
    Registration,
    Sidecar,
    Stray,
    Unknown,
    Workload,
)
from mcpmesh.model.service import Plain
from mcpmesh.plan.desired_state import DesiredService, DesiredState
from mcpmesh.plan.mesh_state import MeshState
from mcpmesh.reconcile.liveness import Silence
from mcpmesh.reconcile.prover import Prover
from mcpmesh.workload.runtime import GATEWAY, PLAIN, SHIM, SIDECAR, Runtime

# They account for themselves.
_APART = ("agent", "consul")

# Callers learn within some 100 ms that an instance drains; only after this
# does "no call under way" mean that none will come.
_SETTLE_SECONDS = 1.0
# What we don't run may take this long to finish.
_DRAIN_SECONDS = 10.0
# An Envoy or shim that was fine and has said nothing for this long is stuck.
_SILENT_SECONDS = 10.0

# Consul tells callers of a change within half a second. Its agent's synchronisation
# rests, for up to half a minute, when a registration comes at the wrong moment.
_UNTOLD_SECONDS = 2.0

T = TypeVar("T")


class ConsulView(Protocol):
    """What a look needs of Consul."""

    async def registrations(self, mesh: str) -> dict[str, Registration]: ...
    async def entries(self, mesh: str) -> dict[tuple[str, str], Entry]: ...
    async def intentions(self) -> tuple[Intention, ...]: ...


class Observer:
    """Looks; keeps only what a single look can't tell (since when something is silent or draining)."""

    def __init__(
        self,
        mesh: str,
        home: Path,
        consul: ConsulView,
        runtime: Runtime,
        admin: EnvoyAdmin,
        prover: Prover,
        ports: PortAllocator,
        kong: KongObserver,
    ) -> None:
        self._mesh = mesh
        self._home = home
        self._consul = consul
        self._runtime = runtime
        self._admin = admin
        self._prover = prover
        self._ports = ports
        self._kong = kong
        self._silence = Silence()
        self._draining_since: dict[str, float] = {}
        self._suspects: frozenset[int] = frozenset()
        self._untold_since: dict[str, float] = {}
        self._reserved: dict[str, int] = {}
        self._registered: set[int] = set()
        self._set_aside: set[int] = set()
        self.processes: dict[str, Process] = {}

    def claimed_ports(self) -> set[int]:
        """Ports that processes of any mesh on this machine hold or have set aside, and those we are registered with."""
        held = {port for process in find_marked() for port in process.mark.ports.values()}
        return held | set(self._reserved.values()) | self._registered | self._set_aside

    def release_port(self, id_: str) -> None:
        """Forgets the port that was set aside for the sidecar of a service that somebody else runs."""
        self._reserved.pop(id_, None)

    def note_drain(self, id_: str) -> None:
        """Remembers that the ingress was told to drain: Consul has no mark for that."""
        self._draining_since.setdefault(id_, time.monotonic())

    async def look(self, desired: DesiredState, held: Mapping[str, str]) -> ObservedState:
        """What is there now."""
        edge = desired.ingress.kong if desired.ingress else None
        self._set_aside = {edge.sidecar_port, *edge.ports.values()} if edge else set()
        found = await self._runtime.list_processes()
        descends_from = self._runtime.descends_from
        programs = first_of_each(found, (SHIM, PLAIN), descends_from)
        envoys = first_of_each(found, (SIDECAR, GATEWAY), descends_from)
        # Roles apart: an instance has a workload and a sidecar of the same name.
        self.processes = {f"workload:{id_}": p for id_, p in programs.items()}
        self.processes |= {f"sidecar:{id_}": p for id_, p in envoys.items()}
        kongs = first_of_each(found, (KONG,), descends_from)
        self.processes |= {f"kong:{id_}": p for id_, p in kongs.items()}
        registrations, entries, intentions, workloads, sidecars, kong = await asyncio.gather(
            _known(self._consul.registrations(self._mesh)),
            _known(self._consul.entries(self._mesh)),
            _known(self._consul.intentions()),
            asyncio.gather(*map(self._runtime.observe, programs.values())),
            asyncio.gather(*map(self._sidecar, envoys.values())),
            self._look_at_kong(desired, kongs.get(desired.ingress_id)),
        )
        known = {} if isinstance(registrations, Unknown) else registrations
        # What has died is started again at the ports that it is known by.
        self._registered = {port for r in known.values() for port in (r.port, r.sidecar_port) if port}
        seen = {workload.instance: workload for workload in workloads}
        seen |= await self._elsewhere(desired, known)
        beside = {sidecar.instance: sidecar for sidecar in sidecars}
        if edge:
            beside |= await self._kong_upstreams(desired, beside)
        elif _routed(entries, self._mesh):
            beside |= await self._gateway_listening(desired, beside)
        doors = {
            instance.id: (wanted.spec, seen[instance.id].host, beside[instance.id].port)
            for wanted in desired.services.values()
            for instance in wanted.instances
            if instance.id in known and instance.id in seen and seen[instance.id].ready
            if instance.id in beside and beside[instance.id].ready
        }
        observed = ObservedState(
            registrations=registrations,
            entries=entries,
            intentions=intentions,
            workloads=seen,
            sidecars=beside,
            proofs=self._prover.want(doors),
            strays=self._strays(found, (*programs.values(), *envoys.values(), *kongs.values())),
            held=held,
            stuck=self._stuck(workloads, sidecars, kong),
            drained=self._drained(desired, known, beside, kong),
            ingress_closing=desired.ingress_id in self._draining_since,
            kong=kong,
        )
        return replace(observed, untold=self._untold(desired, observed))

    async def _sidecar(self, process: Process) -> Sidecar:
        mark = process.mark
        seen = Sidecar(
            mark.instance,
            mark.service,
            process.pid,
            mark.ports["public"],
            process.private_address("admin"),
            ready=False,
        )
        try:
            report = await self._admin.report(seen.admin)
        except PeerError:
            return seen
        # A sidecar listens from the start, a gateway from its first route on.
        listening = report.ready and (mark.role == GATEWAY or await accepts_connections(process.host, seen.port))
        return replace(
            seen,
            ready=listening,
            active=report.active,
            rejected=report.rejected,
            clusters=report.clusters,
            known=report.endpoints,
        )

    async def any_end(self) -> None:
        """Returns when something that the latest look found ends, or earlier; waits for ever when there was nothing."""
        await self._runtime.wait_for_any_end([p for key, p in self.processes.items() if not key.startswith("stray:")])

    async def _gateway_listening(self, desired: DesiredState, beside: Mapping[str, Sidecar]) -> dict[str, Sidecar]:
        """The ingress, not ready before it accepts connections: Consul opens its listener with the first route."""
        gateway, wanted = beside.get(desired.ingress_id), desired.ingress
        if gateway is None or wanted is None:
            return {}
        host = wanted.registration["Address"]
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
        return {
            gateway.instance: replace(gateway, ready=gateway.ready and await accepts_connections(host, gateway.port))
        }

    async def _look_at_kong(self, desired: DesiredState, process: Process | None) -> Kong | None:
        address, port = ("127.0.0.1", 0) if process is None else ("127.0.0.1", process.mark.ports["public"])
        if desired.ingress:
            address, port = desired.ingress.registration["Address"], desired.ingress.port
        return await self._kong.observe(process, address, port)

    async def _kong_upstreams(self, desired: DesiredState, beside: Mapping[str, Sidecar]) -> dict[str, Sidecar]:
        """The sidecar of Kong, with the ports at which it listens for Kong's calls."""
        envoy = beside.get(desired.ingress_id)
        if envoy is None or not envoy.ready:
            return {}
        try:
            return {envoy.instance: replace(envoy, listening=await self._admin.listening(envoy.admin))}
        except PeerError:
            return {}

    async def _elsewhere(self, desired: DesiredState, known: Mapping[str, Registration]) -> dict[str, Workload]:
        """Plain services that somebody else runs: no process of ours, just a port that accepts or doesn't."""
        return dict(
            await asyncio.gather(
                *(
                    self._one_elsewhere(wanted, wanted.spec.start.address, known)
                    for wanted in desired.services.values()
                    if isinstance(wanted.spec.start, Plain) and wanted.spec.start.address
                )
            )
        )

    async def _one_elsewhere(
        self, wanted: DesiredService, address: str, known: Mapping[str, Registration]
    ) -> tuple[str, Workload]:
        instance = wanted.instances[0]
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        registered = known.get(instance.id)
        beside = (registered.sidecar_port if registered else None) or self._reserved.get(instance.id)
        if beside is None:
            beside = self._reserved[instance.id] = self._ports.take(self.claimed_ports())
        ready = await accepts_connections(host, int(port))
        return instance.id, Workload(
            instance=instance.id,
            service=wanted.spec.name,
            pid=None,
            port=int(port),
            sidecar_port=beside,
            state="ready" if ready else "unreachable",
            error="" if ready else f"nobody accepts connections at {address}; start it, or mend its address",
            address=host,
        )

    def _strays(self, found: Sequence[Process], known: Sequence[Process]) -> tuple[Stray, ...]:
        """Processes that nothing accounts for in two looks running: one state is not a moment."""
        self.processes |= {f"stray:{process.pid}": process for process in found}
        accounted = {process.pid for process in known}
        suspects = {
            process.pid: Stray(process.pid, process.mark.role, process.mark.instance)
            for process in found
            if process.mark.role not in _APART and not self._runtime.descends_from(process, accounted)
        }
        confirmed = tuple(stray for pid, stray in suspects.items() if pid in self._suspects)
        self._suspects = frozenset(suspects)
        return confirmed

    def _stuck(self, workloads: Sequence[Workload], sidecars: Sequence[Sidecar], kong: Kong | None) -> frozenset[int]:
        bounds = {w.pid: _SILENT_SECONDS for w in workloads if w.pid is not None and w.state == "unreachable"}
        bounds |= {sidecar.pid: _SILENT_SECONDS for sidecar in sidecars if not sidecar.ready}
        if kong and kong.pid is not None and (isinstance(kong.content, Unknown) or not kong.listening):
            bounds[kong.pid] = self._kong.start_seconds
        return self._silence.stuck(bounds, time.monotonic())

    def _untold(self, desired: DesiredState, observed: ObservedState) -> frozenset[str]:
        """Services that some caller's Envoy has not heard of for too long; named once in every such time."""
        state = MeshState.at(desired, observed)
        now = time.monotonic()
        behind = [name for name in desired.services if state and not state.told(name)]
        self._untold_since = {name: self._untold_since.get(name, now) for name in behind}
        late = frozenset(name for name, since in self._untold_since.items() if now - since > _UNTOLD_SECONDS)
        self._untold_since |= dict.fromkeys(late, now)
        return late

    def _drained(
        self,
        desired: DesiredState,
        known: Mapping[str, Registration],
        sidecars: Mapping[str, Sidecar],
        kong: Kong | None,
    ) -> frozenset[str]:
        now = time.monotonic()
        draining = {id_ for id_, registration in known.items() if registration.draining}
        if desired.ingress is None and desired.ingress_id in self._draining_since:
            draining.add(desired.ingress_id)
        self._draining_since = {id_: self._draining_since.get(id_, now) for id_ in draining}
        done = set()
        for id_, since in self._draining_since.items():
            sidecar = sidecars.get(id_)
            wanted = desired.services.get(sidecar.service) if sidecar else None
            limit = wanted.spec.timeouts.drain if wanted else self._drain_seconds(id_)
            quiet = sidecar is None or not sidecar.ready or sidecar.active == 0
            if id_ == desired.ingress_id and kong and kong.pid is not None:
                quiet = False  # a Kong that has finished its calls is gone
            if (quiet and now - since >= _SETTLE_SECONDS) or now - since >= limit:
                done.add(id_)
        return frozenset(done)

    def _drain_seconds(self, id_: str) -> float:
        """How long an instance whose service is no longer wanted may take to finish; the ingress as long as any."""
        programs = {key: process for key, process in self.processes.items() if key.startswith("workload:")}
        if process := programs.get(f"workload:{id_}"):
            return process.mark.drain
        return max((process.mark.drain for process in programs.values()), default=_DRAIN_SECONDS)


def _routed(entries: Mapping[tuple[str, str], Entry] | Unknown, mesh: str) -> bool:
    """Whether there is a route of ours."""
    known = {} if isinstance(entries, Unknown) else entries
    return any(entry.kind == "http-route" and entry.owner == mesh for entry in known.values())


def first_of_each(
    found: Sequence[Process], roles: tuple[str, ...], descends_from: Callable[[Process, Collection[int]], bool]
) -> dict[str, Process]:
    """The first process of each instance, not a marked child of it; pids begin anew, so a child's may be the lower."""
    families: dict[str, list[Process]] = {}
    for process in sorted(found, key=lambda process: process.pid):
        if process.mark.role in roles:
            families.setdefault(process.mark.instance, []).append(process)
    return {id_: _first(family, descends_from) for id_, family in families.items()}


def _first(family: list[Process], descends_from: Callable[[Process, Collection[int]], bool]) -> Process:
    pids = {process.pid for process in family}
    alone = len(family) == 1
    return next((p for p in family if alone or not descends_from(p, pids - {p.pid})), family[0])


async def _known(reading: Awaitable[T]) -> T | Unknown:
    try:
        return await reading
    except PeerError as error:
        return Unknown(str(error))
