"""What is reported of what was seen, and nothing that was not."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.plan.fake_mesh import FakeMesh
from tests.unit.plan.samples import INGRESS, NOTHING, desired, spec

from mcpmesh.model.mesh_status import ServiceStatus, State
from mcpmesh.model.observed_state import ObservedState, Proof, Unknown
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.status_report import service_statuses

FILES = spec("files")
URL = "http://127.0.0.1:8000"


def line(target: DesiredState, observed: ObservedState, failure: str = "", ingress: str | None = URL) -> ServiceStatus:
    return service_statuses(target, observed, {"files": failure}, ingress)[0]


async def settled(instances: int = 1) -> tuple[DesiredState, ObservedState]:
    target, mesh = desired(replace(FILES, instances=instances)), FakeMesh()
    await mesh.settle(target)
    return target, mesh.observed()


async def test_a_proven_service_is_ready_and_has_its_address() -> None:
    found = line(*(await settled()))
    assert (found.state, found.ready, found.wanted, found.address) == (State.READY, 1, 1, f"{URL}/mcp/files")
    assert found.instances[0].port is not None and found.instances[0].sidecar_port is not None


async def test_without_a_proof_nothing_is_ready() -> None:
    target, observed = await settled()
    assert line(target, replace(observed, proofs={})).state is State.STARTING


async def test_a_failed_proof_is_told_with_its_reason() -> None:
    target, observed = await settled()
    proofs = dict.fromkeys(observed.proofs, Proof(False, "HTTP 403"))
    found = line(target, replace(observed, proofs=proofs))
    assert (found.state, found.detail) == (State.FAILED, "HTTP 403")


async def test_one_bad_instance_of_two_is_degraded() -> None:
    target, observed = await settled(2)
    bad = next(iter(observed.workloads))
    workloads = {**observed.workloads, bad: replace(observed.workloads[bad], state="crash-loop", error="exit 1")}
    found = line(target, replace(observed, workloads=workloads))
    assert (found.state, found.ready, found.wanted, found.detail) == (State.DEGRADED, 1, 2, "exit 1")


def test_a_deed_that_failed_is_told_before_anything_runs() -> None:
    found = line(desired(FILES), FakeMesh().observed(), failure="no such program")
    assert (found.state, found.detail, found.address) == (State.FAILED, "no such program", None)


async def test_without_its_route_or_an_ingress_no_address_is_claimed() -> None:
    target, observed = await settled()
    assert isinstance(observed.entries, dict)
    entries = {key: entry for key, entry in observed.entries.items() if key[0] != "http-route"}
    assert line(target, replace(observed, entries=entries)).address is None
    assert line(target, observed, ingress=None).address is None


async def test_no_address_is_claimed_before_the_ingress_has_heard_of_its_route() -> None:
    target, observed = await settled()
    deaf = replace(observed.sidecars[target.ingress_id], endpoints={})
    sidecars = {**observed.sidecars, target.ingress_id: deaf}
    assert line(target, replace(observed, sidecars=sidecars)).address is None


async def test_an_unreadable_consul_makes_every_service_unknown() -> None:
    target, observed = await settled()
    assert line(target, replace(observed, registrations=Unknown("down"))).state is State.UNKNOWN


async def test_what_is_no_longer_wanted_is_shown_until_it_is_gone() -> None:
    _, observed = await settled()
    found = service_statuses(NOTHING, observed, {}, URL)
    assert [(line.name, line.state) for line in found] == [("files", State.DRAINING)]
    assert INGRESS not in {line.name for line in found}
