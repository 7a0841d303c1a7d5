"""The loop of reconcile passes: what each pass does, when the next one follows, and what is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.fake_mesh import FakeMesh
from tests.unit.plan.samples import INGRESS_ID, NOTHING, behind_kong, desired, spec

from mcpmesh.errors import MeshError, SettingsError, Unreachable, WorkloadError
from mcpmesh.model.agent_reports import Level, Step
from mcpmesh.model.mesh_status import State
from mcpmesh.model.observed_state import Proof, Unknown
from mcpmesh.plan.action_groups import KONG_DOCUMENT, ActionGroup, ingress_group, service_group
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.observer import Observation
from mcpmesh.reconcile.process_index import ProcessIndex, kong_of
from mcpmesh.reconcile.reconcile_loop import ReconcileLoop

FILES, TIME = spec("files"), spec("time")
URL = "http://127.0.0.1:8000"


class FakeObserver:
    """Observes a fake mesh; raises `error` while it is set, and calls `meanwhile` once during an observation."""

    def __init__(self, mesh: FakeMesh) -> None:
        self.mesh = mesh
        self.error: MeshError | None = None
        self.meanwhile: Callable[[], None] | None = None
        self.change: dict[str, Any] = {}
        self.held_back: list[dict[str, str]] = []
        self.ended = asyncio.Event()
        self.waiting = asyncio.Event()

    async def observe(self, target: DesiredState, held_back: dict[str, str]) -> Observation:
        self.held_back.append(held_back)
        if self.error:
            raise self.error
        if self.meanwhile:
            self.meanwhile()
            self.meanwhile = None
        return Observation(replace(self.mesh.observed(target), **self.change), self.mesh.processes())

    async def wait_for_any_end(self, processes: ProcessIndex) -> None:
        self.waiting.set()
        await self.ended.wait()


class FakeApplier:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.failures: dict[ActionGroup, str] = {}
        self.forgotten: list[ActionGroup] = []
        self.applied: list[Plan] = []

    def held_back(self, target: DesiredState) -> dict[str, str]:
        return {"some-instance": "a reason"}

    def failure(self, group: ActionGroup) -> str:
        return self.failures.get(group, "")

    def forget(self, group: ActionGroup) -> None:
        self.forgotten.append(group)

    async def apply(self, plan: Plan, target: DesiredState, processes: ProcessIndex) -> None:
        self.applied.append(plan)


class FakeBudgets:
    """Counts the passes in which the budgets were set."""

    calls = 0

    async def apply(self, sidecars: Any) -> None:
        self.calls += 1


class Parts:
    """A loop over a fake mesh, and what it was made of."""

    def __init__(self, target: DesiredState = NOTHING, pass_seconds: float = 30.0) -> None:
        self.mesh = FakeMesh()
        self.observer: Any = FakeObserver(self.mesh)
        self.applier: Any = FakeApplier()
        self.budgets: Any = FakeBudgets()
        self.journal = Journal()
        self.loop = ReconcileLoop(target, self.observer, self.applier, self.budgets, self.journal, URL, pass_seconds)

    async def sentences(self) -> list[tuple[Level, str | None, str]]:
        """The journal."""
        return [(e.level, e.service, e.sentence) async for e in self.journal.follow(0, forever=False)]


@pytest.fixture
def parts() -> Parts:
    return Parts()


async def settled(target: DesiredState) -> Parts:
    """A loop over a mesh that is already as it should be."""
    parts = Parts(target)
    await parts.mesh.settle(target)
    return parts


@pytest.mark.parametrize("kind", [WorkloadError, SettingsError, Unreachable])
async def test_an_observation_that_fails_is_reported_once_and_tried_again(parts: Parts, kind: type[MeshError]) -> None:
    parts.observer.error = kind("cannot look")
    await parts.loop.run_pass()
    await parts.loop.run_pass()
    assert not parts.loop.in_sync and not parts.loop.passes
    assert parts.loop.plan == Plan(waiting=(Step("mesh", "cannot look", waiting=True),))
    assert await parts.sentences() == [(Level.TROUBLE, None, "cannot look")]
    parts.observer.error = None
    await parts.loop.run_pass()
    assert parts.loop.in_sync and parts.loop.passes == 1


async def test_after_a_resume_only_an_observation_since_then_says_that_all_is_well(parts: Parts) -> None:
    await parts.loop.run_pass()
    parts.loop.paused = True
    assert parts.loop.in_sync
    parts.observer.meanwhile = parts.loop.resume
    await parts.loop.run_pass()
    assert not parts.loop.paused and not parts.loop.in_sync
    await parts.loop.run_pass()
    assert parts.loop.in_sync


async def test_another_desired_state_is_not_in_sync_before_its_own_pass(parts: Parts) -> None:
    await parts.loop.run_pass()
    parts.loop.set_desired(replace(NOTHING))
    assert not parts.loop.in_sync
    await parts.loop.run_pass()
    assert parts.loop.in_sync


async def test_a_pass_applies_its_plan_with_what_waits_held_back() -> None:
    parts = Parts(desired(FILES))
    await parts.loop.run_pass()
    assert parts.applier.applied == [parts.loop.plan] and parts.loop.plan.actions
    assert parts.observer.held_back == [{"some-instance": "a reason"}]
    assert (parts.budgets.calls, parts.loop.passes) == (1, 1)


async def test_a_pass_without_actions_applies_nothing(parts: Parts) -> None:
    await parts.loop.run_pass()
    assert parts.applier.applied == [] and parts.budgets.calls == 1


async def test_a_paused_loop_observes_and_reports_but_applies_nothing() -> None:
    parts = Parts(desired(FILES))
    parts.loop.paused = True
    await parts.loop.run_pass()
    assert (parts.applier.applied, parts.budgets.calls) == ([], 0)
    assert [status.name for status in parts.loop.services] == ["files"]


async def test_in_sync_is_reported_when_it_comes_to_be_and_not_at_the_first_pass() -> None:
    parts = await settled(desired(FILES))
    await parts.loop.run_pass()
    parts.mesh.slow = {"time"}
    parts.loop.set_desired(desired(FILES, TIME))
    await parts.loop.run_pass()
    parts.loop.set_desired(desired(FILES))
    await parts.loop.run_pass()
    await parts.loop.run_pass()
    assert [e for e in await parts.sentences() if e[2] == "in sync"] == [(Level.DETAIL, None, "in sync")]


async def test_a_preview_shows_the_steps_and_does_nothing() -> None:
    parts = await settled(desired(FILES))
    await parts.loop.run_pass()
    steps = await parts.loop.preview(desired())
    (instance,) = parts.mesh.workloads
    assert Step("files", f"drain {instance}") in steps
    assert parts.loop.in_sync and parts.applier.applied == []


async def test_services_whose_spec_changed_are_tried_at_once(parts: Parts) -> None:
    parts.loop.set_desired(desired(FILES, TIME))
    parts.applier.forgotten.clear()
    parts.loop.set_desired(desired(FILES, replace(TIME, instances=2)))
    assert parts.applier.forgotten == [service_group("time"), KONG_DOCUMENT]


async def test_a_service_that_works_has_its_failures_forgotten() -> None:
    parts = await settled(desired(FILES, TIME))
    bad = next(id_ for id_, workload in parts.mesh.workloads.items() if workload.service == "time")
    parts.observer.change = {"proofs": {**parts.mesh.observed().proofs, bad: Proof(False, "HTTP 500")}}
    await parts.loop.run_pass()
    assert parts.applier.forgotten == [ingress_group("ingress"), KONG_DOCUMENT, service_group("files")]


async def test_the_failure_of_a_document_is_kept_while_it_is_to_be_posted() -> None:
    parts = await settled(behind_kong(FILES))
    parts.loop.set_desired(behind_kong())
    parts.applier.forgotten.clear()
    parts.mesh.kong = replace(parts.mesh.kong, listening=False)  # type: ignore[type-var]
    await parts.loop.run_pass()
    assert KONG_DOCUMENT in parts.loop.plan.actions and KONG_DOCUMENT not in parts.applier.forgotten


async def test_a_change_of_a_service_is_reported_once() -> None:
    parts = await settled(desired(FILES))
    await parts.loop.run_pass()
    await parts.loop.run_pass()
    assert await parts.sentences() == [(Level.CHANGE, "files", "ready, 1 of 1, 0 tools")]
    assert [(status.state, status.address) for status in parts.loop.services] == [(State.READY, f"{URL}/mcp/files")]


async def test_failures_are_reported_with_their_service() -> None:
    parts = Parts(desired(FILES))
    parts.applier.failures[service_group("files")] = "no such program"
    await parts.loop.run_pass()
    assert await parts.sentences() == [(Level.TROUBLE, "files", "failed: no such program")]


@pytest.mark.parametrize("target", [desired(FILES), behind_kong(FILES)])
async def test_the_ingress_is_ready_once_its_envoy_is_and_kong_listens(target: DesiredState) -> None:
    parts = await settled(target)
    assert not parts.loop.ingress_ready
    await parts.loop.run_pass()
    assert parts.loop.ingress_ready
    envoy = parts.mesh.sidecars[INGRESS_ID]
    parts.mesh.sidecars[INGRESS_ID] = replace(envoy, ready=False)
    await parts.loop.run_pass()
    assert not parts.loop.ingress_ready
    assert parts.loop.services[0].address is None
    del parts.mesh.sidecars[INGRESS_ID]
    await parts.loop.run_pass()
    assert not parts.loop.ingress_ready


@pytest.mark.parametrize("gone", [True, False])
async def test_without_a_listening_kong_its_ingress_is_not_ready(gone: bool) -> None:
    parts = await settled(behind_kong(FILES))
    parts.mesh.kong = None if gone else replace(parts.mesh.kong, listening=False)  # type: ignore[type-var]
    await parts.loop.run_pass()
    assert not parts.loop.ingress_ready


async def test_the_error_of_the_ingress_is_that_of_its_document_or_its_own(parts: Parts) -> None:
    assert parts.loop.ingress_error == ""
    parts.applier.failures[ingress_group("ingress")] = "port taken"
    assert parts.loop.ingress_error == "port taken"
    parts.applier.failures[KONG_DOCUMENT] = "refused"
    assert parts.loop.ingress_error == "refused"


async def test_consul_is_ready_while_it_can_be_read(parts: Parts) -> None:
    assert not parts.loop.consul_ready
    await parts.loop.run_pass()
    assert parts.loop.consul_ready
    parts.observer.change = {"registrations": Unknown("down")}
    await parts.loop.run_pass()
    assert not parts.loop.consul_ready


async def test_our_own_kong_is_that_of_the_latest_observation() -> None:
    parts = await settled(behind_kong(FILES))
    assert parts.loop.kong_process() is None
    await parts.loop.run_pass()
    assert parts.loop.kong_process() == parts.mesh.processes().get(kong_of(INGRESS_ID)) is not None


async def run_until(parts: Parts, passes: int) -> None:
    """Runs the loop until so many passes."""
    async with asyncio.timeout(10):
        await parts.loop.run(until=lambda: parts.loop.passes >= passes)


async def test_a_loop_in_sync_waits_for_a_request(parts: Parts) -> None:
    running = asyncio.create_task(run_until(parts, 2))
    await parts.observer.waiting.wait()
    assert parts.loop.passes == 1
    parts.loop.request_pass()
    await running
    assert parts.loop.passes == 2


async def test_a_loop_in_sync_passes_when_a_process_ends(parts: Parts) -> None:
    running = asyncio.create_task(run_until(parts, 2))
    await parts.observer.waiting.wait()
    parts.observer.ended.set()
    await running
    assert parts.loop.passes == 2


async def test_a_paused_loop_waits_although_there_is_something_to_do() -> None:
    parts = Parts(desired(FILES), pass_seconds=0.001)
    parts.loop.paused = True
    running = asyncio.create_task(run_until(parts, 2))
    await parts.observer.waiting.wait()
    done, _ = await asyncio.wait([running], timeout=0.05)
    assert not done
    parts.loop.resume()
    await running


async def test_a_loop_that_is_not_in_sync_passes_again_by_itself() -> None:
    parts = Parts(desired(FILES), pass_seconds=0.001)
    await run_until(parts, 5)
    assert len(parts.applier.applied) == 5


async def test_the_tasks_of_a_cancelled_loop_end(parts: Parts) -> None:
    running = asyncio.create_task(run_until(parts, 2))
    await parts.observer.waiting.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
