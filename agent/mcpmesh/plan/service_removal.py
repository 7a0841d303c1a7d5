"""Taking away, in the reverse order, and an old instance only when the new ones answer."""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.report_items import Step
from mcpmesh.plan.actions import Action, CloseKong, DeleteEntry, Deregister, Drain, StopKong, StopSidecar, StopWorkload
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.plan.mesh_state import MeshState


def service(state: MeshState, name: str, wanted: DesiredService | None) -> Iterator[Action | Step]:
    """What takes the surplus of a service (all of it, where it is not wanted) away, without a call lost."""
    route = state.entries.get(("http-route", name))
    if route and route.owner == state.desired.mesh and not (wanted and wanted.route):
        yield DeleteEntry("http-route", name)
    if wanted is None and state.desired.ingress and name in state.kong_ports:
        yield Step(name, "keep it until Kong leads there no more", waiting=True)
        return
    if wanted is None and state.desired.ingress and state.desired.ingress.kong and (silence := state.kong_silence):
        yield Step(name, f"keep it until Kong tells where it leads: {silence}", waiting=True)
        return
    kept = {instance.id for instance in wanted.instances} if wanted else set()
    surplus = sorted(state.instances_of(name) - kept)
    if kept and any(map(state.exposed, surplus)) and not (all(map(state.serving, kept)) and state.told(name)):
        yield Step(name, f"keep {', '.join(surplus)} until the new instances answer", waiting=True)
        return
    for id_ in surplus:
        yield from _instance(state, name, id_)
    if wanted is None and not surplus:
        yield from _policy(state, name)


def _instance(state: MeshState, name: str, id_: str) -> Iterator[Action | Step]:
    known, has_sidecar = state.registrations.get(id_), id_ in state.observed.sidecars
    if known and has_sidecar and id_ not in state.observed.drained:
        if not known.draining:
            yield Drain(id_)
        yield Step(name, f"wait until {id_} has finished its calls", waiting=True)
        return
    if known:
        yield Deregister(id_, f"{id_}-sidecar" if known.sidecar_port is not None else None)
    if has_sidecar:
        yield StopSidecar(id_)
    if id_ in state.observed.workloads:
        yield StopWorkload(id_)


def _policy(state: MeshState, name: str) -> Iterator[Action]:
    yield from state.policy(name, ())
    # Consul refuses to take the protocol away from under a router: defaults go last.
    for kind in ("service-router", "service-resolver", "service-defaults"):
        entry = state.entries.get((kind, name))
        if entry and entry.owner == state.desired.mesh:
            yield DeleteEntry(kind, name)


def ingress(state: MeshState) -> Iterator[Action | Step]:
    """What takes the ingress away: it goes first of all, its entries after every route."""
    id_, name = state.desired.ingress_id, state.desired.ingress_service
    kong = state.observed.kong
    if kong and kong.pid is None and state.kong_ports:
        yield CloseKong()
    # Once the ingress is not even registered, a Kong that is away for good holds nothing up.
    if (
        kong
        and kong.pid is None
        and state.kong_silence
        and (id_ in state.observed.sidecars or id_ in state.registrations)
    ):
        yield Step(name, f"wait for Kong, which may lead here: {state.kong_silence}", waiting=True)
        return
    if kong and kong.pid is not None:
        if id_ not in state.observed.drained:
            if not state.observed.ingress_closing:
                yield Drain(id_)
            yield Step(name, "wait until the ingress has finished its calls", waiting=True)
            return
        yield StopKong(id_)
    if id_ in state.observed.sidecars:
        if not (state.observed.ingress_closing and id_ in state.observed.drained):
            if not state.observed.ingress_closing:
                yield Drain(id_)
            yield Step(name, "wait until the ingress has finished its calls", waiting=True)
            return
        yield StopSidecar(id_)
    if id_ in state.registrations:
        beside = state.registrations[id_].sidecar_port
        yield Deregister(id_, None if beside is None else f"{id_}-sidecar")
    if not any(
        kind == "http-route" and entry.owner == state.desired.mesh for (kind, _), entry in state.entries.items()
    ):
        for kind in ("api-gateway", "service-defaults"):
            entry = state.entries.get((kind, name))
            if entry and entry.owner == state.desired.mesh:
                yield DeleteEntry(kind, name)
