"""Kong at the ingress, planned: order, drift, what it does not tell, and every point of interruption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.fake_mesh import INGRESS, MESH, NOTHING, World, behind_kong, desired, kong_document, spec

from mcpmesh.model.observed_state import Entry, KongContent, Unknown
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
from mcpmesh.plan.kong_setup import DOCUMENT
from mcpmesh.plan.planner import plan

FILES, TIME = spec("files"), spec("time")
ID = f"{MESH}-{INGRESS}"


@pytest.fixture
def world() -> World:
    return World()


def routed(world: World) -> set[str]:
    assert world.kong is not None and isinstance(world.kong.content, KongContent)
    return set(world.kong.content.ports)


def test_a_plan_applied_is_followed_by_an_empty_plan(world: World) -> None:
    assert world.settle(behind_kong(FILES, TIME)).in_sync
    assert routed(world) == {"files", "time"}


def test_kong_is_registered_once_it_listens_and_leads_somewhere_once_its_sidecar_does(world: World) -> None:
    world.settle(behind_kong(FILES))
    mine = [action for action in world.done if isinstance(action, (StartKong, Register, StartSidecar, PostDocument))]
    mine = [action for action in mine if isinstance(action, PostDocument) or action.instance_id == ID]
    kinds = [type(action) for action in mine]
    assert kinds.index(StartKong) < kinds.index(Register) < kinds.index(StartSidecar)
    assert [action.services for action in mine if isinstance(action, PostDocument)] == [(), ("files",)]


def test_a_service_that_does_not_serve_yet_has_no_route(world: World) -> None:
    world.slow = {"time"}
    world.settle(behind_kong(FILES, TIME))
    assert routed(world) == {"files"}


def test_a_route_stays_while_nobody_serves(world: World) -> None:
    target = behind_kong(FILES)
    world.settle(target)
    world.workloads.clear()
    assert DOCUMENT not in plan(target, world.observed()).actions


def test_a_document_of_somebody_else_is_replaced(world: World) -> None:
    target = behind_kong(FILES)
    world.settle(target)
    assert world.kong is not None
    world.kong = replace(world.kong, content=KongContent("theirs"))
    found = plan(target, world.observed())
    assert found.actions == {DOCUMENT: (PostDocument(kong_document({"files": 7000}), ("files",)),)}


def test_what_kong_does_not_tell_is_not_nothing(world: World) -> None:
    world.settle(behind_kong(FILES, TIME))
    assert world.kong is not None
    world.kong = replace(world.kong, content=Unknown("no answer"))
    found = plan(behind_kong(FILES, TIME), world.observed())
    assert not found.actions and "no answer" in found.waiting[0].sentence
    # Nor does the sidecar lose a listener that Kong may lead to.
    assert INGRESS not in plan(behind_kong(FILES), world.observed()).actions


def test_a_service_goes_after_its_route_and_its_listener_after_both(world: World) -> None:
    world.settle(behind_kong(FILES, TIME))
    world.done.clear()
    assert world.settle(behind_kong(FILES)).in_sync
    post = next(place for place, action in enumerate(world.done) if isinstance(action, PostDocument))
    gone = next(place for place, action in enumerate(world.done) if isinstance(action, Deregister))
    assert post < gone and routed(world) == {"files"} and world.upstreams == {7000}


def test_a_kong_that_died_is_started_and_handed_its_document(world: World) -> None:
    target = behind_kong(FILES)
    world.settle(target)
    world.done.clear()
    world.kong = None
    assert world.settle(target).in_sync
    assert [type(action) for action in world.done] == [StartKong, PostDocument]


def test_a_kong_that_does_not_answer_is_stopped(world: World) -> None:
    target = behind_kong(FILES)
    world.settle(target)
    assert world.kong is not None and world.kong.pid is not None
    world.kong = replace(world.kong, content=Unknown("no answer"))
    observed = replace(world.observed(), stuck=frozenset({world.kong.pid}))
    assert plan(target, observed).actions[INGRESS] == (StopKong(ID),)


@pytest.mark.parametrize("changed", [{"port": 8001}, {"digest": "of other settings"}])
def test_a_kong_that_was_started_otherwise_is_started_anew(world: World, changed: dict[str, Any]) -> None:
    target = behind_kong(FILES)
    world.settle(target)
    assert world.kong is not None
    world.kong = replace(world.kong, **changed)
    world.done.clear()
    assert world.settle(target).in_sync
    assert [type(action) for action in world.done] == [StopKong, StartKong, PostDocument]


def test_down_begins_with_kong_and_ends_with_nothing(world: World) -> None:
    world.settle(behind_kong(FILES))
    world.done.clear()
    assert world.settle(NOTHING).in_sync
    mine = [type(action) for action in world.done if getattr(action, "instance_id", ID) == ID]
    assert mine[0] is StopKong
    assert mine.index(StopSidecar) < mine.index(Deregister)
    assert (world.kong, world.sidecars, world.registrations, world.entries) == (None, {}, {}, {})


def test_on_the_way_down_kong_finishes_its_calls(world: World) -> None:
    world.settle(behind_kong(FILES))
    world.done.clear()
    world.busy = {ID}
    world.settle(NOTHING)
    assert world.done == [Drain(ID)] and world.kong is not None
    world.busy = set()
    assert world.settle(NOTHING).in_sync and StopKong(ID) in world.done


def test_a_kong_of_somebody_else_is_left_without_our_routes_and_running(world: World) -> None:
    world.settle(behind_kong(FILES))
    assert world.kong is not None
    world.kong = replace(world.kong, pid=None)
    world.done.clear()
    assert world.settle(NOTHING).in_sync
    assert world.done[0] == CloseKong() and world.kong is not None and not routed(world)
    assert not any(isinstance(action, StopKong) for action in world.done)


def test_a_service_stays_while_kong_does_not_tell_where_it_leads(world: World) -> None:
    world.settle(behind_kong(FILES, TIME))
    assert world.kong is not None
    told = world.kong
    world.kong = replace(told, content=Unknown("no answer"))
    found = plan(behind_kong(FILES), world.observed())
    assert not found.actions
    assert any(step.service == "time" and "no answer" in step.sentence for step in found.waiting)
    world.kong = told
    assert world.settle(behind_kong(FILES)).in_sync and routed(world) == {"files"}


def test_a_silent_kong_of_somebody_else_is_waited_for_on_the_way_down(world: World) -> None:
    world.settle(behind_kong(FILES))
    assert world.kong is not None
    told = replace(world.kong, pid=None)
    world.kong = replace(told, content=Unknown("no answer"))
    found = plan(NOTHING, world.observed())
    assert not found.actions and [step.service for step in found.waiting] == [INGRESS]
    world.kong = told
    world.done.clear()
    assert world.settle(NOTHING).in_sync and world.done[0] == CloseKong()
    # Gone for good, it holds nothing up.
    world.kong = replace(told, content=Unknown("no answer"))
    assert plan(NOTHING, world.observed()).in_sync


def test_a_kong_of_somebody_else_gives_way_to_the_api_gateway(world: World) -> None:
    world.settle(behind_kong(FILES))
    assert world.kong is not None
    world.kong = replace(world.kong, pid=None)
    assert world.settle(desired(FILES)).in_sync
    assert world.kong is not None and not routed(world) and ("http-route", "files") in world.entries
    # It is no ingress any more: a service that nobody wants does not stay for one that is silent.
    world.kong = replace(world.kong, content=Unknown("no answer"))
    assert world.settle(desired()).in_sync and not world.workloads


def test_the_api_gateway_of_before_gives_way_to_kong(world: World) -> None:
    world.settle(desired(FILES))
    world.done.clear()
    assert world.settle(behind_kong(FILES)).in_sync
    # It holds the port that Kong is to have, and has no sidecar that an Envoy could be made for.
    mine = [type(action) for action in world.done if getattr(action, "instance_id", "") == ID]
    assert mine == [StopSidecar, StartKong, Register, StartSidecar]
    assert {kind for kind, name in world.entries if name == INGRESS} == {"service-defaults"}
    assert ("http-route", "files") not in world.entries and routed(world) == {"files"}


def test_kong_gives_way_to_the_api_gateway(world: World) -> None:
    world.settle(behind_kong(FILES))
    assert world.settle(desired(FILES)).in_sync
    assert world.kong is None and ("http-route", "files") in world.entries
    assert world.registrations[ID].sidecar_port is None


def test_entries_of_somebody_else_stop_the_ingress_with_a_word(world: World) -> None:
    world.entries["service-defaults", INGRESS] = Entry("service-defaults", INGRESS, None, None)
    found = plan(behind_kong(FILES), world.observed())
    assert INGRESS not in found.actions
    assert any("was not written by this mesh" in step.sentence for step in found.waiting)


@pytest.mark.parametrize("goal", ["up", "down"])
def test_it_converges_from_every_interrupted_point(goal: str) -> None:
    target = behind_kong(FILES, TIME) if goal == "up" else NOTHING
    for stop_after in range(200):
        world = World()
        if goal == "down":
            world.settle(behind_kong(FILES, TIME))
        world.done.clear()
        if not _interrupted(world, stop_after, goal):
            return
        assert world.settle(target).in_sync, stop_after
        assert world.kong is None if goal == "down" else routed(world) == {"files", "time"}
    raise AssertionError("it never came to an end")


def _interrupted(world: World, actions: int, goal: str) -> bool:
    """Does so many actions; whether that was an interruption."""
    target = behind_kong(FILES, TIME) if goal == "up" else NOTHING
    for _ in range(60):
        found = plan(target, world.observed())
        if not found.actions:
            return False
        for actions in found.actions.values():
            for action in actions:
                if len(world.done) == actions:
                    return True
                world.do(action)
    return False
