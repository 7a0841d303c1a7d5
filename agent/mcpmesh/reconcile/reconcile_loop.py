"""The loop: look, plan, apply, report; woken by changes, and now and then by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from mcpmesh.errors import MeshError
from mcpmesh.kit.marked_process import Process
from mcpmesh.model.mesh_status import ServiceStatus, State
from mcpmesh.model.observed_state import ObservedState, Unknown
from mcpmesh.model.report_items import Level, Step
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.plan.kong_setup import DOCUMENT
from mcpmesh.plan.planner import Plan, plan
from mcpmesh.reconcile.applier import Applier
from mcpmesh.reconcile.journal import Journal
from mcpmesh.reconcile.observer import Observer
from mcpmesh.reconcile.status_report import service_statuses

# While something is under way the next look follows soon, then ever later.
_FIRST_LOOK_SECONDS = 0.2
_SLOWER = 1.3


class ReconcileLoop:
    """Brings the world to `desired`, one pass at a time; in sync, it waits to be woken or nudged."""

    def __init__(
        self,
        desired: DesiredState,
        observer: Observer,
        applier: Applier,
        journal: Journal,
        ingress: str,
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
        self._journal = journal
        self._ingress = ingress
        self._pass_seconds = pass_seconds
        self._planned: DesiredState | None = None
        self._resumed = 0
        self._looked_since = 0
        self._wake = asyncio.Event()
        self._delay = _FIRST_LOOK_SECONDS

    def request_pass(self) -> None:
        """Asks for a pass now."""
        self._wake.set()

    def notify_change(self) -> None:
        """Asks for a pass now, and for more soon: something has changed."""
        self._delay = _FIRST_LOOK_SECONDS
        self._wake.set()

    def resume(self) -> None:
        """Heals again; what was seen before says nothing about now."""
        self.paused = False
        self._resumed += 1
        self.notify_change()

    def set_desired(self, desired: DesiredState) -> None:
        """Changes what is wanted; services that changed are tried at once."""
        for name, wanted in desired.services.items():
            before = self.desired.services.get(name)
            if before is None or before.spec != wanted.spec:
                self._applier.forget(name)
        self._applier.forget(DOCUMENT)
        self.desired = desired
        self.notify_change()

    async def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Passes until `until` holds after one."""
        while True:
            self._wake.clear()
            await self.run_pass()
            if until():
                return
            await self._rest()

    def kong_process(self) -> Process | None:
        """Our own Kong, as the latest look found it."""
        return self._observer.processes.get(f"kong:{self.desired.ingress_id}")

    @property
    def in_sync(self) -> bool:
        """Whether the latest pass found nothing to do, looked for what is wanted now, and was not before a resume."""
        return self._planned is self.desired and self._looked_since == self._resumed and self.plan.in_sync

    @property
    def ingress_ready(self) -> bool:
        """Whether the ingress runs and listens."""
        if self.observed is None:
            return False
        envoy, kong = self.observed.sidecars.get(self.desired.ingress_id), self.observed.kong
        listens = not (self.desired.ingress and self.desired.ingress.kong) or bool(kong and kong.listening)
        return bool(listens and envoy and envoy.ready)

    @property
    def ingress_error(self) -> str:
        """Why the ingress, or the document that Kong should go by, is not as it should be; "" where it is."""
        return self._applier.failure(DOCUMENT) or self._applier.failure(self.desired.ingress_service)

    @property
    def consul_ready(self) -> bool:
        """Whether the latest look could read Consul."""
        return bool(self.observed and not isinstance(self.observed.registrations, Unknown))

    async def preview(self, desired: DesiredState) -> list[Step]:
        """What passes would begin with for another `desired`; nothing is done."""
        observed = await self._observer.look(self.desired, {})
        return plan(desired, observed).steps()

    async def run_pass(self) -> None:
        """One pass."""
        desired = self.desired
        before, resumed = self.plan, self._resumed
        try:
            observed = await self._observer.look(desired, self._applier.held(desired))
        except MeshError as error:
            # Nothing is known of what runs, so nothing is done, and the last that was known stands.
            self._blind(str(error))
            return
        self.plan = plan(desired, observed)
        self._planned, self._looked_since = desired, resumed
        self.observed = observed
        self._report(desired, observed)
        if self.plan.steps() != before.steps():
            self._delay = _FIRST_LOOK_SECONDS
        if not self.paused:
            await self._applier.allow_retries(observed)
            if self.plan.actions:
                await self._applier.apply(self.plan, desired)
        if self.plan.in_sync and not before.in_sync and self.passes:
            self._journal.record(Level.DETAIL, "in sync")
        self.passes += 1

    def _blind(self, reason: str) -> None:
        step = Step("mesh", reason, waiting=True)
        if step not in self.plan.waiting:
            self._journal.record(Level.TROUBLE, reason)
        self.plan = Plan(waiting=(step,))

    def _report(self, desired: DesiredState, observed: ObservedState) -> None:
        if self.ingress_ready:
            self._applier.forget(desired.ingress_service)
        if DOCUMENT not in self.plan.actions:
            self._applier.forget(DOCUMENT)
        before = {line.name: line for line in self.services}
        failures = {name: self._applier.failure(name) for name in desired.services}
        self.services = service_statuses(desired, observed, failures, self._ingress if self.ingress_ready else None)
        for line in self.services:
            old = before.get(line.name)
            if line.state is State.READY:
                self._applier.forget(line.name)
            if old is None or old.state is not line.state or (old.detail != line.detail and line.state is State.FAILED):
                self._speak(line)

    def _speak(self, line: ServiceStatus) -> None:
        match line.state:
            case State.READY:
                what = f", {line.tools} tools" if line.tools is not None else ""
                self._journal.record(Level.CHANGE, f"ready, {line.ready} of {line.wanted}{what}", line.name)
            case State.FAILED | State.DEGRADED if line.detail:
                self._journal.record(Level.TROUBLE, f"{line.state}: {line.detail}", line.name)
            case State.STARTING | State.DEGRADED:
                self._journal.record(Level.PROGRESS, f"starting, {line.ready} of {line.wanted} ready", line.name)
            case _:
                self._journal.record(Level.CHANGE, f"{line.state}: {line.detail}", line.name)

    async def _rest(self) -> None:
        """Until woken, until something of ours ends, or, while something is under way, until it is time."""
        seconds = None
        if not self.plan.in_sync and not self.paused:
            seconds = min(self._delay, self._pass_seconds)
            self._delay *= _SLOWER
        watching = asyncio.create_task(self._observer.any_end(), name="watch what runs")
        waking = asyncio.create_task(self._wake.wait(), name="wait for a wake")
        try:
            await asyncio.wait({watching, waking}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                self._delay = _FIRST_LOOK_SECONDS
        finally:
            for task in (watching, waking):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
