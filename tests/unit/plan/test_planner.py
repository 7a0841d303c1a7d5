"""Plans, followed to their end in a mesh in memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from tests.unit.plan.fake_mesh import LONG_SECONDS, FakeMesh
from tests.unit.plan.samples import INGRESS, MESH, NOTHING, desired, spec

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.observed_state import Entry, Intention, Stray, Unknown
from mcpmesh.model.service import Plain, Protocol
from mcpmesh.plan.action_groups import STRAYS, service_group
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
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan, plan

FILES = spec("files")
TIME = spec("time", instances=2)
DB = spec("db", route=None, allow=("files",))
CHANGED = replace(FILES, start=replace(FILES.start, args=("--more",)))


def kinds(mesh: FakeMesh) -> list[str]:
    return [type(action).__name__ for action in mesh.done]


async def test_a_plan_followed_to_its_end_is_followed_by_an_empty_plan() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES, TIME, DB))
    assert plan(desired(FILES, TIME, DB), mesh.observed()) == Plan()


async def test_policy_comes_first_and_the_route_last() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    mine = [action for action in mesh.done if INGRESS not in str(action) or isinstance(action, Allow)]
    order = [type(action) for action in mine]
    assert order == [
        WriteEntry, WriteEntry, WriteEntry, Allow, StartWorkload, WriteEntry, Register, StartSidecar, WriteEntry,
    ]  # fmt: skip
    assert mine[-1].payload["Kind"] == "http-route"  # type: ignore[union-attr]


@pytest.mark.parametrize("target", [desired(FILES, TIME, DB), desired(CHANGED, TIME), NOTHING])
@pytest.mark.parametrize("begin", [desired(FILES, TIME, DB), NOTHING])
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


async def test_a_mesh_that_goes_down_leaves_nothing_of_ours() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES, TIME, DB))
    await mesh.settle(NOTHING)
    assert (mesh.registrations, mesh.entries, mesh.intentions, mesh.workloads, mesh.sidecars) == (
        {},
        {},
        [],
        {},
        {},
    )


async def test_on_the_way_down_the_ingress_goes_before_any_service() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    mesh.done.clear()
    await mesh.settle(NOTHING)
    gateway = mesh.done.index(StopSidecar(f"{MESH}-{INGRESS}"))
    assert all(gateway < mesh.done.index(a) for a in mesh.done if isinstance(a, StopWorkload | DeleteEntry))


async def test_a_changed_instance_is_replaced_only_when_the_new_one_answers() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    old = next(iter(mesh.workloads))
    mesh.slow.add("files")
    last = await mesh.settle(desired(CHANGED))
    assert old in mesh.sidecars and not mesh.registrations[old].draining
    assert Step("files", f"keep {old} until the new instances answer", waiting=True) in last.waiting
    mesh.slow.clear()
    new = next(id_ for id_ in mesh.workloads if id_ != old)
    mesh.workloads[new] = replace(mesh.workloads[new], state="ready")
    await mesh.settle(desired(CHANGED))
    assert set(mesh.workloads) == set(mesh.sidecars) - {f"{MESH}-{INGRESS}"} == {new}


async def test_an_old_instance_drains_before_it_is_taken_away() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    old = next(iter(mesh.workloads))
    mesh.busy.add(old)
    for _ in range(5):
        await mesh.run_pass(desired(CHANGED))
    assert mesh.registrations[old].draining and old in mesh.sidecars and old in mesh.workloads
    mesh.busy.clear()
    mesh.done.clear()
    await mesh.settle(desired(CHANGED))
    assert mesh.done == [Deregister(old, f"{old}-sidecar"), StopSidecar(old), StopWorkload(old)]


async def test_a_change_of_tags_alone_restarts_nothing() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    mesh.done.clear()
    await mesh.settle(desired(replace(FILES, tags=("new",))))
    assert kinds(mesh) == ["Register"]


async def test_more_instances_leave_those_that_run_alone() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    mesh.done.clear()
    await mesh.settle(desired(replace(FILES, instances=3)))
    assert sorted(set(kinds(mesh))) == ["Register", "StartSidecar", "StartWorkload"]
    assert len(mesh.workloads) == 3 and not any(isinstance(a, Drain | StopWorkload | StopSidecar) for a in mesh.done)


async def test_an_unreadable_consul_deletes_nothing_and_stops_nothing() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES, TIME))
    blind = replace(mesh.observed(), registrations=Unknown("nobody answers"))
    found = plan(NOTHING, blind)
    assert not found.actions and not found.in_sync


def test_an_unreadable_consul_does_not_keep_a_workload_from_starting() -> None:
    found = plan(desired(FILES), replace(FakeMesh().observed(), intentions=Unknown("nobody answers")))
    assert [type(action) for action in found.actions[service_group("files")]] == [StartWorkload]


async def test_what_a_person_wrote_for_a_pair_stands() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    deny = Intention("theirs", INGRESS, "files", "deny", None)
    mesh.intentions = [deny]
    await mesh.settle(desired(FILES))
    await mesh.settle(NOTHING)
    assert mesh.intentions == [deny]


async def test_callers_connect_anew_once_when_what_is_said_of_a_service_changes() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES, TIME))
    mesh.done.clear()
    mesh.intentions.append(Intention("theirs", "stranger", "files", "deny", None))
    await mesh.settle(desired(FILES, TIME))
    assert [str(action) for action in mesh.done] == ["write service-resolver/files"]


async def test_an_intention_of_ours_that_is_no_longer_wanted_goes() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(DB))
    await mesh.settle(desired(replace(DB, allow=())))
    assert mesh.intentions == []


async def test_a_router_goes_before_its_service_turns_to_tcp() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(DB))
    mesh.done.clear()
    tcp = replace(DB, start=Plain(Protocol.TCP, command="db"))
    await mesh.settle(desired(tcp))
    assert mesh.done[0] == DeleteEntry("service-router", "db")
    assert ("service-router", "db") not in mesh.entries


async def test_an_entry_that_somebody_else_wrote_is_left_alone_and_named() -> None:
    mesh = FakeMesh()
    mesh.entries["service-defaults", "files"] = Entry("service-defaults", "files", None, None)
    last = await mesh.settle(desired(FILES, TIME))
    assert mesh.entries["service-defaults", "files"].owner is None
    assert not any(w.service == "files" for w in mesh.workloads.values())
    assert "was not written by this mesh" in next(s.sentence for s in last.waiting if s.service == "files")


async def test_a_registration_with_a_wrong_port_is_written_again() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    id_ = next(iter(mesh.workloads))
    mesh.registrations[id_] = replace(mesh.registrations[id_], port=1)
    mesh.done.clear()
    await mesh.settle(desired(FILES))
    assert kinds(mesh) == ["Register"] and mesh.registrations[id_].port == mesh.workloads[id_].port


async def test_a_shim_that_died_comes_back_at_its_ports() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    before = next(iter(mesh.workloads.values()))
    mesh.now += LONG_SECONDS
    mesh.workloads.clear()
    mesh.done.clear()
    await mesh.settle(desired(FILES))
    after = next(iter(mesh.workloads.values()))
    assert (before.port, before.sidecar_port) == (after.port, after.sidecar_port)
    assert kinds(mesh) == ["StartWorkload"]


async def test_an_address_that_died_with_its_instance_is_forgotten_before_another_starts() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    id_ = next(iter(mesh.workloads))
    mesh.registrations[id_] = replace(mesh.registrations[id_], sidecar_host="172.18.0.7")
    mesh.now += LONG_SECONDS
    mesh.workloads.clear()
    mesh.sidecars.pop(id_)
    mesh.done.clear()
    await mesh.settle(desired(FILES))
    assert kinds(mesh)[:3] == ["Deregister", "StartWorkload", "Register"]


async def test_an_envoy_that_does_not_answer_is_replaced() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    id_ = next(iter(mesh.workloads))
    stuck = replace(mesh.observed(), stuck_pids=frozenset({mesh.sidecars[id_].pid}))
    assert plan(desired(FILES), stuck).actions == {service_group("files"): (StopSidecar(id_),)}


async def test_one_service_that_waits_holds_up_no_other() -> None:
    mesh = FakeMesh()
    mesh.slow.add("files")
    last = await mesh.settle(desired(FILES, TIME))
    assert ("http-route", "time") in mesh.entries and ("http-route", "files") not in mesh.entries
    assert [step.service for step in last.waiting] == ["files"]


def test_a_held_instance_is_not_started_and_says_why() -> None:
    id_ = desired(FILES).services["files"].instances[0].id
    found = plan(desired(FILES), replace(FakeMesh().observed(), held_back={id_: "no such program"}))
    assert not any(isinstance(action, StartWorkload) for action in found.actions[service_group("files")])
    assert Step("files", "no such program", waiting=True) in found.waiting


def test_a_stray_process_is_ended() -> None:
    stray = Stray(42, "server", "test-files-1-0000")
    found = plan(desired(), replace(FakeMesh().observed(), strays=(stray,)))
    assert found.actions[STRAYS] == (EndStray(stray),)


async def test_a_sidecar_without_its_instance_is_taken_away() -> None:
    mesh = FakeMesh()
    await mesh.settle(desired(FILES))
    mesh.workloads.clear()
    mesh.registrations.clear()
    await mesh.settle(NOTHING)
    assert mesh.sidecars == {}
