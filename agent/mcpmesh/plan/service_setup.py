"""Bringing up: policy, workload, registration, sidecar, and the route last."""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.instance import Instance
from mcpmesh.model.mesh_status import Step
from mcpmesh.model.observed_state import Observed, Registration, Workload
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
from mcpmesh.plan.desired_state import Wanted, WantedIngress
from mcpmesh.plan.mesh_state import Look, matches


def service(look: Look, wanted: Wanted) -> Iterator[Action | Step]:
    """What brings the wanted instances of a service up, as far as it can go now."""
    written_by_others = list(look.foreign((*wanted.entries, *((wanted.route,) if wanted.route else ()))))
    if written_by_others:
        yield from written_by_others
        return
    # A router stands only on HTTP: it goes before the protocol may change.
    router = look.entries.get(("service-router", wanted.spec.name))
    if router and router.kind not in {payload["Kind"] for payload in wanted.entries}:
        yield DeleteEntry(router.kind, router.name)
    yield from look.unwritten(look.entries_of(wanted))
    yield from look.policy(wanted.spec.name, wanted.allow)
    for instance in wanted.instances:
        yield from _instance(look, wanted, instance)
    if wanted.route and any(look.serving(instance.id) for instance in wanted.instances):
        yield from look.unwritten((wanted.route,))
    if not look.told(wanted.spec.name):
        yield Step(wanted.spec.name, "wait until its callers know its instances", waiting=True)


def _instance(look: Look, wanted: Wanted, instance: Instance) -> Iterator[Action | Step]:
    workload = look.observed.workloads.get(instance.id)
    known = look.registrations.get(instance.id)
    if workload is None and known is not None and known.has_own_address:
        # It went with the instance: callers let go of it at once, or their calls would wait there for nobody.
        yield Deregister(instance.id, instance.sidecar_id if known.sidecar_port is not None else None)
    if workload is None and instance.id in look.observed.held:
        yield Step(wanted.spec.name, look.observed.held[instance.id], waiting=True)
    elif workload is None:
        # The ports that Consul and the callers know are kept where they can be.
        yield StartWorkload(instance, known.port if known else None, known.sidecar_port if known else None)
    elif workload.pid in look.observed.stuck:
        yield StopWorkload(instance.id)
    elif known is None and not workload.ready:
        yield Step(wanted.spec.name, f"wait for {instance.id}: {workload.error or workload.state}", waiting=True)
    else:
        yield from _exposed(look, wanted, instance, workload, known)


def _exposed(
    look: Look, wanted: Wanted, instance: Instance, workload: Workload, known: Registration | None
) -> Iterator[Action | Step]:
    # What a server says of itself can be read only while it is ready, so a
    # registration is compared, and renewed, only then. What Consul's agent knows
    # reaches its catalog, and so the callers, at the latest with a registration.
    payloads = wanted.registrar(instance, workload)
    if workload.ready and (not matches(known, payloads) or wanted.spec.name in look.observed.untold):
        yield Register(instance.id, payloads)
    sidecar = look.observed.sidecars.get(instance.id)
    if sidecar is None and instance.id in look.observed.held:
        yield Step(wanted.spec.name, look.observed.held[instance.id], waiting=True)
    elif sidecar is None:
        yield StartSidecar(instance.id, instance.sidecar_id, wanted.spec.name, workload.sidecar_port)
    elif sidecar.pid in look.observed.stuck:
        yield StopSidecar(instance.id)
    elif not look.serving(instance.id):
        why = _why_not_serving(look.observed, workload, known)
        yield Step(wanted.spec.name, f"wait for {instance.id}: {why}", waiting=True)


def _why_not_serving(observed: Observed, workload: Workload, known: Registration | None) -> str:
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


def gateway(look: Look, wanted: WantedIngress) -> Iterator[Action | Step]:
    """What brings Consul's API gateway up; it begins to listen with the first route."""
    written_by_others = list(look.foreign(wanted.entries))
    if written_by_others:
        yield from written_by_others
        return
    if look.observed.kong and look.observed.kong.pid is not None:  # of an earlier time
        yield StopKong(wanted.id)
    elif look.observed.kong and look.kong_ports:  # somebody else's
        yield CloseKong()
    yield from look.unwritten(wanted.entries)
    known = look.registrations.get(wanted.id)
    if known and known.sidecar_port is not None:
        yield Deregister(wanted.id, f"{wanted.id}-sidecar")
    elif not matches(known, (wanted.registration,)):
        yield Register(wanted.id, (wanted.registration,))
    envoy = look.observed.sidecars.get(wanted.id)
    if envoy is None and wanted.id in look.observed.held:
        yield Step(look.desired.ingress_service, look.observed.held[wanted.id], waiting=True)
    elif envoy is None:
        yield StartSidecar(wanted.id, wanted.id, look.desired.ingress_service, wanted.port, gateway=True)
    elif envoy.pid in look.observed.stuck or envoy.port != wanted.port:
        yield StopSidecar(wanted.id)
    elif not envoy.ready:
        yield Step(look.desired.ingress_service, "wait for the ingress", waiting=True)
