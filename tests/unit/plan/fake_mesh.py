"""A mesh in memory, on which the real applier and executor act, so that plans can be followed to their end.

It stands in for Consul, the runtime, Envoy's admin addresses and Kong: what
each action does is decided by the code that the agent runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.unit.plan.samples import INGRESS, INGRESS_ID, MESH, kong_document

from mcpmesh.envoy.bootstrap import ConsulAddress
from mcpmesh.ingress.kong.document import Document
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.kit.ports import PortAllocator
from mcpmesh.model.agent_reports import Event, Level
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import (
    Entry,
    Intention,
    Kong,
    KongContent,
    ObservedState,
    Proof,
    Registration,
    ServerInfo,
    Sidecar,
    Stray,
    Workload,
)
from mcpmesh.model.service import ServiceSpec
from mcpmesh.plan.actions import Action
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan, plan
from mcpmesh.reconcile.action_executor import ActionExecutor
from mcpmesh.reconcile.action_targets import ActionTargets
from mcpmesh.reconcile.applier import Applier
from mcpmesh.reconcile.drain_tracker import DrainTracker
from mcpmesh.reconcile.envoy_launcher import EnvoyLauncher
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.port_claims import PortClaims
from mcpmesh.reconcile.process_index import ProcessIndex, ProcessKey, kong_of, sidecar_of, workload_of
from mcpmesh.reconcile.program_starter import ProgramStarter
from mcpmesh.settings import EnvoySettings
from mcpmesh.workload.runtime import SHIM, SIDECAR, EnvoyLaunch, PreferredPorts

HOME = "/home/test"
CONSUL = ConsulAddress(Path("consul"), "http://127.0.0.1:8500", "127.0.0.1:8502")
# A pass takes as long as an instance needs to be called drained.
PASS_SECONDS = 1.0
# A program that ends after this time has run for long enough: it did come up.
LONG_SECONDS = 60.0


class Interrupted(BaseException):
    """The agent was killed."""


class FakeConsul:
    """Consul; refuses to touch a config entry that this mesh did not write."""

    def __init__(self, mesh: FakeMesh) -> None:
        self._mesh = mesh

    async def write_entry(self, payload: dict[str, Any]) -> None:
        meta, key = payload["Meta"], (payload["Kind"], payload["Name"])
        assert key not in self._mesh.entries or self._mesh.entries[key].owner == MESH
        self._mesh.entries[key] = Entry(*key, meta["mcpmesh-owner"], meta["mcpmesh-digest"], meta.get("mcpmesh-policy"))

    async def delete_entry(self, kind: str, name: str, mesh: str) -> None:
        assert self._mesh.entries[kind, name].owner == mesh
        del self._mesh.entries[kind, name]

    async def allow(self, source: str, destination: str, mesh: str) -> None:
        self._mesh.intentions.append(Intention("id", source, destination, "allow", mesh))

    async def revoke(self, intention: Intention, mesh: str) -> None:
        assert intention.owner == mesh
        self._mesh.intentions.remove(intention)

    async def register(self, payloads: Sequence[dict[str, Any]]) -> None:
        instance = payloads[0]
        sidecar = payloads[1] if len(payloads) > 1 else None
        if sidecar and "Upstreams" in sidecar:
            self._mesh.listen(frozenset(sidecar["Upstreams"].values()))
        self._mesh.registrations[instance["ID"]] = Registration(
            id=instance["ID"],
            service=instance["Name"],
            port=instance["Port"],
            sidecar_port=sidecar["Port"] if sidecar else None,
            digest=instance["Meta"]["mcpmesh-digest"],
            draining=False,
            passing=False,
        )

    async def deregister(self, service_id: str) -> None:
        registrations = self._mesh.registrations
        if owner := registrations.get(service_id.removesuffix("-sidecar")):
            registrations[owner.id] = replace(owner, sidecar_port=None)
        registrations.pop(service_id, None)

    async def drain(self, service_id: str, reason: str) -> None:
        registration = self._mesh.registrations[service_id]
        self._mesh.registrations[service_id] = replace(registration, draining=True)


class FakeRuntime:
    """Starts programs that are ready at once, unless `slow` names their service."""

    def __init__(self, mesh: FakeMesh) -> None:
        self._mesh = mesh

    async def start(
        self, spec: ServiceSpec, instance: Instance, preferred: PreferredPorts, taken: Collection[int]
    ) -> None:
        assert instance.id not in self._mesh.workloads
        slow = instance.service in self._mesh.slow
        self._mesh.workloads[instance.id] = Workload(
            instance=instance.id,
            service=instance.service,
            pid=self._mesh.next_number(),
            port=preferred.port or self._mesh.next_number(),
            sidecar_port=preferred.sidecar_port or self._mesh.next_number(),
            state="starting" if slow else "ready",
            info=None if slow else ServerInfo("server", "1"),
        )

    async def stop(self, process: Process, drain_seconds: float) -> None:
        del self._mesh.workloads[process.mark.instance]

    def is_free(self, port: int) -> bool:
        return port not in {envoy.port for envoy in self._mesh.sidecars.values()}

    async def start_envoy(self, envoy: EnvoyLaunch, taken: Collection[int]) -> None:
        mark = envoy.mark
        assert mark.instance not in self._mesh.sidecars
        self._mesh.sidecars[mark.instance] = Sidecar(
            mark.instance,
            mark.service,
            self._mesh.next_number(),
            mark.ports["public"],
            f"127.0.0.1:{self._mesh.next_number()}",
            ready=True,
        )

    async def stop_envoy(self, process: Process) -> None:
        del self._mesh.sidecars[process.mark.instance]

    async def end(self, process: Process, grace_seconds: float) -> None:
        self._mesh.strays = tuple(stray for stray in self._mesh.strays if stray.pid != process.pid)

    async def last_log_line(self, name: str) -> str:
        return f"the last line of {name}"


class FakeEnvoys:
    """Admin addresses: no command changes what is observed before the Envoy ends."""

    async def drain(self, address: str) -> None: ...
    async def quit(self, address: str) -> None: ...
    async def set_runtime(self, address: str, values: Mapping[str, str]) -> None: ...


class FakeKong:
    """Our own Kong, or an external one (whose `pid` is None); told to drain, ours ends after its last call."""

    def __init__(self, mesh: FakeMesh) -> None:
        self._mesh = mesh

    def port_is_free(self, port: int) -> bool:
        return self._mesh.kong is None and port not in {envoy.port for envoy in self._mesh.sidecars.values()}

    def start(self, instance: str, port: int, taken: Collection[int]) -> int:
        assert self._mesh.kong is None
        pid = self._mesh.next_number()
        self._mesh.kong = Kong(pid, port, listening=True, content=KongContent("none"))
        return pid

    def drain(self, process: Process) -> None:
        self._mesh.kong_drains = True

    async def end(self, process: Process) -> None:
        self._mesh.kong = None

    async def end_leftover(self) -> None: ...

    async def post(self, process: Process | None, document: Document) -> bool:
        assert self._mesh.kong is not None and (process.pid if process else None) == self._mesh.kong.pid
        self._mesh.load(document)
        return False

    async def close_routes(self) -> None:
        self._mesh.load(kong_document({}))

    def last_error_line(self, instance: str) -> str:
        return f"the last line of {instance}"


class FakeAgent:
    """The parts of the agent that apply plans; killed before the call number `calls` (from 0), if given."""

    def __init__(self, mesh: FakeMesh, calls: int | None = None) -> None:
        self._calls_left = calls
        self.journal = Journal()
        self.drains = DrainTracker(lambda: mesh.now)
        targets = ActionTargets(
            consul=self._interruptible(FakeConsul(mesh)),
            runtime=self._interruptible(FakeRuntime(mesh)),
            envoys=self._interruptible(FakeEnvoys()),
            kong=self._interruptible(FakeKong(mesh)),
            claims=PortClaims(PortAllocator(20000), lambda: ()),
            drains=self.drains,
        )
        launcher = EnvoyLauncher(MESH, Path(HOME), CONSUL, Path("envoy"), EnvoySettings())
        self._executor = ActionExecutor(targets, ProgramStarter(targets, launcher, lambda: mesh.now), self.journal)
        self.applier = Applier(self, self.journal, lambda: mesh.now)
        self._done = mesh.done

    async def execute(self, action: Action, desired: DesiredState, processes: ProcessIndex) -> None:
        """Executes an action as the agent does, and notes it."""
        self._done.append(action)
        await self._executor.execute(action, desired, processes)

    async def troubles(self) -> list[Event]:
        """The failures so far."""
        return [event async for event in self.journal.follow(0, forever=False) if event.level is Level.TROUBLE]

    def _interruptible(self, target: Any) -> Any:
        return _Interruptible(target, self._count_call)

    def _count_call(self) -> None:
        if self._calls_left == 0:
            raise Interrupted
        if self._calls_left is not None:
            self._calls_left -= 1


class _Interruptible:
    """Passes every call on, after `before_call`."""

    def __init__(self, target: Any, before_call: Callable[[], None]) -> None:
        self._target = target
        self._before_call = before_call

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self._before_call()
            return getattr(self._target, name)(*arguments, **more)

        return call


class FakeMesh:
    """Everything that a plan can change. Services in `slow` don't get ready, ids in `busy` don't finish their calls."""

    def __init__(self) -> None:
        self.registrations: dict[str, Registration] = {}
        self.entries: dict[tuple[str, str], Entry] = {}
        self.intentions: list[Intention] = []
        self.workloads: dict[str, Workload] = {}
        self.sidecars: dict[str, Sidecar] = {}
        self.kong: Kong | None = None
        self.kong_drains = False
        self.upstreams: frozenset[int] = frozenset()
        self.strays: tuple[Stray, ...] = ()
        self.slow: set[str] = set()
        self.busy: set[str] = set()
        self.done: list[Action] = []
        self.now = 1000.0
        self._number = 20000
        self.agent = FakeAgent(self)

    async def settle(self, desired: DesiredState, passes: int = 40) -> Plan:
        """Passes until nothing is done any more; the last plan."""
        for _ in range(passes):
            found = await self.run_pass(desired)
            if not found.actions and not self._drains():
                return found
        raise AssertionError(f"not settled after {passes} passes: {found.steps()}")

    async def run_pass(self, desired: DesiredState) -> Plan:
        """One pass, in which no action may fail; the plan."""
        found = plan(desired, self.observed(desired))
        await self.agent.applier.apply(found, desired, self.processes())
        assert await self.agent.troubles() == []
        self.now += PASS_SECONDS
        return found

    async def settle_interrupted(self, desired: DesiredState, calls: int) -> bool:
        """Settles with an agent that is killed after so many calls, then with another; whether one was killed."""
        self.agent = FakeAgent(self, calls)
        try:
            await self.settle(desired)
        except Interrupted:
            self.agent = FakeAgent(self)
            await self.settle(desired)
            return True
        return False

    def observed(self, desired: DesiredState | None = None) -> ObservedState:
        """An observation: all that runs is proven, checks pass with a sidecar, and the ingress knows every service."""
        if self.kong_drains and INGRESS_ID not in self.busy:
            self.kong, self.kong_drains = None, False
        registrations = {
            id_: replace(registration, passing=id_ in self.sidecars) for id_, registration in self.registrations.items()
        }
        known = dict.fromkeys((registration.service for registration in registrations.values()), 99)
        sidecars = {id_: replace(envoy, active=int(id_ in self.busy)) for id_, envoy in self.sidecars.items()}
        if envoy := sidecars.get(INGRESS_ID):
            sidecars[INGRESS_ID] = replace(envoy, endpoints=known, listener_ports=self.upstreams)
        drained: frozenset[str] = frozenset()
        if desired is not None:
            workloads = {key.instance_id: p for key, p in self.processes().main.items() if p.mark.role == SHIM}
            drained = self.agent.drains.drained(desired, registrations.values(), sidecars, workloads, self.kong)
        return ObservedState(
            registrations=registrations,
            entries=dict(self.entries),
            intentions=tuple(self.intentions),
            workloads=dict(self.workloads),
            sidecars=sidecars,
            proofs={id_: Proof(True) for id_ in sidecars if id_ in self.workloads and self.workloads[id_].ready},
            strays=self.strays,
            drained=drained,
            ingress_draining=self.agent.drains.is_draining(INGRESS_ID),
            kong=self.kong,
        )

    def processes(self) -> ProcessIndex:
        """The processes behind the observed state."""
        main: dict[ProcessKey, Process] = {}
        for id_, workload in self.workloads.items():
            assert workload.pid is not None
            main[workload_of(id_)] = Process(workload.pid, Mark(MESH, HOME, SHIM, id_, workload.service))
        for id_, envoy in self.sidecars.items():
            ports = {"public": envoy.port, "admin": int(envoy.admin.rpartition(":")[2])}
            main[sidecar_of(id_)] = Process(envoy.pid, Mark(MESH, HOME, SIDECAR, id_, envoy.service, ports=ports))
        if self.kong and self.kong.pid is not None:
            main[kong_of(INGRESS_ID)] = Process(self.kong.pid, Mark(MESH, HOME, "kong", INGRESS_ID, INGRESS))
        strays = {s.pid: Process(s.pid, Mark(MESH, HOME, s.role, s.instance)) for s in self.strays}
        return ProcessIndex(main, {process.pid: process for process in main.values()} | strays)

    def load(self, document: Document) -> None:
        """Makes Kong go by this document, which has no route without a listener."""
        assert self.kong is not None
        ports = {item["name"]: item["port"] for item in json.loads(document.text)["services"]}
        assert self.upstreams >= set(ports.values()), "Kong has a route to a listener that does not exist"
        self.kong = replace(self.kong, content=KongContent(document.hash, ports))

    def listen(self, upstreams: frozenset[int]) -> None:
        """Gives the sidecar of Kong these listeners; none goes to which Kong has a route."""
        content = self.kong.content if self.kong else None
        routed = set(content.ports.values()) if isinstance(content, KongContent) else set()
        assert upstreams >= routed, "a listener went to which Kong has a route"
        self.upstreams = upstreams

    def next_number(self) -> int:
        """A number that was not used yet, for a port or a pid."""
        self._number += 1
        return self._number

    def _drains(self) -> bool:
        """Whether only time is missing until something has drained."""
        draining = {id_ for id_, registration in self.registrations.items() if registration.draining}
        if self.agent.drains.is_draining(INGRESS_ID):
            draining |= {INGRESS_ID} & (self.registrations.keys() | self.sidecars.keys())
        return bool(draining - self.busy)
