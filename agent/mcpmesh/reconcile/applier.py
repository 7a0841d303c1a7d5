"""Application of a plan: each group's actions in order, the groups side by side.

A failed action ends its group for this pass. The group then waits, longer after
each failure; no other group is held up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from mcpmesh.errors import MeshError
from mcpmesh.kit.backoff import Backoff
from mcpmesh.model.agent_reports import Level
from mcpmesh.plan.action_groups import ActionGroup, ingress_group, service_group
from mcpmesh.plan.actions import Action
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.process_index import ProcessIndex

# One bootstrap and a few starts at once keep two cores busy.
_GROUPS_AT_ONCE = 4


class Executor(Protocol):
    """Executes single actions; raises MeshError where one fails."""

    async def execute(self, action: Action, desired: DesiredState, processes: ProcessIndex) -> None: ...


class Applier:
    """Applies plans; remembers failures only to wait and to report them."""

    def __init__(self, executor: Executor, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._executor = executor
        self._journal = journal
        self._backoff = Backoff(clock)
        self._failures: dict[ActionGroup, str] = {}
        self._limit = asyncio.Semaphore(_GROUPS_AT_ONCE)

    def held_back(self, desired: DesiredState) -> dict[str, str]:
        """The instances (and the ingress) that wait for the next try, with the reason."""
        ids = {service_group(name): [i.id for i in wanted.instances] for name, wanted in desired.services.items()}
        ids[ingress_group(desired.ingress_service)] = [desired.ingress_id]
        return {
            id_: failure
            for group, failure in self._failures.items()
            if self._backoff.waiting(group) > 0
            for id_ in ids.get(group, ())
        }

    def failure(self, group: ActionGroup) -> str:
        """Why the latest action of a group failed; "" when none did."""
        return self._failures.get(group, "")

    def forget(self, group: ActionGroup) -> None:
        """Lets a group be tried at once: it works now, or what is wanted of it changed."""
        self._backoff.succeeded(group)
        self._failures.pop(group, None)

    async def apply(self, plan: Plan, desired: DesiredState, processes: ProcessIndex) -> None:
        """Executes all actions; returns when each has succeeded, failed or been held up."""
        await asyncio.gather(
            *(self._apply_group(group, actions, desired, processes) for group, actions in plan.actions.items())
        )

    async def _apply_group(
        self, group: ActionGroup, actions: Sequence[Action], desired: DesiredState, processes: ProcessIndex
    ) -> None:
        if self._backoff.waiting(group) > 0:
            return
        async with self._limit:
            for action in actions:
                try:
                    await self._executor.execute(action, desired, processes)
                except MeshError as error:
                    self._note_failure(group, str(error))
                    return
                self._journal.record(Level.DETAIL, str(action), str(group))

    def _note_failure(self, group: ActionGroup, failure: str) -> None:
        """Remembers a failure, and reports it unless it is the same as the time before."""
        wait = self._backoff.failed(group)
        if self._failures.get(group) != failure:
            self._journal.record(Level.TROUBLE, f"{failure} (next try in {wait:.0f} s)", str(group))
        self._failures[group] = failure
