"""Removal of the ingress: before every service, its config entries after every route."""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.instance import sidecar_id
from mcpmesh.model.observed_state import Kong
from mcpmesh.plan.actions import Action, CloseKong, DeleteEntry, Deregister, Drain, StopKong, StopSidecar
from mcpmesh.plan.planner_input import PlannerInput


def remove_ingress(state: PlannerInput) -> Iterator[Action | Step]:
    """Actions that remove the ingress of either kind."""
    id_, service, kong = state.desired.ingress_id, state.desired.ingress_service, state.observed.kong
    drained = id_ in state.observed.drained
    if kong and kong.pid is None and state.kong_ports:
        yield CloseKong()
    if _external_kong_may_call(state, kong):
        yield Step(service, f"wait for Kong, which may have routes to here: {state.kong_unknown_reason}", waiting=True)
        return
    if kong and kong.pid is not None:
        if not drained:
            yield from _drain(state)
            return
        yield StopKong(id_)
    if id_ in state.observed.sidecars:
        if not (state.observed.ingress_draining and drained):
            yield from _drain(state)
            return
        yield StopSidecar(id_)
    if id_ in state.registrations:
        yield Deregister(id_, None if state.registrations[id_].sidecar_port is None else sidecar_id(id_))
    if not state.has_own_route_entry:
        for kind in ("api-gateway", "service-defaults"):
            if state.own_entry(kind, service):
                yield DeleteEntry(kind, service)


def _external_kong_may_call(state: PlannerInput, kong: Kong | None) -> bool:
    """Whether a Kong that we don't run may have routes to our sidecar.

    Once the ingress is not even registered, an external Kong that is gone for
    good holds nothing up.
    """
    id_ = state.desired.ingress_id
    exists = id_ in state.observed.sidecars or id_ in state.registrations
    return kong is not None and kong.pid is None and bool(state.kong_unknown_reason) and exists


def _drain(state: PlannerInput) -> Iterator[Action | Step]:
    if not state.observed.ingress_draining:
        yield Drain(state.desired.ingress_id)
    yield Step(state.desired.ingress_service, "wait until the ingress has finished its calls", waiting=True)
