"""From what is wanted and what was seen to what is reported; pure."""

from __future__ import annotations

from collections.abc import Mapping

from mcpmesh.model.mesh_status import InstanceStatus, ServiceStatus, State
from mcpmesh.model.observed_state import ObservedState, ServerInfo, Workload
from mcpmesh.plan.desired_state import DesiredService, DesiredState
from mcpmesh.plan.mesh_state import MeshState

# Words of a shim that mean: it will not come up by waiting.
_HOPELESS = ("failed", "crash-loop", "unreachable")


def service_statuses(
    desired: DesiredState, observed: ObservedState, failures: Mapping[str, str], ingress: str | None
) -> list[ServiceStatus]:
    """One line per service: those wanted, then those still draining. `ingress` is its URL, None while it is shut."""
    mesh = MeshState.at(desired, observed)
    if mesh is None:
        return [
            ServiceStatus(name, State.UNKNOWN, len(wanted.instances), 0, "Consul cannot be read")
            for name, wanted in desired.services.items()
        ]
    lines = [_service(mesh, wanted, failures.get(name, ""), ingress) for name, wanted in desired.services.items()]
    for name in sorted({w.service for w in observed.workloads.values()} - desired.services.keys()):
        instances = tuple(_going(mesh, id_) for id_ in sorted(mesh.instances_of(name)))
        lines.append(ServiceStatus(name, State.DRAINING, 0, 0, "no longer wanted", instances=instances))
    return lines


def _service(mesh: MeshState, wanted: DesiredService, failure: str, ingress: str | None) -> ServiceStatus:
    spec = wanted.spec
    instances = [_instance(mesh, instance.id, failure) for instance in wanted.instances]
    surplus = mesh.instances_of(spec.name) - {instance.id for instance in wanted.instances}
    serving = [id_ for id_ in surplus if mesh.exposed(id_)]
    ready = sum(instance.state is State.READY for instance in instances)
    info = next((i for instance in wanted.instances if (i := _info(mesh, instance.id))), None)
    troubles = [instance.detail for instance in instances if instance.state is not State.READY and instance.detail]
    detail = troubles[0] if troubles else ""
    if ready == len(instances):
        state = State.READY
    elif ready or serving:
        state = State.DEGRADED
    elif any(instance.state is State.FAILED for instance in instances):
        state = State.FAILED
    else:
        state = State.STARTING
    led_to = mesh.led_to(spec.name)
    return ServiceStatus(
        name=spec.name,
        state=state,
        wanted=len(instances),
        ready=ready,
        detail=detail,
        address=f"{ingress}{spec.route}" if ingress and spec.route and led_to else None,
        server=f"{info.name} {info.version}".strip() if info else None,
        protocol_versions=info.protocol_versions if info else (),
        tools=len(info.tools) if info and spec.is_mcp else None,
        instances=(*instances, *(_going(mesh, id_) for id_ in sorted(surplus))),
    )


def _info(mesh: MeshState, id_: str) -> ServerInfo | None:
    workload = mesh.observed.workloads.get(id_)
    return workload.info if workload else None


def _instance(mesh: MeshState, id_: str, failure: str) -> InstanceStatus:
    workload = mesh.observed.workloads.get(id_)
    if mesh.serving(id_) and workload and workload.ready:
        return _described(mesh, id_, State.READY, "")
    state, detail = _trouble(mesh, id_, workload, failure)
    return _described(mesh, id_, state, detail)


def _trouble(mesh: MeshState, id_: str, workload: Workload | None, failure: str) -> tuple[State, str]:
    if failure:
        return State.FAILED, failure
    if workload is None:
        return State.STARTING, ""
    if not workload.ready:
        return (State.FAILED if workload.state in _HOPELESS else State.STARTING), workload.error
    proof = mesh.observed.proofs.get(id_)
    if proof and not proof.ok:
        return State.FAILED, proof.error
    # Checks that don't pass yet are no trouble by themselves: the proof above is.
    return State.STARTING, ""


def _going(mesh: MeshState, id_: str) -> InstanceStatus:
    return _described(mesh, id_, State.DRAINING, "finishing its calls")


def _described(mesh: MeshState, id_: str, state: State, detail: str) -> InstanceStatus:
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
