"""Removal of surplus instances and unwanted services: the reverse order of setup, without losing a call.

An old instance goes only once the new ones are proven.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.instance import sidecar_id
from mcpmesh.plan.actions import Action, DeleteEntry, Deregister, Drain, StopSidecar, StopWorkload
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.plan.planner_input import PlannerInput


def remove_surplus(state: PlannerInput, service: str, wanted: DesiredService | None) -> Iterator[Action | Step]:
    """Actions that remove the surplus of a service: all of it where it is not wanted."""
    if state.own_entry("http-route", service) and not (wanted and wanted.route):
        yield DeleteEntry("http-route", service)
    if wanted is None and (reason := _kong_may_call(state, service)):
        yield Step(service, reason, waiting=True)
        return
    kept = {instance.id for instance in wanted.instances} if wanted else set()
    surplus = sorted(state.instances_of(service) - kept)
    replaced = all(map(state.is_serving, kept)) and state.has_propagated(service)
    if kept and any(map(state.is_exposed, surplus)) and not replaced:
        yield Step(service, f"keep {', '.join(surplus)} until the new instances answer", waiting=True)
        return
    for id_ in surplus:
        yield from _remove_instance(state, service, id_)
    if wanted is None and not surplus:
        yield from _remove_policy(state, service)


def _kong_may_call(state: PlannerInput, service: str) -> str:
    """Why an unwanted service has to stay for now: Kong, as the wanted ingress, may still have a route to it."""
    ingress = state.desired.ingress
    if ingress and service in state.kong_ports:
        return "keep it until Kong has no route to it any more"
    if ingress and ingress.kong and (reason := state.kong_unknown_reason):
        return f"keep it until Kong's routes can be read: {reason}"
    return ""


def _remove_instance(state: PlannerInput, service: str, id_: str) -> Iterator[Action | Step]:
    registration, has_sidecar = state.registrations.get(id_), id_ in state.observed.sidecars
    if registration and has_sidecar and id_ not in state.observed.drained:
        if not registration.draining:
            yield Drain(id_)
        yield Step(service, f"wait until {id_} has finished its calls", waiting=True)
        return
    if registration:
        yield Deregister(id_, sidecar_id(id_) if registration.sidecar_port is not None else None)
    if has_sidecar:
        yield StopSidecar(id_)
    if id_ in state.observed.workloads:
        yield StopWorkload(id_)


def _remove_policy(state: PlannerInput, service: str) -> Iterator[Action]:
    yield from state.intention_changes(service, ())
    # Consul refuses to change the protocol of a service with a router: the defaults go last.
    for kind in ("service-router", "service-resolver", "service-defaults"):
        if state.own_entry(kind, service):
            yield DeleteEntry(kind, service)
