"""Starts of workloads, Envoys and Kong.

A program that had to be started again within seconds did not stay up: that is
a failure, with the last line of its log. A port that another program took is
one too, and an instance then gets another port.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from mcpmesh.errors import WorkloadError
from mcpmesh.plan.actions import StartKong, StartSidecar, StartWorkload
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.action_targets import ActionTargets
from mcpmesh.reconcile.envoy_launcher import EnvoyLauncher, role_of
from mcpmesh.reconcile.process_index import ProcessIndex, ProcessKey, kong_of, sidecar_of, workload_of
from mcpmesh.workload.runtime import PreferredPorts

# A program that has ended sooner than this after its start did not come up.
STAYED_UP_SECONDS = 5.0


class ProgramStarter:
    """Starts programs; remembers when, to recognise one that ends at once."""

    def __init__(
        self, targets: ActionTargets, launcher: EnvoyLauncher, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._targets = targets
        self._launcher = launcher
        self._clock = clock
        self._started: dict[ProcessKey, float] = {}

    async def start_workload(self, action: StartWorkload, desired: DesiredState, processes: ProcessIndex) -> None:
        """Starts an instance, if possible at the ports that it is registered with."""
        instance, key = action.instance, workload_of(action.instance.id)
        if self._ended_at_once(key):
            raise await self._did_not_stay_up(instance.id, instance.id)
        envoy_runs = processes.get(sidecar_of(instance.id)) is not None
        preferred = PreferredPorts(action.port, action.sidecar_port, envoy_runs=envoy_runs)
        spec = desired.services[instance.service].spec
        await self._targets.runtime.start(spec, instance, preferred, self._targets.claims.claimed())
        self._started[key] = self._clock()

    async def start_sidecar(self, action: StartSidecar, desired: DesiredState, processes: ProcessIndex) -> None:
        """Starts the Envoy of an instance or of the ingress."""
        id_, key = action.instance_id, sidecar_of(action.instance_id)
        if self._ended_at_once(key):
            raise await self._did_not_stay_up(f"the Envoy of {id_}", f"{id_}.{role_of(action)}")
        if not self._targets.runtime.is_free(action.port):
            await self._give_up_port(action, desired, processes)
        await self._targets.runtime.start_envoy(self._launcher.launch(action), self._targets.claims.claimed())
        self._started[key] = self._clock()

    async def start_kong(self, action: StartKong) -> None:
        """Starts Kong, after what an earlier one has left running."""
        kong, key = self._targets.kong, kong_of(action.instance_id)
        if self._ended_at_once(key):
            raise WorkloadError(
                f"cannot keep Kong running: it ended at once; {kong.last_error_line(action.instance_id)}"
            )
        await kong.end_leftover()
        if not kong.port_is_free(action.port):
            raise _ingress_port_taken(action.port)
        kong.start(action.instance_id, action.port, self._targets.claims.claimed())
        self._started[key] = self._clock()

    async def _give_up_port(self, action: StartSidecar, desired: DesiredState, processes: ProcessIndex) -> NoReturn:
        """Another program took the port first: stops the instance, which then starts again with another port."""
        if action.gateway:
            raise _ingress_port_taken(action.port)
        if action.instance_id == desired.ingress_id:
            raise WorkloadError(
                f"cannot start the sidecar of the ingress: another program took port {action.port}; end that one "
                "(ss -ltnp), or take the mesh down and start it again"
            )
        self._targets.claims.release(action.instance_id)
        await self._targets.consul.deregister(action.instance_id)
        if process := processes.get(workload_of(action.instance_id)):
            await self._targets.runtime.stop(process, 0)
        raise WorkloadError(
            f"cannot start the sidecar of {action.instance_id}: another program took port {action.port}; "
            "choosing another"
        )

    def _ended_at_once(self, key: ProcessKey) -> bool:
        """Whether a program that has to be started was started moments ago; asks only once per start."""
        since = self._started.pop(key, None)
        return since is not None and self._clock() - since < STAYED_UP_SECONDS

    async def _did_not_stay_up(self, program: str, log: str) -> WorkloadError:
        line = await self._targets.runtime.last_log_line(log)
        return WorkloadError(f"cannot keep {program} running: it ended at once; its last words: {line}")


def _ingress_port_taken(port: int) -> WorkloadError:
    return WorkloadError(
        f"cannot open the ingress at port {port}: another program holds it; end that one (ss -ltnp), "
        "or take the mesh down and start it with another MCPMESH_INGRESS__PORT"
    )
