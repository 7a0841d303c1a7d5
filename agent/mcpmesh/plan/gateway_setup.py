"""Setup of Consul's API gateway at the ingress; it begins to listen with the first route."""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.instance import sidecar_id
from mcpmesh.plan.actions import Action, CloseKong, Deregister, Register, StartSidecar, StopKong, StopSidecar
from mcpmesh.plan.desired_state import DesiredIngress
from mcpmesh.plan.planner_input import PlannerInput, matches


def set_up_gateway(state: PlannerInput, ingress: DesiredIngress) -> Iterator[Action | Step]:
    """Actions that bring the API gateway up, in place of a Kong that was the ingress before."""
    conflicts = list(state.conflicting_entries(ingress.entries))
    if conflicts:
        yield from conflicts
        return
    kong = state.observed.kong
    if kong and kong.pid is not None:
        yield StopKong(ingress.id)
    elif kong and state.kong_ports:
        yield CloseKong()
    yield from state.entries_to_write(ingress.entries)
    registration = state.registrations.get(ingress.id)
    if registration and registration.sidecar_port is not None:  # that of Kong
        yield Deregister(ingress.id, sidecar_id(ingress.id))
    elif not matches(registration, (ingress.registration,)):
        yield Register(ingress.id, (ingress.registration,))
    yield from _envoy(state, ingress)


def _envoy(state: PlannerInput, ingress: DesiredIngress) -> Iterator[Action | Step]:
    service, held_back = state.desired.ingress_service, state.observed.held_back.get(ingress.id)
    envoy = state.observed.sidecars.get(ingress.id)
    if envoy is None and held_back is not None:
        yield Step(service, held_back, waiting=True)
    elif envoy is None:
        yield StartSidecar(ingress.id, ingress.id, service, ingress.port, gateway=True)
    elif envoy.pid in state.observed.stuck_pids or envoy.port != ingress.port:
        yield StopSidecar(ingress.id)
    elif not envoy.ready:
        yield Step(service, "wait for the ingress", waiting=True)
