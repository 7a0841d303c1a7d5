"""Kong at the ingress, planned: order, drift, what it does not tell, and every point of interruption."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from tests.unit.plan.fake_mesh import LONG_SECONDS, FakeMesh
from tests.unit.plan.samples import INGRESS, INGRESS_ID, NOTHING, behind_kong, desired, kong_document, spec

from mcpmesh.model.observed_state import Entry, KongContent, Unknown
from mcpmesh.plan.action_groups import KONG_DOCUMENT, ingress_group
from mcpmesh.plan.actions import (
    CloseKong,
    Deregister,
    Drain,
    PostDocument,
    Register,
    StartKong,
    StartSidecar,
    StopKong,
    StopSidecar,
)
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan, plan

FILES, TIME = spec("files"), spec("time")
GROUP = ingress_group(INGRESS)


@pytest.fixture
def mesh() -> FakeMesh:
    return FakeMesh()


def routed(mesh: FakeMesh) -> set[str]:
    assert mesh.kong is not None and isinstance(mesh.kong.content, KongContent)
    return set(mesh.kong.content.ports)


async def test_a_plan_applied_is_followed_by_an_empty_plan(mesh: FakeMesh) -> None:
    assert (await mesh.settle(behind_kong(FILES, TIME))).in_sync
    assert routed(mesh) == {"files", "time"}


async def test_kong_is_registered_once_it_listens_and_leads_somewhere_once_its_sidecar_does(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    mine = [action for action in mesh.done if isinstance(action, (StartKong, Register, StartSidecar, PostDocument))]
    mine = [action for action in mine if isinstance(action, PostDocument) or action.instance_id == INGRESS_ID]
    kinds = [type(action) for action in mine]
    assert kinds.index(StartKong) < kinds.index(Register) < kinds.index(StartSidecar)
    assert [action.services for action in mine if isinstance(action, PostDocument)] == [(), ("files",)]


async def test_a_service_that_does_not_serve_yet_has_no_route(mesh: FakeMesh) -> None:
    mesh.slow = {"time"}
    await mesh.settle(behind_kong(FILES, TIME))
    assert routed(mesh) == {"files"}


async def test_a_route_stays_while_nobody_serves(mesh: FakeMesh) -> None:
    target = behind_kong(FILES)
    await mesh.settle(target)
    mesh.workloads.clear()
    assert KONG_DOCUMENT not in plan(target, mesh.observed()).actions


async def test_a_document_of_somebody_else_is_replaced(mesh: FakeMesh) -> None:
    target = behind_kong(FILES)
    await mesh.settle(target)
    assert mesh.kong is not None
    mesh.kong = replace(mesh.kong, content=KongContent("theirs"))
    found = plan(target, mesh.observed())
    assert found.actions == {KONG_DOCUMENT: (PostDocument(kong_document({"files": 7000}), ("files",)),)}


async def test_what_kong_does_not_tell_is_not_nothing(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES, TIME))
    assert mesh.kong is not None
    mesh.kong = replace(mesh.kong, content=Unknown("no answer"))
    found = plan(behind_kong(FILES, TIME), mesh.observed())
    assert not found.actions and "no answer" in found.waiting[0].sentence
    # Nor does the sidecar lose a listener that Kong may lead to.
    assert GROUP not in plan(behind_kong(FILES), mesh.observed()).actions


async def test_a_service_goes_after_its_route_and_its_listener_after_both(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES, TIME))
    mesh.done.clear()
    assert (await mesh.settle(behind_kong(FILES))).in_sync
    post = next(place for place, action in enumerate(mesh.done) if isinstance(action, PostDocument))
    gone = next(place for place, action in enumerate(mesh.done) if isinstance(action, Deregister))
    assert post < gone and routed(mesh) == {"files"} and mesh.upstreams == {7000}


async def test_a_kong_that_died_is_started_and_handed_its_document(mesh: FakeMesh) -> None:
    target = behind_kong(FILES)
    await mesh.settle(target)
    mesh.done.clear()
    mesh.now += LONG_SECONDS
    mesh.kong = None
    assert (await mesh.settle(target)).in_sync
    assert [type(action) for action in mesh.done] == [StartKong, PostDocument]


async def test_a_kong_that_does_not_answer_is_stopped(mesh: FakeMesh) -> None:
    target = behind_kong(FILES)
    await mesh.settle(target)
    assert mesh.kong is not None and mesh.kong.pid is not None
    mesh.kong = replace(mesh.kong, content=Unknown("no answer"))
    observed = replace(mesh.observed(), stuck_pids=frozenset({mesh.kong.pid}))
    assert plan(target, observed).actions[GROUP] == (StopKong(INGRESS_ID),)


@pytest.mark.parametrize("changed", [{"port": 8001}, {"digest": "of other settings"}])
async def test_a_kong_that_was_started_otherwise_is_started_anew(mesh: FakeMesh, changed: dict[str, Any]) -> None:
    target = behind_kong(FILES)
    await mesh.settle(target)
    assert mesh.kong is not None
    mesh.kong = replace(mesh.kong, **changed)
    mesh.done.clear()
    assert (await mesh.settle(target)).in_sync
    assert [type(action) for action in mesh.done] == [StopKong, StartKong, PostDocument]


async def test_down_begins_with_kong_and_ends_with_nothing(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    mesh.done.clear()
    assert (await mesh.settle(NOTHING)).in_sync
    mine = [type(action) for action in mesh.done if getattr(action, "instance_id", INGRESS_ID) == INGRESS_ID]
    assert mine[0] is Drain
    assert mine.index(StopSidecar) < mine.index(Deregister)
    assert (mesh.kong, mesh.sidecars, mesh.registrations, mesh.entries) == (None, {}, {}, {})


async def test_on_the_way_down_kong_finishes_its_calls(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    mesh.done.clear()
    mesh.busy = {INGRESS_ID}
    await mesh.settle(NOTHING)
    assert mesh.done == [Drain(INGRESS_ID)] and mesh.kong is not None
    mesh.busy = set()
    assert (await mesh.settle(NOTHING)).in_sync and StopKong(INGRESS_ID) not in mesh.done


async def test_a_kong_that_does_not_finish_its_calls_in_time_is_stopped(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    mesh.busy = {INGRESS_ID}
    await mesh.settle(NOTHING)
    mesh.now += 10.0
    assert (await mesh.settle(NOTHING)).in_sync and StopKong(INGRESS_ID) in mesh.done


async def test_a_kong_of_somebody_else_is_left_without_our_routes_and_running(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    assert mesh.kong is not None
    mesh.kong = replace(mesh.kong, pid=None)
    mesh.done.clear()
    assert (await mesh.settle(NOTHING)).in_sync
    assert mesh.done[0] == CloseKong() and mesh.kong is not None and not routed(mesh)
    assert not any(isinstance(action, StopKong) for action in mesh.done)


async def test_a_service_stays_while_kong_does_not_tell_where_it_leads(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES, TIME))
    assert mesh.kong is not None
    told = mesh.kong
    mesh.kong = replace(told, content=Unknown("no answer"))
    found = plan(behind_kong(FILES), mesh.observed())
    assert not found.actions
    assert any(step.service == "time" and "no answer" in step.sentence for step in found.waiting)
    mesh.kong = told
    assert (await mesh.settle(behind_kong(FILES))).in_sync and routed(mesh) == {"files"}


async def test_a_silent_kong_of_somebody_else_is_waited_for_on_the_way_down(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    assert mesh.kong is not None
    told = replace(mesh.kong, pid=None)
    mesh.kong = replace(told, content=Unknown("no answer"))
    found = plan(NOTHING, mesh.observed())
    assert not found.actions and [step.service for step in found.waiting] == [INGRESS]
    mesh.kong = told
    mesh.done.clear()
    assert (await mesh.settle(NOTHING)).in_sync and mesh.done[0] == CloseKong()
    # Gone for good, it holds nothing up.
    mesh.kong = replace(told, content=Unknown("no answer"))
    assert plan(NOTHING, mesh.observed()).in_sync


async def test_a_kong_of_somebody_else_gives_way_to_the_api_gateway(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    assert mesh.kong is not None
    mesh.kong = replace(mesh.kong, pid=None)
    mesh.now += LONG_SECONDS
    assert (await mesh.settle(desired(FILES))).in_sync
    assert mesh.kong is not None and not routed(mesh) and ("http-route", "files") in mesh.entries
    # It is no ingress any more: a service that nobody wants does not stay for one that is silent.
    mesh.kong = replace(mesh.kong, content=Unknown("no answer"))
    assert (await mesh.settle(desired())).in_sync and not mesh.workloads


async def test_the_api_gateway_of_before_gives_way_to_kong(mesh: FakeMesh) -> None:
    await mesh.settle(desired(FILES))
    mesh.done.clear()
    assert (await mesh.settle(behind_kong(FILES))).in_sync
    # It holds the port that Kong is to have, and has no sidecar that an Envoy could be made for.
    mine = [type(action) for action in mesh.done if getattr(action, "instance_id", "") == INGRESS_ID]
    assert mine == [StopSidecar, StartKong, Register, StartSidecar]
    assert {kind for kind, name in mesh.entries if name == INGRESS} == {"service-defaults"}
    assert ("http-route", "files") not in mesh.entries and routed(mesh) == {"files"}


async def test_kong_gives_way_to_the_api_gateway(mesh: FakeMesh) -> None:
    await mesh.settle(behind_kong(FILES))
    mesh.now += LONG_SECONDS
    assert (await mesh.settle(desired(FILES))).in_sync
    assert mesh.kong is None and ("http-route", "files") in mesh.entries
    assert mesh.registrations[INGRESS_ID].sidecar_port is None


def test_entries_of_somebody_else_stop_the_ingress_with_a_word(mesh: FakeMesh) -> None:
    mesh.entries["service-defaults", INGRESS] = Entry("service-defaults", INGRESS, None, None)
    found = plan(behind_kong(FILES), mesh.observed())
    assert GROUP not in found.actions
    assert any("was not written by this mesh" in step.sentence for step in found.waiting)


@pytest.mark.parametrize("target", [behind_kong(FILES, TIME), behind_kong(TIME), desired(FILES, TIME), NOTHING])
@pytest.mark.parametrize("begin", [NOTHING, behind_kong(FILES, TIME), desired(FILES, TIME)])
async def test_an_agent_that_is_killed_before_any_call_is_followed_by_one_that_completes_its_plan(
    begin: DesiredState, target: DesiredState
) -> None:
    for calls in count():
        mesh = FakeMesh()
        await mesh.settle(begin)
        interrupted = await mesh.settle_interrupted(target, calls)
        assert plan(target, mesh.observed()) == Plan(), calls
        if not interrupted:
            return
