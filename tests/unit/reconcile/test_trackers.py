"""What one observation can't show: strays, callers that are behind, and claimed ports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tests.unit.plan.samples import MESH, behind_kong, desired, spec
from tests.unit.reconcile.recording import CountingAllocator

from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.observed_state import ObservedState, Registration, Sidecar, Stray
from mcpmesh.plan.planner_input import PlannerInput
from mcpmesh.reconcile.port_claims import PortClaims
from mcpmesh.reconcile.process_index import index_processes
from mcpmesh.reconcile.propagation_delay import Propagation
from mcpmesh.reconcile.stray_detector import StrayDetector


def process(pid: int, role: str, instance: str = "one", **ports: int) -> Process:
    return Process(pid, Mark(MESH, "/home", role, instance, ports=ports))


PARENTS = {11: 10, 21: 20}


def descends_from(process: Process, ancestors: Collection[int]) -> bool:
    return process.pid in ancestors or PARENTS.get(process.pid) in ancestors


def strays(detector: StrayDetector, *found: Process) -> tuple[Stray, ...]:
    return detector.strays(found, index_processes(found, descends_from), descends_from)


SHIM, SERVER, LOST = process(10, "shim"), process(11, "server"), process(21, "server", "two")
AGENT, CONSUL = process(30, "agent", ""), process(31, "consul", "")


def test_a_server_without_its_shim_is_a_stray_once_two_passes_found_it() -> None:
    detector = StrayDetector()
    assert strays(detector, SHIM, SERVER, LOST, AGENT, CONSUL) == ()
    assert strays(detector, SHIM, SERVER, LOST, AGENT, CONSUL) == (Stray(21, "server", "two"),)
    assert strays(detector, SHIM, SERVER, LOST, AGENT, CONSUL) == (Stray(21, "server", "two"),)


def test_a_server_that_was_without_its_shim_for_a_moment_is_none() -> None:
    detector = StrayDetector()
    assert strays(detector, SERVER) == ()
    assert strays(detector, SHIM, SERVER) == ()
    assert strays(detector, SERVER) == ()
    assert strays(detector, SERVER) == (Stray(11, "server", "one"),)


def test_a_second_shim_of_an_instance_is_a_stray() -> None:
    detector = StrayDetector()
    second = process(12, "shim")
    strays(detector, SHIM, second)
    assert strays(detector, SHIM, second) == (Stray(12, "shim", "one"),)


FILES = desired(spec("files"))
(INSTANCE,) = FILES.services["files"].instances


def state(endpoints: int) -> PlannerInput:
    """One exposed instance, and a caller whose Envoy knows so many."""
    registration = Registration(INSTANCE.id, "files", 1, 2, "d", draining=False, passing=True)
    caller = Sidecar("caller", "notes", 8, 4, "a", ready=True, endpoints={"files": endpoints})
    observed = ObservedState(
        {INSTANCE.id: registration},
        {},
        (),
        sidecars={INSTANCE.id: Sidecar(INSTANCE.id, "files", 7, 2, "a", ready=True), "caller": caller},
    )
    found = PlannerInput.of(FILES, observed)
    assert found is not None
    return found


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_service_is_late_when_a_caller_has_been_behind_for_more_than_two_seconds() -> None:
    clock = Clock()
    propagation = Propagation(clock)
    for seconds, late in ((0.0, set()), (2.0, set()), (0.1, {"files"})):
        clock.now += seconds
        assert propagation.late(FILES, state(0)) == late


def test_a_late_service_is_named_again_after_two_more_seconds() -> None:
    clock = Clock()
    propagation = Propagation(clock)
    propagation.late(FILES, state(0))
    found = []
    for _ in range(5):
        clock.now += 1.5
        found.append(bool(propagation.late(FILES, state(0))))
    assert found == [False, True, False, True, False]


def test_callers_that_caught_up_begin_anew() -> None:
    clock = Clock()
    propagation = Propagation(clock)
    for endpoints in (0, 1, 0):
        assert propagation.late(FILES, state(endpoints)) == frozenset()
        clock.now += 1.5
    assert propagation.late(FILES, state(0)) == frozenset()


def test_nothing_is_late_while_consul_cannot_be_read() -> None:
    clock = Clock()
    propagation = Propagation(clock)
    propagation.late(FILES, state(0))
    clock.now += 60
    assert propagation.late(FILES, None) == frozenset()


def test_the_ports_of_processes_registrations_kong_and_external_services_are_claimed() -> None:
    claims = PortClaims(CountingAllocator(), lambda: [process(1, "shim", public=1, admin=2), process(2, "kong")])
    registration = Registration("one", "files", 3, 4, "d", draining=False, passing=True)
    claims.note_registrations([registration, replace(registration, port=5, sidecar_port=None)])
    ingress = behind_kong(spec("files"), spec("time")).ingress
    assert ingress is not None
    claims.note_kong(ingress.kong)
    assert claims.claimed() == {1, 2, 3, 4, 5, 6000, 7000, 7001}
    assert claims.external_sidecar_port("db") == 30001
    assert claims.claimed() == {1, 2, 3, 4, 5, 6000, 7000, 7001, 30001}
    claims.note_kong(None)
    claims.note_registrations([])
    assert claims.claimed() == {1, 2, 30001}


def test_an_external_service_keeps_its_port_until_it_is_released() -> None:
    claims = PortClaims(CountingAllocator(), lambda: [process(1, "shim", public=30001)])
    assert [claims.external_sidecar_port(name) for name in ("db", "db", "web")] == [30002, 30002, 30003]
    claims.release("db")
    claims.release("db")
    assert claims.claimed() == {30001, 30003} and claims.external_sidecar_port("db") == 30004
