"""Plans, followed to their end in a world in memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from tests.unit.plan.fake_mesh import INGRESS, MESH, NOTHING, World, desired, spec

from mcpmesh.model.observed_state import Entry, Intention, Stray, Unknown
from mcpmesh.model.report_items import Step
from mcpmesh.model.service import Plain, Protocol
from mcpmesh.plan.actions import (
    Allow,
    DeleteEntry,
    Deregister,
    Drain,
    EndStray,
    Register,
    StartSidecar,
    StartWorkload,
    StopSidecar,
    StopWorkload,
    WriteEntry,
)
from mcpmesh.plan.planner import Plan, plan

FILES = spec("files")
TIME = spec("time", instances=2)
DB = spec("db", route=None, allow=("files",))
CHANGED = replace(FILES, start=replace(FILES.start, args=("--more",)))


def kinds(world: World) -> list[str]:
    return [type(action).__name__ for action in world.done]


def test_a_plan_followed_to_its_end_is_followed_by_an_empty_plan() -> None:
    world = World()
    world.settle(desired(FILES, TIME, DB))
    assert plan(desired(FILES, TIME, DB), world.observed()) == Plan()


def test_policy_comes_first_and_the_route_last() -> None:
    world = World()
    world.settle(desired(FILES))
    mine = [action for action in world.done if INGRESS not in str(action) or isinstance(action, Allow)]
    order = [type(action) for action in mine]
    assert order == [
        WriteEntry, WriteEntry, WriteEntry, Allow, StartWorkload, WriteEntry, Register, StartSidecar, WriteEntry,
    ]  # fmt: skip
    assert mine[-1].payload["Kind"] == "http-route"  # type: ignore[union-attr]


@pytest.mark.parametrize("target", [desired(FILES, TIME, DB), desired(CHANGED, TIME), NOTHING])
def test_every_interrupted_point_is_just_another_place_to_begin(target: object) -> None:
    for stop_after in count():
        world = World()
        world.settle(desired(FILES, TIME, DB))
        world.done.clear()
        interrupted = False
        while not interrupted and (found := plan(target, world.observed())).actions:  # type: ignore[arg-type]
            for actions in found.actions.values():
                for action in actions:
                    if len(world.done) == stop_after:
                        interrupted = True
                        break
                    world.do(action)
                if interrupted:
                    break
        world.settle(target)  # type: ignore[arg-type]
        assert not plan(target, world.observed()).actions  # type: ignore[arg-type]
        if not interrupted:
            return


def test_a_mesh_that_goes_down_leaves_nothing_of_ours() -> None:
    world = World()
    world.settle(desired(FILES, TIME, DB))
    world.settle(NOTHING)
    assert (world.registrations, world.entries, world.intentions, world.workloads, world.sidecars) == (
        {},
        {},
        [],
        {},
        {},
    )


def test_on_the_way_down_the_ingress_goes_before_any_service() -> None:
    world = World()
    world.settle(desired(FILES))
    world.done.clear()
    world.settle(NOTHING)
    gateway = world.done.index(StopSidecar(f"{MESH}-{INGRESS}"))
    assert all(gateway < world.done.index(a) for a in world.done if isinstance(a, StopWorkload | DeleteEntry))


def test_a_changed_instance_is_replaced_only_when_the_new_one_answers() -> None:
    world = World()
    world.settle(desired(FILES))
    old = next(iter(world.workloads))
    world.slow.add("files")
    last = world.settle(desired(CHANGED))
    assert old in world.sidecars and not world.registrations[old].draining
    assert Step("files", f"keep {old} until the new instances answer", waiting=True) in last.waiting
    world.slow.clear()
    new = next(id_ for id_ in world.workloads if id_ != old)
    world.workloads[new] = replace(world.workloads[new], state="ready")
    world.settle(desired(CHANGED))
    assert set(world.workloads) == set(world.sidecars) - {f"{MESH}-{INGRESS}"} == {new}


def test_an_old_instance_drains_before_it_is_taken_away() -> None:
    world = World()
    world.settle(desired(FILES))
    old = next(iter(world.workloads))
    world.busy.add(old)
    for _ in range(5):
        world.apply(plan(desired(CHANGED), world.observed()))
    assert world.registrations[old].draining and old in world.sidecars and old in world.workloads
    world.busy.clear()
    world.done.clear()
    world.settle(desired(CHANGED))
    assert world.done == [Deregister(old, f"{old}-sidecar"), StopSidecar(old), StopWorkload(old)]


def test_a_change_of_tags_alone_restarts_nothing() -> None:
    world = World()
    world.settle(desired(FILES))
    world.done.clear()
    world.settle(desired(replace(FILES, tags=("new",))))
    assert kinds(world) == ["Register"]


def test_more_instances_leave_those_that_run_alone() -> None:
    world = World()
    world.settle(desired(FILES))
    world.done.clear()
    world.settle(desired(replace(FILES, instances=3)))
    assert sorted(set(kinds(world))) == ["Register", "StartSidecar", "StartWorkload"]
    assert len(world.workloads) == 3 and not any(isinstance(a, Drain | StopWorkload | StopSidecar) for a in world.done)


def test_an_unreadable_consul_deletes_nothing_and_stops_nothing() -> None:
    world = World()
    world.settle(desired(FILES, TIME))
    blind = replace(world.observed(), registrations=Unknown("nobody answers"))
    found = plan(NOTHING, blind)
    assert not found.actions and not found.in_sync


def test_an_unreadable_consul_does_not_keep_a_workload_from_starting() -> None:
    found = plan(desired(FILES), replace(World().observed(), intentions=Unknown("nobody answers")))
    assert [type(action) for action in found.actions["files"]] == [StartWorkload]


def test_what_a_person_wrote_for_a_pair_stands() -> None:
    world = World()
    world.settle(desired(FILES))
    deny = Intention("theirs", INGRESS, "files", "deny", None)
    world.intentions = [deny]
    world.settle(desired(FILES))
    world.settle(NOTHING)
    assert world.intentions == [deny]


def test_callers_connect_anew_once_when_what_is_said_of_a_service_changes() -> None:
    world = World()
    world.settle(desired(FILES, TIME))
    world.done.clear()
    world.intentions.append(Intention("theirs", "stranger", "files", "deny", None))
    world.settle(desired(FILES, TIME))
    assert [str(action) for action in world.done] == ["write service-resolver/files"]


def test_an_intention_of_ours_that_is_no_longer_wanted_goes() -> None:
    world = World()
    world.settle(desired(DB))
    world.settle(desired(replace(DB, allow=())))
    assert world.intentions == []


def test_a_router_goes_before_its_service_turns_to_tcp() -> None:
    world = World()
    world.settle(desired(DB))
    world.done.clear()
    tcp = replace(DB, start=Plain(Protocol.TCP, command="db"))
    world.settle(desired(tcp))
    assert world.done[0] == DeleteEntry("service-router", "db")
    assert ("service-router", "db") not in world.entries


def test_an_entry_that_somebody_else_wrote_is_left_alone_and_named() -> None:
    world = World()
    world.entries["service-defaults", "files"] = Entry("service-defaults", "files", None, None)
    last = world.settle(desired(FILES, TIME))
    assert world.entries["service-defaults", "files"].owner is None
    assert not any(w.service == "files" for w in world.workloads.values())
    assert "was not written by this mesh" in next(s.sentence for s in last.waiting if s.service == "files")


def test_a_registration_with_a_wrong_port_is_written_again() -> None:
    world = World()
    world.settle(desired(FILES))
    id_ = next(iter(world.workloads))
    world.registrations[id_] = replace(world.registrations[id_], port=1)
    world.done.clear()
    world.settle(desired(FILES))
    assert kinds(world) == ["Register"] and world.registrations[id_].port == world.workloads[id_].port


def test_a_shim_that_died_comes_back_at_its_ports() -> None:
    world = World()
    world.settle(desired(FILES))
    before = next(iter(world.workloads.values()))
    world.workloads.clear()
    world.done.clear()
    world.settle(desired(FILES))
    after = next(iter(world.workloads.values()))
    assert (before.port, before.sidecar_port) == (after.port, after.sidecar_port)
    assert kinds(world) == ["StartWorkload"]


def test_an_address_that_died_with_its_instance_is_forgotten_before_another_starts() -> None:
    world = World()
    world.settle(desired(FILES))
    id_ = next(iter(world.workloads))
    world.registrations[id_] = replace(world.registrations[id_], sidecar_host="172.18.0.7")
    world.workloads.clear()
    world.sidecars.pop(id_)
    world.done.clear()
    world.settle(desired(FILES))
    assert kinds(world)[:3] == ["Deregister", "StartWorkload", "Register"]


def test_an_envoy_that_does_not_answer_is_replaced() -> None:
    world = World()
    world.settle(desired(FILES))
    id_ = next(iter(world.workloads))
    stuck = replace(world.observed(), stuck=frozenset({world.sidecars[id_].pid}))
    assert plan(desired(FILES), stuck).actions == {"files": (StopSidecar(id_),)}


def test_one_service_that_waits_holds_up_no_other() -> None:
    world = World()
    world.slow.add("files")
    last = world.settle(desired(FILES, TIME))
    assert ("http-route", "time") in world.entries and ("http-route", "files") not in world.entries
    assert [step.service for step in last.waiting] == ["files"]


def test_a_held_instance_is_not_started_and_says_why() -> None:
    id_ = desired(FILES).services["files"].instances[0].id
    found = plan(desired(FILES), replace(World().observed(), held={id_: "no such program"}))
    assert not any(isinstance(action, StartWorkload) for action in found.actions["files"])
    assert Step("files", "no such program", waiting=True) in found.waiting


def test_a_stray_process_is_ended() -> None:
    stray = Stray(42, "server", "test-files-1-0000")
    found = plan(desired(), replace(World().observed(), strays=(stray,)))
    assert found.actions["mesh"] == (EndStray(stray),)


def test_a_sidecar_without_its_instance_is_taken_away() -> None:
    world = World()
    world.settle(desired(FILES))
    world.workloads.clear()
    world.registrations.clear()
    world.settle(NOTHING)
    assert world.sidecars == {}
