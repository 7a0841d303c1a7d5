"""The effect of each action: what is called, and in which order.

Every action may be repeated, and interrupted anywhere: the next pass plans from
what it then observes.
"""

from __future__ import annotations

from contextlib import suppress

from mcpmesh.errors import PeerError
from mcpmesh.model.agent_reports import Level
from mcpmesh.plan.action_groups import KONG_DOCUMENT
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
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.action_targets import ActionTargets
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.reconcile.process_index import ProcessIndex, kong_of, sidecar_of, workload_of
from mcpmesh.reconcile.program_starter import ProgramStarter

# A stray has no calls to finish; this is the time for it to close its files.
STRAY_SECONDS = 2.0


class ActionExecutor:
    """Executes single actions. Raises MeshError where one fails."""

    def __init__(self, targets: ActionTargets, starter: ProgramStarter, journal: Journal) -> None:
        self._targets = targets
        self._starter = starter
        self._journal = journal

    async def execute(self, action: Action, desired: DesiredState, processes: ProcessIndex) -> None:
        """Applies an action to the processes of the latest observation; one that has ended meanwhile is fine."""
        consul, kong = self._targets.consul, self._targets.kong
        match action:
            case WriteEntry(payload):
                await consul.write_entry(payload)
            case DeleteEntry(kind, name):
                await consul.delete_entry(kind, name, desired.mesh)
            case Allow(source, destination):
                await consul.allow(source, destination, desired.mesh)
            case Revoke(intention):
                await consul.revoke(intention, desired.mesh)
            case Register(_, payloads):
                await consul.register(payloads)
            case Deregister(id_, sidecar_id):
                # The sidecar first: callers must not be sent to one whose instance is gone.
                for service_id in filter(None, (sidecar_id, id_)):
                    await consul.deregister(service_id)
            case StartWorkload():
                await self._starter.start_workload(action, desired, processes)
            case StartSidecar():
                await self._starter.start_sidecar(action, desired, processes)
            case StartKong():
                await self._starter.start_kong(action)
            case PostDocument(document):
                if await kong.post(processes.get(kong_of(desired.ingress_id)), document):
                    sentence = "Kong had another document; it has ours again"
                    self._journal.record(Level.CHANGE, sentence, str(KONG_DOCUMENT))
            case CloseKong():
                await kong.close_routes()
            case Drain(id_):
                await self._drain(id_, desired, processes)
            case StopKong(id_):
                if process := processes.get(kong_of(id_)):
                    await kong.end(process)
            case StopSidecar(id_):
                await self._stop_sidecar(id_, processes)
            case StopWorkload(id_):
                await self._stop_workload(id_, desired, processes)
            case EndStray(stray):
                if process := processes.by_pid.get(stray.pid):
                    await self._targets.runtime.end(process, STRAY_SECONDS)

    async def _drain(self, id_: str, desired: DesiredState, processes: ProcessIndex) -> None:
        if id_ != desired.ingress_id:
            await self._targets.consul.drain(id_, "mcpmesh drains it")
            return
        self._targets.drains.note_drain(id_)
        if kong := processes.get(kong_of(id_)):
            self._targets.kong.drain(kong)
        elif envoy := processes.get(sidecar_of(id_)):
            await self._targets.envoys.drain(envoy.private_address("admin"))

    async def _stop_sidecar(self, id_: str, processes: ProcessIndex) -> None:
        if process := processes.get(sidecar_of(id_)):
            with suppress(PeerError):  # an Envoy that is stuck or has ended answers nothing; it is ended all the same
                await self._targets.envoys.quit(process.private_address("admin"))
            await self._targets.runtime.stop_envoy(process)

    async def _stop_workload(self, id_: str, desired: DesiredState, processes: ProcessIndex) -> None:
        if process := processes.get(workload_of(id_)):
            wanted = desired.services.get(process.mark.service)
            # The mark tells the time to finish of a service that is no longer in the catalog.
            await self._targets.runtime.stop(process, wanted.spec.timeouts.drain if wanted else process.mark.drain)
