"""How a plan is applied: order, failures, waiting."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.samples import INGRESS, INGRESS_ID, desired, spec

from mcpmesh.errors import MeshError, Refused, Unreachable
from mcpmesh.model.agent_reports import Level
from mcpmesh.plan.action_groups import KONG_DOCUMENT, STRAYS, ActionGroup, ingress_group, service_group
from mcpmesh.plan.actions import Action, Allow, Drain, StopWorkload
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan
from mcpmesh.reconcile.applier import Applier
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.process_index import EMPTY_INDEX, ProcessIndex

WANTED = desired(spec("files", instances=2), spec("time"))
FILES, TIME, INGRESS_GROUP = service_group("files"), service_group("time"), ingress_group(INGRESS)
ONE, TWO = Allow("one", "files"), Allow("two", "files")
OTHER = Allow("one", "time")


class Fake:
    """An applier over an executor that notes actions, fails those in `errors`, and waits while `gate` is closed."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.done: list[Action] = []
        self.errors: dict[Action, MeshError | ValueError] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most = 0
        self.journal = Journal()
        self.applier = Applier(self, self.journal, lambda: self.now)

    async def execute(self, action: Action, target: DesiredState, processes: ProcessIndex) -> None:
        assert target is WANTED and processes is EMPTY_INDEX
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        self.running -= 1
        if action in self.errors:
            raise self.errors[action]
        self.done.append(action)

    async def apply(self, actions: dict[ActionGroup, tuple[Action, ...]]) -> None:
        await self.applier.apply(Plan(actions), WANTED, EMPTY_INDEX)

    async def events(self, level: Level) -> list[tuple[str | None, str]]:
        found = self.journal.follow(0, forever=False)
        return [(event.service, event.sentence) async for event in found if event.level is level]


@pytest.fixture
def fake() -> Fake:
    return Fake()


async def test_the_actions_of_a_group_are_executed_in_order_and_recorded(fake: Fake) -> None:
    await fake.apply({FILES: (ONE, TWO), STRAYS: (OTHER,)})
    assert [action for action in fake.done if action is not OTHER] == [ONE, TWO] and OTHER in fake.done
    details = await fake.events(Level.DETAIL)
    assert sorted(details, key=str) == [
        ("files", "allow one => files"),
        ("files", "allow two => files"),
        ("mesh", "allow one => time"),
    ]


async def test_a_failed_action_holds_up_its_group_alone(fake: Fake) -> None:
    fake.errors = {ONE: Refused("ACL")}
    await fake.apply({FILES: (ONE, TWO), TIME: (OTHER,)})
    assert fake.done == [OTHER]
    assert fake.applier.failure(FILES) == "ACL" and fake.applier.failure(TIME) == ""


async def test_a_group_that_failed_is_not_tried_again_before_its_time(fake: Fake) -> None:
    fake.errors = {ONE: Unreachable("away")}
    for pause in (1.0, 2.0, 4.0):
        await fake.apply({FILES: (ONE,)})
        fake.errors, before = {}, fake.now
        fake.now = before + pause - 0.1
        await fake.apply({FILES: (ONE,)})
        assert fake.done == []
        fake.now = before + pause
        fake.errors = {ONE: Unreachable("away")}
    fake.errors = {}
    await fake.apply({FILES: (ONE,)})
    assert fake.done == [ONE]


async def test_a_failure_is_reported_again_only_when_it_changes(fake: Fake) -> None:
    for message in ("away", "away", "ACL", "away"):
        fake.errors = {ONE: Unreachable(message)}
        await fake.apply({FILES: (ONE,)})
        fake.now += 100.0
    assert await fake.events(Level.TROUBLE) == [
        ("files", "away (next try in 1 s)"),
        ("files", "ACL (next try in 4 s)"),
        ("files", "away (next try in 8 s)"),
    ]


async def test_a_group_is_tried_at_once_after_it_was_forgotten(fake: Fake) -> None:
    fake.errors = {ONE: Unreachable("away")}
    await fake.apply({FILES: (ONE,)})
    fake.applier.forget(FILES)
    assert fake.applier.failure(FILES) == "" and fake.applier.held_back(WANTED) == {}
    fake.errors = {}
    await fake.apply({FILES: (ONE,)})
    assert fake.done == [ONE]


async def test_what_waits_is_held_back_with_its_reason_until_its_time(fake: Fake) -> None:
    fake.errors = {ONE: Refused("ACL"), TWO: Refused("port taken"), OTHER: Refused("no matter")}
    await fake.apply({FILES: (ONE,), INGRESS_GROUP: (TWO,), KONG_DOCUMENT: (OTHER,), service_group("gone"): (OTHER,)})
    ids = [instance.id for instance in WANTED.services["files"].instances]
    assert fake.applier.held_back(WANTED) == {ids[0]: "ACL", ids[1]: "ACL", INGRESS_ID: "port taken"}
    fake.now += 1.0
    assert fake.applier.held_back(WANTED) == {}


async def test_a_service_and_an_ingress_of_one_name_are_two_groups(fake: Fake) -> None:
    fake.errors = {ONE: Refused("ACL")}
    await fake.apply({service_group(INGRESS): (ONE,), INGRESS_GROUP: (TWO,)})
    assert fake.done == [TWO] and fake.applier.held_back(WANTED) == {}


async def test_four_groups_run_at_once(fake: Fake) -> None:
    fake.gate.clear()
    groups: dict[ActionGroup, tuple[Action, ...]] = {
        service_group(str(number)): (Drain(str(number)), StopWorkload(str(number))) for number in range(9)
    }
    applying = asyncio.create_task(fake.apply(groups))
    async with asyncio.timeout(5):
        while fake.running < 4:
            await asyncio.sleep(0)
    fake.gate.set()
    await applying
    assert fake.most == 4 and len(fake.done) == 18


async def test_a_bug_is_no_failure_of_a_group(fake: Fake) -> None:
    fake.errors = {ONE: ValueError("a bug")}
    with pytest.raises(ValueError, match="a bug"):
        await fake.apply({FILES: (ONE,)})


async def test_groups_of_services_that_are_not_wanted_hold_nothing_back(fake: Fake) -> None:
    fake.errors = {ONE: Refused("ACL")}
    await fake.apply({FILES: (ONE,)})
    without: Any = replace(WANTED, services={"time": WANTED.services["time"]})
    assert fake.applier.held_back(without) == {}
