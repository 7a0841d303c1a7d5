"""Kong at the ingress: it, its sidecar, and the document that says where it leads.

A listener of the sidecar is there before Kong leads to it, and stays until
Kong leads there no more. What Kong does not tell is unknown: then no listener
is taken away, and no document handed over.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.observed_state import Kong, KongContent, Unknown
from mcpmesh.model.report_items import Step
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
from mcpmesh.plan.mesh_state import MeshState, matches

# What the actions and failures of Kong's document are filed under; no service can have a name with a space.
DOCUMENT = "kong document"


def kong(state: MeshState, wanted: DesiredIngress, edge: DesiredKong) -> Iterator[Action | Step]:
    """What brings Kong and its sidecar up."""
    written_by_others = list(state.foreign(wanted.entries))
    if written_by_others:
        yield from written_by_others
        return
    yield from state.unwritten(wanted.entries)
    yield from _gateway_entries(state)
    envoy = state.observed.sidecars.get(wanted.id)
    if envoy and envoy.port == wanted.port:  # the API gateway of an earlier time
        yield StopSidecar(wanted.id)
        return
    seen = state.observed.kong
    yield from _process(state, wanted, edge, seen)
    known = state.registrations.get(wanted.id)
    unregistered = known is None or known.sidecar_port is None
    if unregistered and not (seen and seen.listening):
        return  # nothing is registered before it answers
    content = None if seen is None or isinstance(seen.content, Unknown) else seen.content
    payloads = edge.registrar({**(content.ports if content else {}), **edge.ports})
    if unregistered or (content and not matches(known, payloads)):
        yield Register(wanted.id, payloads)
    yield from _sidecar(state, wanted, edge)


def _process(state: MeshState, wanted: DesiredIngress, edge: DesiredKong, seen: Kong | None) -> Iterator[Action | Step]:
    name, held = state.desired.ingress_service, state.observed.held.get(wanted.id)
    if seen is None and held:
        yield Step(name, held, waiting=True)
    elif seen is None:
        yield StartKong(wanted.id, name, wanted.port)
    elif seen.pid is not None and (
        seen.pid in state.observed.stuck or (seen.port, seen.digest) != (wanted.port, edge.digest)
    ):
        yield StopKong(wanted.id)
    elif isinstance(seen.content, Unknown):
        yield Step(name, f"wait for Kong: {seen.content.reason}", waiting=True)
    elif not seen.listening:
        yield Step(name, f"wait for Kong: nobody accepts connections at its port {wanted.port}", waiting=True)


def _sidecar(state: MeshState, wanted: DesiredIngress, edge: DesiredKong) -> Iterator[Action | Step]:
    name, held = state.desired.ingress_service, state.observed.held.get(wanted.id)
    envoy = state.observed.sidecars.get(wanted.id)
    if envoy is None and held:
        yield Step(name, held, waiting=True)
    elif envoy is None:
        yield StartSidecar(wanted.id, f"{wanted.id}-sidecar", name, edge.sidecar_port)
    elif envoy.pid in state.observed.stuck or envoy.port != edge.sidecar_port:
        yield StopSidecar(wanted.id)
    elif not envoy.ready:
        yield Step(name, "wait for the ingress's sidecar", waiting=True)


def _gateway_entries(state: MeshState) -> Iterator[Action]:
    """The API gateway of an earlier time goes once no route of ours hangs on it."""
    mesh = state.desired.mesh
    entry = state.entries.get(("api-gateway", state.desired.ingress_service))
    routes = any(kind == "http-route" and route.owner == mesh for (kind, _), route in state.entries.items())
    if entry and entry.owner == mesh and not routes:
        yield DeleteEntry(entry.kind, entry.name)


def document(state: MeshState, wanted: DesiredIngress, edge: DesiredKong) -> Iterator[Action | Step]:
    """Hands Kong its document where it goes by another: ours of before, somebody else's, none."""
    seen = state.observed.kong
    if seen is None or isinstance(seen.content, Unknown):
        return
    leads = sorted(name for name in edge.ports if _may_lead(state, wanted, edge, name, seen.content))
    found = edge.document(leads)
    if found.hash != seen.content.hash:
        yield PostDocument(found, tuple(leads))


def _may_lead(state: MeshState, wanted: DesiredIngress, edge: DesiredKong, name: str, content: KongContent) -> bool:
    """Whether Kong may lead to a service: its sidecar listens for it, and somebody serves it, or Kong did before."""
    port = edge.ports[name]
    if content.ports.get(name) == port:
        return True
    envoy = state.observed.sidecars.get(wanted.id)
    reached = bool(envoy and port in envoy.listening and envoy.known.get(name))
    return reached and any(state.serving(instance.id) for instance in state.desired.services[name].instances)
