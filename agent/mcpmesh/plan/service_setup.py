"""Setup of a service: config entries and intentions, workload, registration, sidecar, and the route last."""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import ObservedState, Registration, Workload
from mcpmesh.plan.actions import (
    Action,
    DeleteEntry,
    Deregister,
    Register,
    StartSidecar,
    StartWorkload,
    StopSidecar,
    StopWorkload,
)
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.plan.planner_input import PlannerInput, matches


def set_up_service(state: PlannerInput, wanted: DesiredService) -> Iterator[Action | Step]:
    """Actions that bring the wanted instances of a service up, as far as is possible now."""
    name = wanted.spec.name
    conflicts = list(state.conflicting_entries((*wanted.entries, *((wanted.route,) if wanted.route else ()))))
    if conflicts:
        yield from conflicts
        return
    # A router requires HTTP: it goes before the protocol may change.
    router = state.entries.get(("service-router", name))
    if router and router.kind not in {payload["Kind"] for payload in wanted.entries}:
        yield DeleteEntry(router.kind, router.name)
    yield from state.entries_to_write(state.entries_of(wanted))
    yield from state.intention_changes(name, wanted.allow)
    for instance in wanted.instances:
        yield from _instance(state, wanted, instance)
    if wanted.route and any(state.is_serving(instance.id) for instance in wanted.instances):
        yield from state.entries_to_write((wanted.route,))
    if not state.has_propagated(name):
        yield Step(name, "wait until its callers know its instances", waiting=True)


def _instance(state: PlannerInput, wanted: DesiredService, instance: Instance) -> Iterator[Action | Step]:
    name, held_back = wanted.spec.name, state.observed.held_back.get(instance.id)
    workload = state.observed.workloads.get(instance.id)
    registration = state.registrations.get(instance.id)
    if workload is None and registration is not None and registration.has_own_address:
        # The address disappeared with the instance. Callers forget it at once; else their calls would hang there.
        yield Deregister(instance.id, instance.sidecar_id if registration.sidecar_port is not None else None)
    if workload is None and held_back is not None:
        yield Step(name, held_back, waiting=True)
    elif workload is None:
        # It keeps the ports that Consul and the callers know, where it can.
        port, sidecar_port = (registration.port, registration.sidecar_port) if registration else (None, None)
        yield StartWorkload(instance, port, sidecar_port)
    elif workload.pid in state.observed.stuck_pids:
        yield StopWorkload(instance.id)
    elif registration is None and not workload.ready:
        yield Step(name, f"wait for {instance.id}: {workload.error or workload.state}", waiting=True)
    else:
        yield from _registration(state, wanted, instance, workload, registration)
        yield from _sidecar(state, wanted, instance, workload, registration)


def _registration(
    state: PlannerInput,
    wanted: DesiredService,
    instance: Instance,
    workload: Workload,
    registration: Registration | None,
) -> Iterator[Action]:
    # The server info is part of a registration and can be read only from a ready
    # instance, so registrations are compared, and renewed, only then. Registering
    # again also makes Consul's agent synchronise its catalog, and so inform callers.
    payloads = wanted.registrar(instance, workload)
    outdated = not matches(registration, payloads) or wanted.spec.name in state.observed.not_propagated
    if workload.ready and outdated:
        yield Register(instance.id, payloads)


def _sidecar(
    state: PlannerInput,
    wanted: DesiredService,
    instance: Instance,
    workload: Workload,
    registration: Registration | None,
) -> Iterator[Action | Step]:
    name, held_back = wanted.spec.name, state.observed.held_back.get(instance.id)
    sidecar = state.observed.sidecars.get(instance.id)
    if sidecar is None and held_back is not None:
        yield Step(name, held_back, waiting=True)
    elif sidecar is None:
        yield StartSidecar(instance.id, instance.sidecar_id, name, workload.sidecar_port)
    elif sidecar.pid in state.observed.stuck_pids:
        yield StopSidecar(instance.id)
    elif not state.is_serving(instance.id):
        reason = _reason_not_serving(state.observed, workload, registration)
        yield Step(name, f"wait for {instance.id}: {reason}", waiting=True)


def _reason_not_serving(observed: ObservedState, workload: Workload, registration: Registration | None) -> str:
    proof, sidecar = observed.proofs.get(workload.instance), observed.sidecars.get(workload.instance)
    if not workload.ready:
        return workload.error or workload.state
    if sidecar is None or not sidecar.ready:
        return "its sidecar is not ready yet"
    if proof is not None and not proof.ok:
        return proof.error
    if registration is not None and registration.failing:
        return f"failing checks: {', '.join(registration.failing)}"
    return "an exchange through its sidecar"
