"""The effect of each action: what is called, in which order, and what a failure in the middle leaves undone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.samples import INGRESS, INGRESS_ID, MESH, NOTHING, desired, kong_document, spec
from tests.unit.reconcile.recording import HOME, RecordingTargets

from mcpmesh.errors import Broken, MeshError, Unreachable, WorkloadError
from mcpmesh.kit.marked_process import Mark, Process
from mcpmesh.model.agent_reports import Level
from mcpmesh.model.observed_state import Intention, Stray
from mcpmesh.model.service import Timeouts
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
from mcpmesh.reconcile.process_index import EMPTY_INDEX, ProcessIndex, kong_of, sidecar_of, workload_of
from mcpmesh.workload.runtime import PreferredPorts

FILES = spec("files", timeouts=Timeouts(drain=7.0))
WANTED = desired(FILES)
(INSTANCE,) = WANTED.services["files"].instances
ID = INSTANCE.id
INTENTION = Intention("id", "notes", "files", "allow", MESH)
DOCUMENT = kong_document({"files": 7000})


def process(pid: int, role: str, instance: str = ID, service: str = "files", admin: int = 19000) -> Process:
    ports = {"public": 20001, "admin": admin}
    return Process(pid, Mark(MESH, str(HOME), role, instance, service, ports=ports, drain=33.0))


SHIM, ENVOY = process(10, "shim"), process(11, "sidecar")
GATEWAY, KONG = process(12, "gateway", INGRESS_ID, INGRESS, 19001), process(13, "kong", INGRESS_ID, INGRESS)
STRAY = process(14, "server")
RUNNING = ProcessIndex(
    {workload_of(ID): SHIM, sidecar_of(ID): ENVOY, sidecar_of(INGRESS_ID): GATEWAY},
    {p.pid: p for p in (SHIM, ENVOY, GATEWAY, STRAY)},
)
WITH_KONG = ProcessIndex({**RUNNING.main, kong_of(INGRESS_ID): KONG}, {})


@pytest.fixture
def targets() -> RecordingTargets:
    return RecordingTargets()


PLAIN_ACTIONS: list[tuple[Action, list[tuple[Any, ...]]]] = [
    (WriteEntry({"Kind": "k", "Name": "n"}), [("consul.write_entry", {"Kind": "k", "Name": "n"})]),
    (DeleteEntry("http-route", "files"), [("consul.delete_entry", "http-route", "files", MESH)]),
    (Allow("notes", "files"), [("consul.allow", "notes", "files", MESH)]),
    (Revoke(INTENTION), [("consul.revoke", INTENTION, MESH)]),
    (Register(ID, ({"ID": ID}, {"ID": "sidecar"})), [("consul.register", ({"ID": ID}, {"ID": "sidecar"}))]),
    (Deregister(ID, f"{ID}-sidecar"), [("consul.deregister", f"{ID}-sidecar"), ("consul.deregister", ID)]),
    (Deregister(ID, None), [("consul.deregister", ID)]),
    (Drain(ID), [("consul.drain", ID, "mcpmesh drains it")]),
    (Drain(INGRESS_ID), [("envoys.drain", "127.0.0.1:19001")]),
    (StopSidecar(ID), [("envoys.quit", "127.0.0.1:19000"), ("runtime.stop_envoy", ENVOY)]),
    (StopWorkload(ID), [("runtime.stop", SHIM, 7.0)]),
    (EndStray(Stray(14, "server", ID)), [("runtime.end", STRAY, 2.0)]),
    (CloseKong(), [("kong.close_routes",)]),
    (PostDocument(DOCUMENT, ("files",)), [("kong.post", None, DOCUMENT)]),
]


@pytest.mark.parametrize(("action", "calls"), PLAIN_ACTIONS, ids=lambda item: type(item).__name__)
async def test_an_action_makes_these_calls_in_this_order_each_time(
    targets: RecordingTargets, action: Action, calls: list[tuple[Any, ...]]
) -> None:
    await targets.executor.execute(action, WANTED, RUNNING)
    assert targets.calls == calls
    await targets.executor.execute(action, WANTED, RUNNING)
    assert targets.calls == calls * 2


@pytest.mark.parametrize(
    ("action", "calls"),
    [(action, calls) for action, calls in PLAIN_ACTIONS if not isinstance(action, StopSidecar)],
    ids=lambda item: type(item).__name__,
)
async def test_a_call_that_fails_ends_its_action(
    targets: RecordingTargets, action: Action, calls: list[tuple[Any, ...]]
) -> None:
    targets.answers[calls[0][0]] = Broken("cannot")
    with pytest.raises(Broken):
        await targets.executor.execute(action, WANTED, RUNNING)
    assert targets.calls == calls[:1]


@pytest.mark.parametrize(
    "action", [StopSidecar(ID), StopWorkload(ID), StopKong(INGRESS_ID), EndStray(Stray(14, "server", ID))]
)
async def test_what_has_ended_meanwhile_is_not_stopped(targets: RecordingTargets, action: Action) -> None:
    await targets.executor.execute(action, WANTED, EMPTY_INDEX)
    assert targets.calls == []


@pytest.mark.parametrize("error", [Unreachable("gone"), Broken("HTTP 500")])
async def test_an_envoy_that_does_not_answer_is_ended_all_the_same(targets: RecordingTargets, error: MeshError) -> None:
    targets.answers["envoys.quit"] = error
    await targets.executor.execute(StopSidecar(ID), WANTED, RUNNING)
    assert targets.called() == ["envoys.quit", "runtime.stop_envoy"]


async def test_an_instance_of_an_unwanted_service_has_the_time_of_its_mark(targets: RecordingTargets) -> None:
    await targets.executor.execute(StopWorkload(ID), NOTHING, RUNNING)
    assert targets.calls == [("runtime.stop", SHIM, 33.0)]


async def test_kong_drains_in_place_of_its_sidecar(targets: RecordingTargets) -> None:
    await targets.executor.execute(Drain(INGRESS_ID), WANTED, WITH_KONG)
    assert targets.calls == [("kong.drain", KONG)] and targets.drains.is_draining(INGRESS_ID)


async def test_the_drain_of_an_ingress_is_noted_even_where_it_has_ended(targets: RecordingTargets) -> None:
    await targets.executor.execute(Drain(INGRESS_ID), WANTED, EMPTY_INDEX)
    assert targets.calls == [] and targets.drains.is_draining(INGRESS_ID)


async def test_the_drain_of_an_instance_is_noted_in_consul_alone(targets: RecordingTargets) -> None:
    await targets.executor.execute(Drain(ID), WANTED, RUNNING)
    assert not targets.drains.is_draining(ID)


async def test_our_own_kong_is_stopped_and_gets_its_document(targets: RecordingTargets) -> None:
    await targets.executor.execute(PostDocument(DOCUMENT, ()), WANTED, WITH_KONG)
    await targets.executor.execute(StopKong(INGRESS_ID), WANTED, WITH_KONG)
    assert targets.calls == [("kong.post", KONG, DOCUMENT), ("kong.end", KONG)]


@pytest.mark.parametrize("lost", [True, False])
async def test_a_document_that_kong_had_lost_is_reported(targets: RecordingTargets, lost: bool) -> None:
    targets.answers["kong.post"] = lost
    await targets.executor.execute(PostDocument(DOCUMENT, ()), WANTED, WITH_KONG)
    events = [(e.level, e.service, e.sentence) async for e in targets.journal.follow(0, forever=False)]
    expected = (Level.CHANGE, "kong document", "Kong had another document; it has ours again")
    assert events == ([expected] if lost else [])


async def test_a_workload_starts_at_the_ports_that_it_is_registered_with(targets: RecordingTargets) -> None:
    targets.claims.external_sidecar_port("other")
    taken = targets.claims.claimed()
    await targets.executor.execute(StartWorkload(INSTANCE, 20001, 20002), WANTED, RUNNING)
    await targets.executor.execute(StartWorkload(replace(INSTANCE, ordinal=2)), WANTED, EMPTY_INDEX)
    assert targets.calls == [
        ("runtime.start", FILES, INSTANCE, PreferredPorts(20001, 20002, envoy_runs=True), taken),
        ("runtime.start", FILES, replace(INSTANCE, ordinal=2), PreferredPorts(None, None, envoy_runs=False), taken),
    ]


@pytest.mark.parametrize(
    ("action", "role", "instance", "service"),
    [
        (StartSidecar(ID, f"{ID}-sidecar", "files", 20002), "sidecar", ID, "files"),
        (StartSidecar(INGRESS_ID, INGRESS_ID, INGRESS, 8000, gateway=True), "gateway", INGRESS_ID, INGRESS),
    ],
)
async def test_an_envoy_starts_with_a_mark_of_its_role(
    targets: RecordingTargets, action: StartSidecar, role: str, instance: str, service: str
) -> None:
    await targets.executor.execute(action, WANTED, RUNNING)
    assert targets.called() == ["runtime.is_free", "runtime.start_envoy"]
    mark = targets.calls[1][1].mark
    assert mark == Mark(MESH, str(HOME), role, instance, service, ports={"public": action.port})


async def test_kong_starts_after_what_an_earlier_one_left_is_ended(targets: RecordingTargets) -> None:
    await targets.executor.execute(StartKong(INGRESS_ID, INGRESS, 8000), WANTED, RUNNING)
    assert targets.calls == [
        ("kong.end_leftover",),
        ("kong.port_is_free", 8000),
        ("kong.start", INGRESS_ID, 8000, set()),
    ]


STARTS: list[tuple[Action, str, str]] = [
    (
        StartWorkload(INSTANCE),
        "runtime.start",
        f"cannot keep {ID} running: it ended at once; its last words: out of memory",
    ),
    (
        StartSidecar(ID, f"{ID}-sidecar", "files", 20002),
        "runtime.start_envoy",
        f"cannot keep the Envoy of {ID} running: it ended at once; its last words: out of memory",
    ),
    (
        StartKong(INGRESS_ID, INGRESS, 8000),
        "kong.start",
        "cannot keep Kong running: it ended at once; its last words: bad plugin",
    ),
]


@pytest.mark.parametrize(("action", "call", "message"), STARTS)
async def test_a_program_that_ended_within_five_seconds_is_a_failure_once(
    targets: RecordingTargets, action: Action, call: str, message: str
) -> None:
    await targets.executor.execute(action, WANTED, RUNNING)
    targets.now += 4.9
    with pytest.raises(WorkloadError) as raised:
        await targets.executor.execute(action, WANTED, RUNNING)
    assert str(raised.value) == message
    await targets.executor.execute(action, WANTED, RUNNING)
    assert targets.called().count(call) == 2


@pytest.mark.parametrize(("action", "call", "message"), STARTS)
async def test_a_program_that_ran_for_five_seconds_starts_again(
    targets: RecordingTargets, action: Action, call: str, message: str
) -> None:
    for _ in range(2):
        await targets.executor.execute(action, WANTED, RUNNING)
        targets.now += 5.0
    assert targets.called().count(call) == 2


@pytest.mark.parametrize(("action", "call", "message"), STARTS)
async def test_a_start_that_failed_does_not_count_as_a_program_that_ended(
    targets: RecordingTargets, action: Action, call: str, message: str
) -> None:
    targets.answers[call] = WorkloadError("no such program")
    for _ in range(2):
        with pytest.raises(WorkloadError, match=r"^no such program$"):
            await targets.executor.execute(action, WANTED, RUNNING)


async def test_the_log_of_an_envoy_is_named_by_its_role(targets: RecordingTargets) -> None:
    gateway = StartSidecar(INGRESS_ID, INGRESS_ID, INGRESS, 8000, gateway=True)
    for action in (gateway, STARTS[1][0], STARTS[0][0]):
        await targets.executor.execute(action, WANTED, RUNNING)
        with pytest.raises(WorkloadError):
            await targets.executor.execute(action, WANTED, RUNNING)
    logs = [call[1] for call in targets.calls if call[0] == "runtime.last_log_line"]
    assert logs == [f"{INGRESS_ID}.gateway", f"{ID}.sidecar", ID]


async def test_an_instance_whose_port_was_taken_is_stopped_and_gets_another(targets: RecordingTargets) -> None:
    targets.answers["runtime.is_free"] = False
    port = targets.claims.external_sidecar_port(ID)
    with pytest.raises(WorkloadError, match=f"cannot start the sidecar of {ID}: .* port 20002; choosing another"):
        await targets.executor.execute(StartSidecar(ID, f"{ID}-sidecar", "files", 20002), WANTED, RUNNING)
    assert targets.calls == [("runtime.is_free", 20002), ("consul.deregister", ID), ("runtime.stop", SHIM, 0)]
    assert port not in targets.claims.claimed()


async def test_an_external_service_whose_port_was_taken_is_only_deregistered(targets: RecordingTargets) -> None:
    targets.answers["runtime.is_free"] = False
    with pytest.raises(WorkloadError, match="choosing another"):
        await targets.executor.execute(StartSidecar(ID, f"{ID}-sidecar", "files", 20002), WANTED, EMPTY_INDEX)
    assert targets.called() == ["runtime.is_free", "consul.deregister"]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (StartSidecar(INGRESS_ID, INGRESS_ID, INGRESS, 8000, gateway=True), "cannot open the ingress at port 8000"),
        (StartSidecar(INGRESS_ID, "x", INGRESS, 6000), "cannot start the sidecar of the ingress: .* port 6000"),
        (StartKong(INGRESS_ID, INGRESS, 8000), "cannot open the ingress at port 8000: .* MCPMESH_INGRESS__PORT"),
    ],
)
async def test_an_ingress_whose_port_was_taken_names_it_and_changes_nothing(
    targets: RecordingTargets, action: Action, message: str
) -> None:
    targets.answers |= {"runtime.is_free": False, "kong.port_is_free": False}
    with pytest.raises(WorkloadError, match=message):
        await targets.executor.execute(action, WANTED, RUNNING)
    assert set(targets.called()) <= {"runtime.is_free", "kong.port_is_free", "kong.end_leftover"}
