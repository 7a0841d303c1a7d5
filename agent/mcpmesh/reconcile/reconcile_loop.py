"""The loop of reconcile passes: observe, plan, report, apply.

A pass follows a change, and regularly without one (`request_pass`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from mcpmesh.errors import MeshError
from mcpmesh.kit.marked_process import Process
from mcpmesh.model.agent_reports import Level, Step
from mcpmesh.model.mesh_status import ServiceStatus, State
from mcpmesh.model.observed_state import ObservedState, Unknown
from mcpmesh.plan.action_groups import KONG_DOCUMENT, ingress_group, service_group
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.planner import Plan, plan
from mcpmesh.reconcile.applier import Applier
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.observer import Observer
from mcpmesh.reconcile.process_index import EMPTY_INDEX, kong_of
from mcpmesh.reconcile.retry_budgets import RetryBudgets
from mcpmesh.reconcile.status_events import status_event
from mcpmesh.reconcile.status_report import service_statuses

# While something is to be done or waited for, the next pass follows soon; the
# pauses grow by this factor as long as the plan stays the same.
_FIRST_PAUSE_SECONDS = 0.2
_PAUSE_FACTOR = 1.3


class ReconcileLoop:
    """Brings the mesh to `desired`, one pass at a time; once in sync, it waits for a change."""

    def __init__(
        self,
        desired: DesiredState,
        observer: Observer,
        applier: Applier,
        retry_budgets: RetryBudgets,
        journal: Journal,
        ingress_url: str,
        pass_seconds: float,
    ) -> None:
        self.desired = desired
        self.paused = False
        self.plan = Plan()
        self.services: list[ServiceStatus] = []
        self.observed: ObservedState | None = None
        self.passes = 0
        self._observer = observer
        self._applier = applier
        self._retry_budgets = retry_budgets
        self._journal = journal
        self._ingress_url = ingress_url
        self._pass_seconds = pass_seconds
        self._processes = EMPTY_INDEX
        # What the latest plan was made for: the desired state, and the number of resumes before it was observed.
        self._planned: DesiredState | None = None
        self._planned_resumes = 0
        self._resumes = 0
        self._requested = asyncio.Event()
        self._pause = _FIRST_PAUSE_SECONDS

    def request_pass(self) -> None:
        """Asks for a pass now."""
        self._requested.set()

    def notify_change(self) -> None:
        """Asks for a pass now, and for more of them soon: something has changed."""
        self._pause = _FIRST_PAUSE_SECONDS
        self._requested.set()

    def resume(self) -> None:
        """Ends the pause. What was observed before it says nothing about the present."""
        self.paused = False
        self._resumes += 1
        self.notify_change()

    def set_desired(self, desired: DesiredState) -> None:
        """Changes the desired state; services whose spec changed are tried at once."""
        for name, wanted in desired.services.items():
            before = self.desired.services.get(name)
            if before is None or before.spec != wanted.spec:
                self._applier.forget(service_group(name))
        self._applier.forget(KONG_DOCUMENT)
        self.desired = desired
        self.notify_change()

    async def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Runs passes until `until` holds after one."""
        while True:
            self._requested.clear()
            await self.run_pass()
            if until():
                return
            await self._wait_for_next_pass()

    def kong_process(self) -> Process | None:
        """Our own Kong, as of the latest observation."""
        return self._processes.get(kong_of(self.desired.ingress_id))

    @property
    def in_sync(self) -> bool:
        """Whether the latest pass found nothing to do, for the present desired state and since the latest resume."""
        return self._planned is self.desired and self._planned_resumes == self._resumes and self.plan.in_sync

    @property
    def ingress_ready(self) -> bool:
        """Whether the ingress runs and listens."""
        if self.observed is None:
            return False
        envoy, kong = self.observed.sidecars.get(self.desired.ingress_id), self.observed.kong
        needs_kong = self.desired.ingress is not None and self.desired.ingress.kong is not None
        listens = not needs_kong or (kong is not None and kong.listening)
        return listens and envoy is not None and envoy.ready

    @property
    def ingress_error(self) -> str:
        """Why the ingress, or Kong's document, could not be brought up to date; "" where it could."""
        ingress = ingress_group(self.desired.ingress_service)
        return self._applier.failure(KONG_DOCUMENT) or self._applier.failure(ingress)

    @property
    def consul_ready(self) -> bool:
        """Whether the latest observation could read Consul."""
        return self.observed is not None and not isinstance(self.observed.registrations, Unknown)

    async def preview(self, desired: DesiredState) -> list[Step]:
        """What the next pass would do for another desired state; nothing is done."""
        observation = await self._observer.observe(self.desired, {})
        return plan(desired, observation.state).steps()

    async def run_pass(self) -> None:
        """One pass."""
        desired, before, resumes = self.desired, self.plan, self._resumes
        try:
            observation = await self._observer.observe(desired, self._applier.held_back(desired))
        except MeshError as error:
            self._note_failed_observation(str(error))
            return
        observed, self._processes = observation.state, observation.processes
        self.plan, self.observed = plan(desired, observed), observed
        self._planned, self._planned_resumes = desired, resumes
        self._report(desired, observed)
        if self.plan.steps() != before.steps():
            self._pause = _FIRST_PAUSE_SECONDS
        if not self.paused:
            await self._retry_budgets.apply(observed.sidecars.values())
            if self.plan.actions:
                await self._applier.apply(self.plan, desired, observation.processes)
        if self.plan.in_sync and not before.in_sync and self.passes:
            self._journal.record(Level.DETAIL, "in sync")
        self.passes += 1

    def _note_failed_observation(self, reason: str) -> None:
        """Nothing is known of what runs, so nothing is done; the latest status stays."""
        step = Step("mesh", reason, waiting=True)
        if step not in self.plan.waiting:
            self._journal.record(Level.TROUBLE, reason)
        self.plan = Plan(waiting=(step,))

    def _report(self, desired: DesiredState, observed: ObservedState) -> None:
        """Brings the status up to date, and records what changed; forgets the failures of what works now."""
        if self.ingress_ready:
            self._applier.forget(ingress_group(desired.ingress_service))
        if KONG_DOCUMENT not in self.plan.actions:
            self._applier.forget(KONG_DOCUMENT)
        before = {status.name: status for status in self.services}
        failures = {name: self._applier.failure(service_group(name)) for name in desired.services}
        self.services = service_statuses(desired, observed, failures, self._ingress_url if self.ingress_ready else None)
        for status in self.services:
            if status.state is State.READY:
                self._applier.forget(service_group(status.name))
            if event := status_event(before.get(status.name), status):
                self._journal.record(*event, status.name)

    async def _wait_for_next_pass(self) -> None:
        """Waits until a pass is requested, a process of ours ends or, unless in sync, the pause is over."""
        seconds = None
        if not self.plan.in_sync and not self.paused:
            seconds = min(self._pause, self._pass_seconds)
            self._pause *= _PAUSE_FACTOR
        ended = asyncio.create_task(self._observer.wait_for_any_end(self._processes), name="wait for a process to end")
        requested = asyncio.create_task(self._requested.wait(), name="wait for a request")
        try:
            await asyncio.wait({ended, requested}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                self._pause = _FIRST_PAUSE_SECONDS
        finally:
            for task in (ended, requested):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
