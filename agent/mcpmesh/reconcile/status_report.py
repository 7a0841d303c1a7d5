"""The status of each service, from the desired and the observed state; pure."""

from __future__ import annotations

from collections.abc import Mapping

from mcpmesh.model.mesh_status import InstanceStatus, ServiceStatus, State
from mcpmesh.model.observed_state import ObservedState, ServerInfo, Workload
from mcpmesh.plan.desired_state import DesiredService, DesiredState
from mcpmesh.plan.planner_input import PlannerInput

# States of a shim from which an instance does not become ready by waiting.
_HOPELESS = ("failed", "crash-loop", "unreachable")


def service_statuses(
    desired: DesiredState, observed: ObservedState, failures: Mapping[str, str], ingress_url: str | None
) -> list[ServiceStatus]:
    """The wanted services, then those still draining.

    `failures` has the failed actions by service; `ingress_url` is None while
    the ingress accepts no calls.
    """
    mesh = PlannerInput.of(desired, observed)
    if mesh is None:
        return [
            ServiceStatus(name, State.UNKNOWN, len(wanted.instances), 0, "Consul cannot be read")
            for name, wanted in desired.services.items()
        ]
    wanted_ones = [
        _service(mesh, wanted, failures.get(name, ""), ingress_url) for name, wanted in desired.services.items()
    ]
    running = {workload.service for workload in observed.workloads.values()}
    return [*wanted_ones, *(_draining_service(mesh, name) for name in sorted(running - desired.services.keys()))]


def _service(mesh: PlannerInput, wanted: DesiredService, failure: str, ingress_url: str | None) -> ServiceStatus:
    spec = wanted.spec
    instances = [_instance(mesh, instance.id, failure) for instance in wanted.instances]
    surplus = sorted(mesh.instances_of(spec.name) - {instance.id for instance in wanted.instances})
    problems = [instance.detail for instance in instances if instance.state is not State.READY and instance.detail]
    info = next((i for instance in wanted.instances if (i := _server_info(mesh, instance.id))), None)
    has_address = ingress_url and spec.route and mesh.ingress_serves(spec.name)
    return ServiceStatus(
        name=spec.name,
        state=_service_state(instances, any(map(mesh.is_exposed, surplus))),
        wanted=len(instances),
        ready=sum(instance.state is State.READY for instance in instances),
        detail=problems[0] if problems else "",
        address=f"{ingress_url}{spec.route}" if has_address else None,
        server=f"{info.name} {info.version}".strip() if info else None,
        protocol_versions=info.protocol_versions if info else (),
        tools=len(info.tools) if info and spec.is_mcp else None,
        instances=(*instances, *(_draining_instance(mesh, id_) for id_ in surplus)),
    )


def _service_state(instances: list[InstanceStatus], old_ones_serve: bool) -> State:
    states = {instance.state for instance in instances}
    if states <= {State.READY}:
        return State.READY
    if State.READY in states or old_ones_serve:
        return State.DEGRADED
    return State.FAILED if State.FAILED in states else State.STARTING


def _draining_service(mesh: PlannerInput, name: str) -> ServiceStatus:
    instances = tuple(_draining_instance(mesh, id_) for id_ in sorted(mesh.instances_of(name)))
    return ServiceStatus(name, State.DRAINING, 0, 0, "no longer wanted", instances=instances)


def _server_info(mesh: PlannerInput, id_: str) -> ServerInfo | None:
    workload = mesh.observed.workloads.get(id_)
    return workload.info if workload else None


def _instance(mesh: PlannerInput, id_: str, failure: str) -> InstanceStatus:
    workload = mesh.observed.workloads.get(id_)
    if mesh.is_serving(id_) and workload and workload.ready:
        return _instance_status(mesh, id_, State.READY, "")
    return _instance_status(mesh, id_, *_state_and_reason(mesh, id_, workload, failure))


def _state_and_reason(mesh: PlannerInput, id_: str, workload: Workload | None, failure: str) -> tuple[State, str]:
    """The state of an instance that is not ready, and why."""
    if failure:
        return State.FAILED, failure
    if workload is None:
        return State.STARTING, ""
    if not workload.ready:
        return (State.FAILED if workload.state in _HOPELESS else State.STARTING), workload.error
    proof = mesh.observed.proofs.get(id_)
    if proof and not proof.ok:
        return State.FAILED, proof.error
    # Checks that don't pass yet are no failure by themselves; the proof decides.
    return State.STARTING, ""


def _draining_instance(mesh: PlannerInput, id_: str) -> InstanceStatus:
    return _instance_status(mesh, id_, State.DRAINING, "finishing its calls")


def _instance_status(mesh: PlannerInput, id_: str, state: State, detail: str) -> InstanceStatus:
    workload, sidecar = mesh.observed.workloads.get(id_), mesh.observed.sidecars.get(id_)
    return InstanceStatus(
        id=id_,
        state=state,
        detail=detail,
        pid=workload.pid if workload else None,
        port=workload.port if workload and workload.ready else None,
        sidecar_pid=sidecar.pid if sidecar else None,
        sidecar_port=sidecar.port if sidecar and sidecar.ready else None,
    )
