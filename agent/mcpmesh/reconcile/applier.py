"""Does what a plan says: each service's actions in order, the services side by side.

A action that fails stops that service for this pass and makes it wait, a little
longer each time; nobody else is held up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from mcpmesh.envoy import envoy_program
from mcpmesh.envoy.bootstrap import ConsulAddress, render_bootstrap, retry_budget
from mcpmesh.envoy.envoy_admin import EnvoyAdmin
from mcpmesh.errors import MeshError, PeerError, WorkloadError
from mcpmesh.ingress.kong.kong_control import KongControl
from mcpmesh.kit.backoff import Backoff
from mcpmesh.kit.marked_process import Mark
from mcpmesh.kit.ports import is_free
from mcpmesh.model.observed_state import Intention, ObservedState
from mcpmesh.model.report_items import Level
from mcpmesh.plan.actions import (
    Action,
    Allow,
    CloseKong,
    DeleteEntry,
    Deregister,
    Drain,
    EndStray,
    PostDocument,
    Register,
    Revoke,
    StartKong,
    StartSidecar,
    StartWorkload,
    StopKong,
    StopSidecar,
    StopWorkload,
    WriteEntry,
)
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.observer import Observer
from mcpmesh.settings import EnvoySettings
from mcpmesh.workload.runtime import GATEWAY, SIDECAR, EnvoyLaunch, PreferredPorts, Runtime

# Two cores at the least: a bootstrap and a few starts at once keep them busy.
_AT_ONCE = 4
# A process that ends sooner than this after its start did not come up.
_STAYED_UP_SECONDS = 5.0
# Nobody waits for what a stray does; it gets a moment to put its files in order.
_STRAY_SECONDS = 2.0


class ConsulDeeds(Protocol):
    """What applying needs of Consul."""

    async def write_entry(self, payload: dict[str, Any]) -> None: ...
    async def delete_entry(self, kind: str, name: str, mesh: str) -> None: ...
    async def allow(self, source: str, destination: str, mesh: str) -> None: ...
    async def revoke(self, intention: Intention, mesh: str) -> None: ...
    async def register(self, payloads: Sequence[dict[str, Any]]) -> None: ...
    async def deregister(self, service_id: str) -> None: ...
    async def drain(self, service_id: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Hands:
    """Everything that actions are done with."""

    mesh: str
    home: Path
    consul: ConsulDeeds
    consul_address: ConsulAddress
    runtime: Runtime
    admin: EnvoyAdmin
    envoy: Path
    envoy_settings: EnvoySettings
    observer: Observer
    journal: Journal
    kong: KongControl


class Applier:
    """Carries plans out; remembers failures only to wait longer each time."""

    def __init__(self, hands: Hands) -> None:
        self._do = hands
        self._backoff = Backoff(time.monotonic)
        self._reasons: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._told: dict[int, set[str]] = {}
        self._limit = asyncio.Semaphore(_AT_ONCE)

    def held(self, desired: DesiredState) -> dict[str, str]:
        """Instances of services that wait for their next try, with the reason."""
        found: dict[str, str] = {}
        for name in list(self._reasons):
            if self._backoff.waiting(name) > 0:
                wanted = desired.services.get(name)
                ids = [i.id for i in wanted.instances] if wanted else []
                ids += [desired.ingress_id] if name == desired.ingress_service else []
                found |= dict.fromkeys(ids, self._reasons[name])
        return found

    def failure(self, name: str) -> str:
        """Why the latest action for a service failed; empty when none did."""
        return self._reasons.get(name, "")

    def forget(self, name: str) -> None:
        """Lets a service be tried at once: it serves, or its spec changed."""
        self._backoff.succeeded(name)
        self._reasons.pop(name, None)

    async def apply(self, plan: Plan, desired: DesiredState) -> None:
        """Does all actions; returns when each is done or failed."""
        await asyncio.gather(*(self._service(name, actions, desired) for name, actions in plan.actions.items()))

    async def allow_retries(self, observed: ObservedState) -> None:
        """Tells each Envoy about the clusters that it has learnt since; nothing is said twice."""
        for sidecar in observed.sidecars.values():
            news = set(sidecar.clusters) - self._told.setdefault(sidecar.pid, set())
            if sidecar.ready and news:
                with suppress(PeerError):  # it may be ending: the next look tells
                    await self._do.admin.set_runtime(sidecar.admin, retry_budget(news))
                    self._told[sidecar.pid] |= news
        self._told = {s.pid: self._told.get(s.pid, set()) for s in observed.sidecars.values()}

    async def _service(self, name: str, actions: Sequence[Action], desired: DesiredState) -> None:
        if self._backoff.waiting(name) > 0:
            return
        async with self._limit:
            for action in actions:
                try:
                    await self._deed(name, action, desired)
                except MeshError as error:
                    wait = self._backoff.failed(name)
                    if self._reasons.get(name) != str(error):
                        self._do.journal.record(Level.TROUBLE, f"{error} (next try in {wait:.0f} s)", name)
                    self._reasons[name] = str(error)
                    return
                self._do.journal.record(Level.DETAIL, str(action), name)

    async def _deed(self, name: str, action: Action, desired: DesiredState) -> None:
        do = self._do
        match action:
            case WriteEntry(payload):
                await do.consul.write_entry(payload)
            case DeleteEntry(kind, entry):
                await do.consul.delete_entry(kind, entry, do.mesh)
            case Allow(source, destination):
                await do.consul.allow(source, destination, do.mesh)
            case Revoke(intention):
                await do.consul.revoke(intention, do.mesh)
            case Register(_, payloads):
                await do.consul.register(payloads)
            case StartWorkload():
                await self._start_workload(action, desired)
            case StartSidecar():
                await self._start_sidecar(action)
            case StartKong():
                await self._start_kong(action)
            case StopKong(id_):
                if process := do.observer.processes.get(f"kong:{id_}"):
                    await do.kong.end(process)
            case PostDocument(document):
                if await do.kong.post(do.observer.processes.get(f"kong:{desired.ingress_id}"), document):
                    do.journal.record(Level.CHANGE, "Kong went by another document; it has ours again", name)
            case CloseKong():
                await do.kong.close_routes()
            case Drain(id_):
                await self._drain(id_, desired)
            case Deregister(id_, sidecar_id):
                # The sidecar first: callers must not be sent to one whose service has gone.
                for service_id in filter(None, (sidecar_id, id_)):
                    await do.consul.deregister(service_id)
            case StopSidecar(id_):
                if process := do.observer.processes.get(f"sidecar:{id_}"):
                    with suppress(PeerError):  # it may be stopped, or gone: what follows does not ask
                        await do.admin.quit(process.private_address("admin"))
                    await do.runtime.stop_envoy(process)
            case StopWorkload(id_):
                if process := do.observer.processes.get(f"workload:{id_}"):
                    wanted = desired.services.get(name)
                    await do.runtime.stop(process, wanted.spec.timeouts.drain if wanted else process.mark.drain)
            case EndStray(stray):
                if process := do.observer.processes.get(f"stray:{stray.pid}"):
                    await do.runtime.end(process, _STRAY_SECONDS)

    async def _start_workload(self, action: StartWorkload, desired: DesiredState) -> None:
        do, instance = self._do, action.instance
        await self._fail_if_it_did_not_stay(f"workload:{instance.id}", instance.id, instance.id)
        kept = PreferredPorts(
            action.port, action.sidecar_port, envoy_runs=f"sidecar:{instance.id}" in do.observer.processes
        )
        await do.runtime.start(desired.services[instance.service].spec, instance, kept, do.observer.claimed_ports())
        self._started[f"workload:{instance.id}"] = time.monotonic()

    async def _start_sidecar(self, action: StartSidecar) -> None:
        do, id_ = self._do, action.instance_id
        role = GATEWAY if action.gateway else SIDECAR
        await self._fail_if_it_did_not_stay(f"sidecar:{id_}", f"the Envoy of {id_}", f"{id_}.{role}")
        if not do.runtime.is_free(action.port):
            await self._give_up_port(action)
        settings = do.envoy_settings

        def bootstrap(admin: int | Path) -> Awaitable[str]:
            return render_bootstrap(do.consul_address, action.sidecar_id, admin, gateway=action.gateway)

        def arguments(path: Path) -> list[str]:
            return envoy_program.arguments(
                do.envoy, path, concurrency=settings.concurrency, drain_seconds=settings.drain_seconds
            )

        mark = Mark(do.mesh, str(do.home), role, id_, action.service, ports={"public": action.port})
        await do.runtime.start_envoy(EnvoyLaunch(mark, bootstrap, arguments), do.observer.claimed_ports())
        self._started[f"sidecar:{id_}"] = time.monotonic()

    async def _start_kong(self, action: StartKong) -> None:
        do = self._do
        key = f"kong:{action.instance_id}"
        if self._ended_at_once(key):
            raise WorkloadError(
                f"cannot keep Kong running: it ended at once; {do.kong.last_error_line(action.instance_id)}"
            )
        await do.kong.end_leftover()
        if not is_free(action.port, do.kong.host):
            raise _ingress_port_taken(action.port)
        do.kong.start(action.instance_id, action.port, do.observer.claimed_ports())
        self._started[key] = time.monotonic()

    async def _give_up_port(self, action: StartSidecar) -> NoReturn:
        """Somebody took the port before our Envoy could: the instance is started again with another one."""
        if action.gateway:
            raise _ingress_port_taken(action.port)
        if action.service == self._do.kong.service:
            raise WorkloadError(
                f"cannot start the sidecar of the ingress: another program took port {action.port}; end that one "
                "(ss -ltnp), or take the mesh down and start it again"
            )
        self._do.observer.release_port(action.instance_id)
        await self._do.consul.deregister(action.instance_id)
        if process := self._do.observer.processes.get(f"workload:{action.instance_id}"):
            await self._do.runtime.stop(process, 0)
        raise WorkloadError(
            f"cannot start the sidecar of {action.instance_id}: another program took port {action.port}; "
            "choosing another"
        )

    async def _fail_if_it_did_not_stay(self, key: str, what: str, name: str) -> None:
        if self._ended_at_once(key):
            words = await self._do.runtime.last_log_line(name)
            raise WorkloadError(f"cannot keep {what} running: it ended at once; its last words: {words}")

    def _ended_at_once(self, key: str) -> bool:
        since = self._started.pop(key, None)
        return since is not None and time.monotonic() - since < _STAYED_UP_SECONDS

    async def _drain(self, id_: str, desired: DesiredState) -> None:
        if id_ == desired.ingress_id:
            process = self._do.observer.processes.get(f"sidecar:{id_}")
            self._do.observer.note_drain(id_)
            if kong := self._do.observer.processes.get(f"kong:{id_}"):
                self._do.kong.drain(kong)
            elif process:
                await self._do.admin.drain(process.private_address("admin"))
        else:
            await self._do.consul.drain(id_, "mcpmesh drains it")


def _ingress_port_taken(port: int) -> WorkloadError:
    return WorkloadError(
        f"cannot open the ingress at port {port}: another program holds it; end that one (ss -ltnp), "
        "or take the mesh down and start it with another MCPMESH_INGRESS__PORT"
    )
