"""Bringing up: policy, workload, registration, sidecar, and the route last."""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import ObservedState, Registration, Workload
from mcpmesh.model.report_items import Step
from mcpmesh.plan.actions import (
    Action,
    CloseKong,
    DeleteEntry,
    Deregister,
    Register,
    StartSidecar,
    StartWorkload,
    StopKong,
    StopSidecar,
    StopWorkload,
)
from mcpmesh.plan.desired_state import DesiredIngress, DesiredService
from mcpmesh.plan.mesh_state import MeshState, matches


def service(state: MeshState, wanted: DesiredService) -> Iterator[Action | Step]:
    """What brings the wanted instances of a service up, as far as it can go now."""
    written_by_others = list(state.foreign((*wanted.entries, *((wanted.route,) if wanted.route else ()))))
    if written_by_others:
        yield from written_by_others
        return
    # A router stands only on HTTP: it goes before the protocol may change.
    router = state.entries.get(("service-router", wanted.spec.name))
    if router and router.kind not in {payload["Kind"] for payload in wanted.entries}:
        yield DeleteEntry(router.kind, router.name)
    yield from state.unwritten(state.entries_of(wanted))
    yield from state.policy(wanted.spec.name, wanted.allow)
    for instance in wanted.instances:
        yield from _instance(state, wanted, instance)
    if wanted.route and any(state.serving(instance.id) for instance in wanted.instances):
        yield from state.unwritten((wanted.route,))
    if not state.told(wanted.spec.name):
        yield Step(wanted.spec.name, "wait until its callers know its instances", waiting=True)


def _instance(state: MeshState, wanted: DesiredService, instance: Instance) -> Iterator[Action | Step]:
    workload = state.observed.workloads.get(instance.id)
    known = state.registrations.get(instance.id)
    if workload is None and known is not None and known.has_own_address:
        # It went with the instance: callers let go of it at once, or their calls would wait there for nobody.
        yield Deregister(instance.id, instance.sidecar_id if known.sidecar_port is not None else None)
    if workload is None and instance.id in state.observed.held:
        yield Step(wanted.spec.name, state.observed.held[instance.id], waiting=True)
    elif workload is None:
        # The ports that Consul and the callers know are kept where they can be.
        yield StartWorkload(instance, known.port if known else None, known.sidecar_port if known else None)
    elif workload.pid in state.observed.stuck:
        yield StopWorkload(instance.id)
    elif known is None and not workload.ready:
        yield Step(wanted.spec.name, f"wait for {instance.id}: {workload.error or workload.state}", waiting=True)
    else:
        yield from _exposed(state, wanted, instance, workload, known)


def _exposed(
    state: MeshState, wanted: DesiredService, instance: Instance, workload: Workload, known: Registration | None
) -> Iterator[Action | Step]:
    # What a server says of itself can be read only while it is ready, so a
    # registration is compared, and renewed, only then. What Consul's agent knows
    # reaches its catalog, and so the callers, at the latest with a registration.
    payloads = wanted.registrar(instance, workload)
    if workload.ready and (not matches(known, payloads) or wanted.spec.name in state.observed.untold):
        yield Register(instance.id, payloads)
    sidecar = state.observed.sidecars.get(instance.id)
    if sidecar is None and instance.id in state.observed.held:
        yield Step(wanted.spec.name, state.observed.held[instance.id], waiting=True)
    elif sidecar is None:
        yield StartSidecar(instance.id, instance.sidecar_id, wanted.spec.name, workload.sidecar_port)
    elif sidecar.pid in state.observed.stuck:
        yield StopSidecar(instance.id)
    elif not state.serving(instance.id):
        why = _why_not_serving(state.observed, workload, known)
        yield Step(wanted.spec.name, f"wait for {instance.id}: {why}", waiting=True)


def _why_not_serving(observed: ObservedState, workload: Workload, known: Registration | None) -> str:
    proof, sidecar = observed.proofs.get(workload.instance), observed.sidecars.get(workload.instance)
    if not workload.ready:
        return workload.error or workload.state
    if sidecar is None or not sidecar.ready:
        return "its sidecar is not ready yet"
    if proof is not None and not proof.ok:
        return proof.error
    if known is not None and known.failing:
        return f"failing checks: {', '.join(known.failing)}"
    return "an exchange through its sidecar"


def gateway(state: MeshState, wanted: DesiredIngress) -> Iterator[Action | Step]:
    """What brings Consul's API gateway up; it begins to listen with the first route."""
    written_by_others = list(state.foreign(wanted.entries))
    if written_by_others:
        yield from written_by_others
        return
    if state.observed.kong and state.observed.kong.pid is not None:  # of an earlier time
        yield StopKong(wanted.id)
    elif state.observed.kong and state.kong_ports:  # somebody else's
        yield CloseKong()
    yield from state.unwritten(wanted.entries)
    known = state.registrations.get(wanted.id)
    if known and known.sidecar_port is not None:
        yield Deregister(wanted.id, f"{wanted.id}-sidecar")
    elif not matches(known, (wanted.registration,)):
        yield Register(wanted.id, (wanted.registration,))
    envoy = state.observed.sidecars.get(wanted.id)
    if envoy is None and wanted.id in state.observed.held:
        yield Step(state.desired.ingress_service, state.observed.held[wanted.id], waiting=True)
    elif envoy is None:
        yield StartSidecar(wanted.id, wanted.id, state.desired.ingress_service, wanted.port, gateway=True)
    elif envoy.pid in state.observed.stuck or envoy.port != wanted.port:
        yield StopSidecar(wanted.id)
    elif not envoy.ready:
        yield Step(state.desired.ingress_service, "wait for the ingress", waiting=True)
