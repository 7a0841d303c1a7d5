"""Setup of Kong at the ingress: Kong, its sidecar, and the document with its routes.

The sidecar has a listener for a service before Kong has a route to it, and
keeps it until Kong has none. While Kong's document can't be read, no listener
is removed and no document is posted.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.agent_reports import Step
from mcpmesh.model.instance import sidecar_id
from mcpmesh.model.observed_state import Kong, KongContent, Unknown
from mcpmesh.plan.actions import (
    Action,
    DeleteEntry,
    PostDocument,
    Register,
    StartKong,
    StartSidecar,
    StopKong,
    StopSidecar,
)
from mcpmesh.plan.desired_state import DesiredIngress, DesiredKong
from mcpmesh.plan.planner_input import PlannerInput, matches


def set_up_kong(state: PlannerInput, ingress: DesiredIngress, wanted: DesiredKong) -> Iterator[Action | Step]:
    """Actions that bring Kong and its sidecar up."""
    conflicts = list(state.conflicting_entries(ingress.entries))
    if conflicts:
        yield from conflicts
        return
    yield from state.entries_to_write(ingress.entries)
    # An API gateway that was the ingress before goes once no route of ours is left.
    gateway = state.own_entry("api-gateway", state.desired.ingress_service)
    if gateway and not state.has_own_route_entry:
        yield DeleteEntry(gateway.kind, gateway.name)
    envoy = state.observed.sidecars.get(ingress.id)
    if envoy and envoy.port == ingress.port:  # that API gateway's own Envoy
        yield StopSidecar(ingress.id)
        return
    kong = state.observed.kong
    yield from _process(state, ingress, wanted, kong)
    yield from _registration(state, ingress, wanted, kong)


def _process(
    state: PlannerInput, ingress: DesiredIngress, wanted: DesiredKong, kong: Kong | None
) -> Iterator[Action | Step]:
    service, held_back = state.desired.ingress_service, state.observed.held_back.get(ingress.id)
    if kong is None and held_back:
        yield Step(service, held_back, waiting=True)
    elif kong is None:
        yield StartKong(ingress.id, service, ingress.port)
    elif kong.pid is not None and (
        kong.pid in state.observed.stuck_pids or (kong.port, kong.digest) != (ingress.port, wanted.digest)
    ):
        yield StopKong(ingress.id)
    elif isinstance(kong.content, Unknown):
        yield Step(service, f"wait for Kong: {kong.content.reason}", waiting=True)
    elif not kong.listening:
        yield Step(service, f"wait for Kong: it accepts no connections at its port {ingress.port}", waiting=True)


def _registration(
    state: PlannerInput, ingress: DesiredIngress, wanted: DesiredKong, kong: Kong | None
) -> Iterator[Action | Step]:
    registration = state.registrations.get(ingress.id)
    unregistered = registration is None or registration.sidecar_port is None
    if unregistered and not (kong and kong.listening):
        return  # nothing is registered before it answers
    content = None if kong is None or isinstance(kong.content, Unknown) else kong.content
    payloads = wanted.registrar({**(content.ports if content else {}), **wanted.ports})
    if unregistered or (content and not matches(registration, payloads)):
        yield Register(ingress.id, payloads)
    yield from _sidecar(state, ingress, wanted)


def _sidecar(state: PlannerInput, ingress: DesiredIngress, wanted: DesiredKong) -> Iterator[Action | Step]:
    service, held_back = state.desired.ingress_service, state.observed.held_back.get(ingress.id)
    envoy = state.observed.sidecars.get(ingress.id)
    if envoy is None and held_back:
        yield Step(service, held_back, waiting=True)
    elif envoy is None:
        yield StartSidecar(ingress.id, sidecar_id(ingress.id), service, wanted.sidecar_port)
    elif envoy.pid in state.observed.stuck_pids or envoy.port != wanted.sidecar_port:
        yield StopSidecar(ingress.id)
    elif not envoy.ready:
        yield Step(service, "wait for the ingress's sidecar", waiting=True)


def post_document(state: PlannerInput, ingress: DesiredIngress, wanted: DesiredKong) -> Iterator[Action | Step]:
    """Posts the document where Kong has another one: an earlier one of ours, one of somebody else's, or none."""
    kong = state.observed.kong
    if kong is None or isinstance(kong.content, Unknown):
        return
    content = kong.content
    services = sorted(name for name in wanted.ports if _may_have_route(state, ingress, wanted, name, content))
    document = wanted.document(services)
    if document.hash != content.hash:
        yield PostDocument(document, tuple(services))


def _may_have_route(
    state: PlannerInput, ingress: DesiredIngress, wanted: DesiredKong, service: str, content: KongContent
) -> bool:
    """Whether Kong may have a route to a service: it has it already, or the sidecar and an instance can take calls."""
    port = wanted.ports[service]
    if content.ports.get(service) == port:
        return True
    envoy = state.observed.sidecars.get(ingress.id)
    reachable = bool(envoy and port in envoy.listener_ports and envoy.endpoints.get(service))
    return reachable and any(state.is_serving(instance.id) for instance in state.desired.services[service].instances)
