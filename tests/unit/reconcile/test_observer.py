"""An observation of a whole mesh: what is asked, and what follows from the answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.samples import INGRESS, INGRESS_ID, MESH, NOTHING, behind_kong, desired, spec
from tests.unit.reconcile.recording import CountingAllocator

from mcpmesh.envoy.envoy_admin import EnvoyReport
from mcpmesh.errors import Broken, Unreachable
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.observed_state import (
    Entry,
    Intention,
    Kong,
    KongContent,
    ObservedState,
    Proof,
    Registration,
    Sidecar,
    Stray,
    Unknown,
    Workload,
)
from mcpmesh.reconcile.drain_tracker import DrainTracker
from mcpmesh.reconcile.observer import Observation, Observer, proof_targets
from mcpmesh.reconcile.port_claims import PortClaims
from mcpmesh.reconcile.process_index import ProcessIndex, kong_of, sidecar_of, workload_of
from mcpmesh.reconcile.proof_attempt import ProofTarget

FILES = spec("files")
WANTED = desired(FILES)
(INSTANCE,) = WANTED.services["files"].instances
ID = INSTANCE.id
REGISTRATION = Registration(ID, "files", 20001, 20002, "d", draining=False, passing=True)
ENTRIES = {("http-route", "other"): Entry("http-route", "other", "another mesh", "d")}
INTENTIONS = (Intention("id", "notes", "files", "allow", MESH),)


def process(pid: int, role: str, instance: str = ID, service: str = "files", **ports: int) -> Process:
    return Process(pid, Mark(MESH, "/home", role, instance, service, ports=ports))


SHIM, SERVER = process(10, "shim", public=20001), process(11, "server")
ENVOY = process(20, "gateway", public=20002, admin=19000)
GATEWAY = process(30, "gateway", INGRESS_ID, INGRESS, public=8000, admin=19001)
KONG = process(40, "kong", INGRESS_ID, INGRESS, public=8000, admin=19002)
STRAY = process(50, "server", "lost")
WORKLOAD = Workload(ID, "files", 10, 20001, 20002, "ready", host="127.0.0.5")
REPORT = EnvoyReport(ready=True, active=0, rejected=0, clusters=(), endpoints={"files": 1})
KONG_STATE = Kong(40, 8000, listening=True, content=KongContent("hash"))


class Peers:
    """Every peer of an observer; what they answer can be changed. The Envoys are gateways, which need not listen."""

    start_seconds = 30.0

    def __init__(self) -> None:
        self.found: list[Process] = [SHIM, SERVER, ENVOY, GATEWAY]
        self.answers: dict[str, Any] = {
            "registrations": {ID: REGISTRATION},
            "entries": ENTRIES,
            "intentions": INTENTIONS,
        }
        self.workload = WORKLOAD
        self.kong: Kong | None = None
        self.kong_asked: list[tuple[Process | None, str, int]] = []
        self.envoy_report: EnvoyReport | Unreachable = REPORT
        self.proof_targets: dict[str, ProofTarget] = {}
        self.waited_for: list[Process] = []
        self.claims = PortClaims(CountingAllocator(), lambda: ())
        self.drains = DrainTracker()
        self.now = 1000.0
        everything: Any = self
        self.observer = Observer(
            mesh=MESH,
            consul=everything,
            runtime=Runtime(self),  # type: ignore[arg-type]
            admin=everything,
            prover=everything,
            claims=self.claims,
            drains=self.drains,
            kong=KongPeer(self),  # type: ignore[arg-type]
            clock=lambda: self.now,
        )

    def answer(self, name: str) -> Any:
        found = self.answers[name]
        if isinstance(found, Exception):
            raise found
        return found

    async def registrations(self, mesh: str) -> Any:
        assert mesh == MESH
        return self.answer("registrations")

    async def entries(self, mesh: str) -> Any:
        assert mesh == MESH
        return self.answer("entries")

    async def intentions(self) -> Any:
        return self.answer("intentions")

    async def report(self, address: str) -> EnvoyReport:
        if isinstance(self.envoy_report, Unreachable):
            raise self.envoy_report
        return self.envoy_report

    async def listening(self, address: str) -> frozenset[int]:
        return frozenset({7000})

    def prove(self, targets: dict[str, ProofTarget]) -> dict[str, Proof]:
        self.proof_targets = targets
        return dict.fromkeys(targets, Proof(True))


class Runtime:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def list_processes(self) -> list[Process]:
        return self._peers.found

    def descends_from(self, process: Process, ancestors: Collection[int]) -> bool:
        return process.pid in ancestors or (process is SERVER and SHIM.pid in ancestors)

    async def observe(self, process: Process) -> Workload:
        assert process is SHIM
        return self._peers.workload

    async def wait_for_any_end(self, processes: Sequence[Process]) -> None:
        self._peers.waited_for.extend(processes)


class KongPeer:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self.start_seconds = 30.0

    async def observe(self, process: Process | None, host: str, port: int) -> Kong | None:
        self._peers.kong_asked.append((process, host, port))
        return self._peers.kong


@pytest.fixture
def peers() -> Peers:
    return Peers()


def envoy(process: Process, **changes: Any) -> Sidecar:
    mark = process.mark
    admin = f"127.0.0.1:{mark.ports['admin']}"
    found = Sidecar(mark.instance, mark.service, process.pid, mark.ports["public"], admin, True, endpoints={"files": 1})
    return replace(found, **changes)


async def test_an_observation_has_every_part_of_the_mesh(peers: Peers) -> None:
    peers.found.append(STRAY)
    observation = await peers.observer.observe(WANTED, {"other": "a reason"})
    main = {workload_of(ID): SHIM, sidecar_of(ID): ENVOY, sidecar_of(INGRESS_ID): GATEWAY}
    assert observation == Observation(
        ObservedState(
            registrations={ID: REGISTRATION},
            entries=ENTRIES,
            intentions=INTENTIONS,
            workloads={ID: WORKLOAD},
            sidecars={ID: envoy(ENVOY), INGRESS_ID: envoy(GATEWAY)},
            proofs={ID: Proof(True)},
            held_back={"other": "a reason"},
        ),
        ProcessIndex(main, {p.pid: p for p in peers.found}),
    )
    assert peers.proof_targets == {ID: ProofTarget(FILES, "127.0.0.5", 20002)}
    again = await peers.observer.observe(WANTED, {})
    assert again.state.strays == (Stray(50, "server", "lost"),)


@pytest.mark.parametrize("name", ["registrations", "entries", "intentions"])
@pytest.mark.parametrize("error", [Unreachable("away"), Broken("HTTP 500")])
async def test_what_consul_does_not_tell_is_unknown(peers: Peers, name: str, error: Exception) -> None:
    peers.answers[name] = error
    state = (await peers.observer.observe(WANTED, {})).state
    assert getattr(state, name) == Unknown(str(error))
    assert state.workloads == {ID: WORKLOAD} and state.sidecars.keys() == {ID, INGRESS_ID}


async def test_the_ports_of_registrations_and_of_kong_are_claimed(peers: Peers) -> None:
    await peers.observer.observe(WANTED, {})
    assert peers.claims.claimed() == {20001, 20002}
    await peers.observer.observe(behind_kong(FILES), {})
    assert peers.claims.claimed() == {20001, 20002, 6000, 7000}


async def test_with_a_route_of_ours_the_gateway_is_not_ready_before_it_listens(peers: Peers) -> None:
    peers.answers["entries"] = {("http-route", "files"): Entry("http-route", "files", MESH, "d")}
    state = (await peers.observer.observe(WANTED, {})).state
    ready = {id_: sidecar.ready for id_, sidecar in state.sidecars.items()}
    assert ready == {ID: True, INGRESS_ID: False}


async def test_an_entry_of_another_kind_is_no_route(peers: Peers) -> None:
    peers.answers["entries"] = {("service-defaults", "files"): Entry("service-defaults", "files", MESH, "d")}
    state = (await peers.observer.observe(WANTED, {})).state
    assert state.sidecars[INGRESS_ID].ready


async def test_kong_is_observed_with_its_process_and_its_sidecar_with_its_listeners(peers: Peers) -> None:
    peers.found.append(KONG)
    peers.kong = KONG_STATE
    observation = await peers.observer.observe(behind_kong(FILES), {})
    assert observation.state.kong == KONG_STATE and observation.processes.get(kong_of(INGRESS_ID)) is KONG
    assert observation.state.sidecars[INGRESS_ID].listener_ports == {7000}
    assert peers.kong_asked == [(KONG, "127.0.0.1", 8000)]


async def test_a_kong_that_is_no_longer_wanted_is_observed_at_the_port_of_its_mark(peers: Peers) -> None:
    peers.found.append(replace(KONG, mark=replace(KONG.mark, ports={"public": 8111})))
    await peers.observer.observe(NOTHING, {})
    peers.found.pop()
    await peers.observer.observe(NOTHING, {})
    assert [asked[1:] for asked in peers.kong_asked] == [("127.0.0.1", 8111), ("127.0.0.1", 0)]


async def test_the_drain_of_the_ingress_is_observed(peers: Peers) -> None:
    assert not (await peers.observer.observe(NOTHING, {})).state.ingress_draining
    peers.drains.note_drain(INGRESS_ID)
    assert (await peers.observer.observe(NOTHING, {})).state.ingress_draining


async def stuck_after(peers: Peers, seconds: int) -> frozenset[int]:
    """What is stuck after so many seconds with a pass every five, and a minute without any before."""
    peers.now += 60.0
    found = (await peers.observer.observe(WANTED, {})).state.stuck_pids
    for _ in range(0, seconds, 5):
        peers.now += 5.0
        found = (await peers.observer.observe(WANTED, {})).state.stuck_pids
    return found


async def test_what_has_not_answered_for_more_than_ten_seconds_is_stuck(peers: Peers) -> None:
    peers.workload = replace(WORKLOAD, state="unreachable")
    peers.envoy_report = Unreachable("gone")
    assert await stuck_after(peers, 10) == frozenset()
    assert await stuck_after(peers, 15) == {SHIM.pid, ENVOY.pid, GATEWAY.pid}


async def test_what_is_not_ready_but_answers_is_not_stuck(peers: Peers) -> None:
    peers.workload = replace(WORKLOAD, state="starting")
    assert await stuck_after(peers, 60) == frozenset()


async def test_an_external_service_is_never_stuck(peers: Peers) -> None:
    peers.workload = replace(WORKLOAD, state="unreachable", pid=None)
    assert await stuck_after(peers, 60) == frozenset()


@pytest.mark.parametrize(
    ("kong", "stuck"),
    [
        (replace(KONG_STATE, content=Unknown("no answer")), True),
        (replace(KONG_STATE, listening=False), True),
        (KONG_STATE, False),
        (replace(KONG_STATE, listening=False, pid=None), False),
    ],
)
async def test_a_kong_of_ours_is_stuck_when_it_did_not_come_up_in_its_time(
    peers: Peers, kong: Kong, stuck: bool
) -> None:
    peers.kong = kong
    assert await stuck_after(peers, 30) == frozenset()
    assert await stuck_after(peers, 35) == ({40} if stuck else set())


async def test_the_end_of_a_stray_is_not_waited_for(peers: Peers) -> None:
    peers.found += [STRAY, KONG]
    observation = await peers.observer.observe(behind_kong(FILES), {})
    await peers.observer.wait_for_any_end(observation.processes)
    assert peers.waited_for == [SHIM, ENVOY, GATEWAY, KONG]


SIDECAR = Sidecar(ID, "files", 20, 20002, "a", ready=True)


@pytest.mark.parametrize(
    ("registrations", "workloads", "sidecars", "proven"),
    [
        ({ID: REGISTRATION}, {ID: WORKLOAD}, {ID: SIDECAR}, True),
        ({}, {ID: WORKLOAD}, {ID: SIDECAR}, False),
        ({ID: REGISTRATION}, {}, {ID: SIDECAR}, False),
        ({ID: REGISTRATION}, {ID: WORKLOAD}, {}, False),
        ({ID: REGISTRATION}, {ID: replace(WORKLOAD, state="starting")}, {ID: SIDECAR}, False),
        ({ID: REGISTRATION}, {ID: WORKLOAD}, {ID: replace(SIDECAR, ready=False)}, False),
    ],
)
def test_an_instance_is_proven_once_it_and_its_sidecar_are_ready_and_registered(
    registrations: dict[str, Registration],
    workloads: dict[str, Workload],
    sidecars: dict[str, Sidecar],
    proven: bool,
) -> None:
    target = {ID: ProofTarget(FILES, "127.0.0.5", 20002)}
    assert proof_targets(WANTED, registrations, workloads, sidecars) == (target if proven else {})
    assert proof_targets(NOTHING, registrations, workloads, sidecars) == {}
