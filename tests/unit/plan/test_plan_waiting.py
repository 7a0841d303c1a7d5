"""What a plan waits for, in sentences, and what it holds back until then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.fake_mesh import FakeMesh
from tests.unit.plan.samples import INGRESS, INGRESS_ID, NOTHING, behind_kong, desired, spec

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.observed_state import Entry, Intention, Kong, KongContent, ObservedState, Proof, Unknown
from mcpmesh.plan.action_groups import ingress_group, service_group
from mcpmesh.plan.actions import (
    DeleteEntry,
    Register,
    StartKong,
    StartSidecar,
    StartWorkload,
    StopSidecar,
    StopWorkload,
)
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import plan
from mcpmesh.plan.planner_input import PlannerInput

FILES = spec("files")
WANTED, WITH_KONG = desired(FILES), behind_kong(FILES)
(INSTANCE,) = WANTED.services["files"].instances
ID = INSTANCE.id
GROUP, INGRESS_GROUP = service_group("files"), ingress_group(INGRESS)


async def settled(target: DesiredState = WANTED) -> ObservedState:
    mesh = FakeMesh()
    await mesh.settle(target)
    return mesh.observed()


def waiting(target: DesiredState, observed: ObservedState) -> list[str]:
    """What the plan waits for, without any action."""
    found = plan(target, observed)
    assert not found.actions
    return [f"{step.service}: {step.sentence}" for step in found.waiting]


def with_workload(observed: ObservedState, **changes: Any) -> ObservedState:
    return replace(observed, workloads={ID: replace(observed.workloads[ID], **changes)})


def with_sidecar(observed: ObservedState, id_: str = ID, **changes: Any) -> ObservedState:
    return replace(observed, sidecars={**observed.sidecars, id_: replace(observed.sidecars[id_], **changes)})


def with_registration(observed: ObservedState, **changes: Any) -> ObservedState:
    assert isinstance(observed.registrations, dict)
    changed = replace(observed.registrations[ID], **changes)
    return replace(observed, registrations={**observed.registrations, ID: changed})


Change = Callable[[ObservedState], ObservedState]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda seen: replace(with_workload(seen, state="crash-loop", error="exit 1"), proofs={}), "exit 1"),
        (lambda seen: replace(with_workload(seen, state="starting"), proofs={}), "starting"),
        (lambda seen: with_sidecar(seen, ready=False), "its sidecar is not ready yet"),
        (lambda seen: replace(seen, proofs={ID: Proof(False, "HTTP 403")}), "HTTP 403"),
        (lambda seen: with_registration(seen, passing=False, failing=("a", "b")), "failing checks: a, b"),
        (lambda seen: replace(seen, proofs={}), "an exchange through its sidecar"),
    ],
)
async def test_a_registered_instance_that_does_not_serve_is_waited_for_with_the_reason(
    change: Change, reason: str
) -> None:
    assert waiting(WANTED, change(await settled())) == [f"files: wait for {ID}: {reason}"]


@pytest.mark.parametrize(("error", "reason"), [("exit 1", "exit 1"), ("", "starting")])
async def test_an_instance_that_is_not_ready_is_not_registered(error: str, reason: str) -> None:
    observed = with_workload(await settled(), state="starting", error=error)
    registrations = {id_: r for id_, r in observed.registrations.items() if id_ != ID}  # type: ignore[union-attr]
    sidecars = {INGRESS_ID: observed.sidecars[INGRESS_ID]}
    observed = replace(observed, registrations=registrations, sidecars=sidecars)
    assert waiting(WANTED, observed) == [f"files: wait for {ID}: {reason}"]


async def test_a_sidecar_that_is_held_back_is_waited_for_with_the_reason() -> None:
    observed = await settled()
    sidecars = {INGRESS_ID: observed.sidecars[INGRESS_ID]}
    observed = replace(observed, sidecars=sidecars, held_back={ID: "port taken"})
    assert waiting(WANTED, observed) == ["files: port taken"]


async def test_what_runs_is_not_held_back() -> None:
    assert waiting(WANTED, replace(await settled(), held_back={ID: "no", INGRESS_ID: "no"})) == []


@pytest.mark.parametrize("target", [WANTED, WITH_KONG])
async def test_an_ingress_that_is_held_back_is_waited_for_with_the_reason(target: DesiredState) -> None:
    observed = await settled(target)
    sidecars = {ID: observed.sidecars[ID]}
    observed = replace(observed, sidecars=sidecars, kong=observed.kong, held_back={INGRESS_ID: "port taken"})
    assert waiting(target, observed) == ["ingress: port taken"]
    found = plan(target, replace(observed, held_back={}))
    assert [type(action) for action in found.actions[INGRESS_GROUP]] == [StartSidecar]


async def test_a_kong_that_is_held_back_is_waited_for_with_the_reason() -> None:
    observed = replace(await settled(WITH_KONG), kong=None)
    assert waiting(WITH_KONG, replace(observed, held_back={INGRESS_ID: "no Kong"})) == ["ingress: no Kong"]
    assert [type(a) for a in plan(WITH_KONG, observed).actions[INGRESS_GROUP]] == [StartKong]


async def test_an_ingress_whose_envoy_is_not_ready_is_waited_for() -> None:
    observed = with_sidecar(await settled(), INGRESS_ID, ready=False)
    assert "ingress: wait for the ingress" in waiting(WANTED, observed)
    observed = with_sidecar(await settled(WITH_KONG), INGRESS_ID, ready=False)
    assert "ingress: wait for the ingress's sidecar" in waiting(WITH_KONG, observed)


@pytest.mark.parametrize("target", [WANTED, WITH_KONG])
async def test_an_ingress_whose_envoy_is_stuck_or_elsewhere_is_stopped(target: DesiredState) -> None:
    observed = await settled(target)
    stuck = replace(observed, stuck_pids=frozenset({observed.sidecars[INGRESS_ID].pid}))
    moved = with_sidecar(observed, INGRESS_ID, port=9999)
    for changed in (stuck, moved):
        assert plan(target, changed).actions == {INGRESS_GROUP: (StopSidecar(INGRESS_ID),)}


def kong_of(observed: ObservedState, **changes: Any) -> ObservedState:
    assert isinstance(observed.kong, Kong)
    return replace(observed, kong=replace(observed.kong, **changes))


async def test_a_kong_that_does_not_answer_or_listen_is_waited_for() -> None:
    observed = await settled(WITH_KONG)
    unknown = kong_of(observed, content=Unknown("no answer"))
    assert waiting(WITH_KONG, unknown) == ["ingress: wait for Kong: no answer"]
    silent = kong_of(observed, listening=False)
    assert waiting(WITH_KONG, silent) == ["ingress: wait for Kong: it accepts no connections at its port 8000"]


async def test_a_service_is_waited_for_while_a_caller_does_not_know_its_instances() -> None:
    observed = with_sidecar(await settled(), INGRESS_ID, endpoints={"files": 0})
    assert waiting(WANTED, observed) == ["files: wait until its callers know its instances"]
    observed = with_sidecar(await settled(), INGRESS_ID, endpoints={})
    assert waiting(WANTED, observed) == ["files: wait until its callers know its instances"]


async def test_an_envoy_that_does_not_call_a_service_need_not_know_it() -> None:
    observed = await settled(desired(FILES, spec("time")))
    assert waiting(desired(FILES, spec("time")), observed) == []


async def test_a_service_that_did_not_reach_its_callers_is_registered_again() -> None:
    observed = replace(await settled(), not_propagated=frozenset({"files"}))
    assert [type(action) for action in plan(WANTED, observed).actions[GROUP]] == [Register]
    starting = with_workload(observed, state="starting")
    assert not plan(WANTED, starting).actions


async def test_a_stuck_workload_is_stopped() -> None:
    observed = await settled()
    stuck = replace(observed, stuck_pids=frozenset({observed.workloads[ID].pid or 0}))
    assert plan(WANTED, stuck).actions == {GROUP: (StopWorkload(ID),)}


async def test_while_consul_cannot_be_read_only_missing_workloads_start() -> None:
    unknown = ObservedState(Unknown("away"), {}, ())
    found = plan(WANTED, unknown)
    assert found.actions == {GROUP: (StartWorkload(INSTANCE),)}
    assert found.waiting == (Step("consul", "wait for Consul: away", waiting=True),)
    assert not plan(WANTED, replace(unknown, held_back={ID: "no"})).actions
    observed = replace(await settled(), entries=Unknown("no entries"))
    assert waiting(WANTED, observed) == ["consul: wait for Consul: no entries"]


async def test_on_the_way_down_an_ingress_that_drains_is_waited_for() -> None:
    observed = replace(await settled(), ingress_draining=True)
    assert waiting(NOTHING, observed) == ["ingress: wait until the ingress has finished its calls"]


async def test_an_instance_that_drains_is_waited_for() -> None:
    observed = with_registration(await settled(), draining=True)
    found = plan(desired(), observed)
    assert found.actions == {GROUP: (DeleteEntry("http-route", "files"),)}
    assert found.waiting == (Step("files", f"wait until {ID} has finished its calls", waiting=True),)


async def test_an_external_kong_that_cannot_be_read_is_waited_for_while_anything_of_the_ingress_is_left() -> None:
    observed = kong_of(await settled(WITH_KONG), pid=None, content=Unknown("no answer"))
    sentence = "ingress: wait for Kong, which may have routes to here: no answer"
    assert waiting(NOTHING, observed)[0] == sentence
    without_envoy = replace(observed, sidecars={ID: observed.sidecars[ID]})
    assert sentence in [f"{s.service}: {s.sentence}" for s in plan(NOTHING, without_envoy).waiting]
    assert isinstance(observed.registrations, dict)
    unregistered = replace(observed, registrations={ID: observed.registrations[ID]})
    assert waiting(NOTHING, unregistered)[0] == sentence


async def test_a_service_stays_until_kong_has_no_route_to_it() -> None:
    observed = await settled(WITH_KONG)
    steps = plan(behind_kong(), observed).waiting
    assert Step("files", "keep it until Kong has no route to it any more", waiting=True) in steps
    unknown = kong_of(observed, content=Unknown("no answer"))
    steps = plan(behind_kong(), unknown).waiting
    assert Step("files", "keep it until Kong's routes can be read: no answer", waiting=True) in steps


def state(observed: ObservedState) -> PlannerInput:
    found = PlannerInput.of(WANTED, observed)
    assert found is not None
    return found


async def test_an_instance_is_exposed_while_callers_are_sent_to_it() -> None:
    observed = await settled()
    assert state(observed).is_exposed(ID) and state(observed).is_serving(ID)
    for changed in (
        with_registration(observed, passing=False),
        with_registration(observed, draining=True),
        with_sidecar(observed, ready=False),
        replace(observed, sidecars={}),
        replace(observed, registrations={}),
    ):
        assert not state(changed).is_exposed(ID) and not state(changed).is_serving(ID)
    for proofs in ({}, {ID: Proof(False, "no")}):
        changed = replace(observed, proofs=proofs)
        assert state(changed).is_exposed(ID) and not state(changed).is_serving(ID)


async def test_the_ingress_serves_what_it_has_a_route_to_and_has_heard_of() -> None:
    observed = await settled()
    assert state(observed).ingress_serves("files") and not state(observed).ingress_serves("time")
    assert not state(with_sidecar(observed, INGRESS_ID, endpoints={})).ingress_serves("files")
    assert not state(replace(observed, entries={})).ingress_serves("files")
    assert not state(replace(observed, sidecars={})).ingress_serves("files")
    kong = Kong(1, 8000, listening=True, content=KongContent("hash", {"files": 7000}))
    assert state(replace(observed, entries={}, sidecars={}, kong=kong)).ingress_serves("files")


def test_every_trace_of_a_service_is_found() -> None:
    entry = Entry("service-defaults", "a", "test", "d")
    theirs = Entry("service-defaults", "b", "other", "d")
    intentions = (Intention("1", "x", "c", "allow", "test"), Intention("2", "x", "d", "allow", None))
    observed = ObservedState({}, {("k", "a"): entry, ("k", "b"): theirs}, intentions)
    assert state(observed).services_found() == {"a", "c"}


async def test_the_ingress_is_no_service() -> None:
    assert state(await settled()).services_found() == {"files"}
