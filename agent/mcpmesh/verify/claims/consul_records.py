"""Claims about a service's records in Consul: registrations, checks and config entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpmesh.consul.ownership import DIGEST
from mcpmesh.model.observed_state import Entry, Registration, Unknown
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.attempts import try_each
from mcpmesh.verify.finding import Diagnosis, Finding, fails, holds
from mcpmesh.verify.probes.consul_catalog import CatalogEntry
from mcpmesh.verify.snapshot import InstanceView, Snapshot, require_known
from mcpmesh.verify.target import Target
from mcpmesh.verify.time_limits import ANSWER_SECONDS

_DIGEST_SHOWN = 12


async def registered_as_wanted(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """Each wanted instance and its sidecar is registered by this mesh, at Consul's agent and in its catalog.

    No other instance of the service is registered by this mesh.
    """
    target = snapshot.target
    require_known(snapshot.registrations, target)
    catalog = await _catalog_entries(snapshot, wanted)

    async def judge(instance: InstanceView) -> Finding:
        registration = snapshot.registration_of(instance)
        snapshot.sidecar_of(instance)
        if missing := [id_ for id_ in _registered_ids(instance) if id_ not in catalog]:
            return fails(f"{', '.join(missing)} is not in the catalog", target.agent_repairs)
        if registration.draining:
            return fails(f"{instance.id} is being drained", target.agent_repairs)
        return judge_digest(target, registration, await _digest_of_running(snapshot, instance))

    findings = await try_each(
        snapshot.instances_of(wanted), judge, ANSWER_SECONDS, lambda _: Diagnosis("", target.agent_repairs)
    )
    return findings + surplus(snapshot, wanted)


async def _digest_of_running(snapshot: Snapshot, instance: InstanceView) -> str | None:
    """The digest that what runs would be registered with; None where nothing ready runs (another claim says so)."""
    if not instance.programs:
        return None
    workload = await snapshot.target.runtime.observe(instance.programs[0])
    if not workload.ready:
        return None
    digest: str = instance.wanted.registrar(instance.instance, workload)[0]["Meta"][DIGEST]
    return digest


def judge_digest(target: Target, registration: Registration, digest: str | None) -> Finding:
    """Whether the registration is of what runs; `digest` is that of what runs, None where it is not known."""
    id_ = registration.id
    if digest is not None and digest != registration.digest:
        return fails(
            f"{id_} is registered with digest {registration.digest[:_DIGEST_SHOWN] or 'unknown'}, "
            f"what runs would be registered with {digest[:_DIGEST_SHOWN]}",
            target.agent_repairs,
        )
    ports = f"ports {registration.port} and {registration.sidecar_port}"
    evidence = f"{id_} and its sidecar are registered by mesh {target.mesh} at {ports}"
    return holds(evidence if digest is None else f"{evidence}, digest {digest[:_DIGEST_SHOWN]}")


def surplus(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """A failure for each registration of this mesh under the service's name that is neither wanted nor draining."""
    if isinstance(snapshot.registrations, Unknown):
        return []
    ids = {instance.id for instance in wanted.instances}
    return [
        unwanted_registration(snapshot.target, registration)
        for registration in snapshot.registrations.values()
        if registration.service == wanted.spec.name and registration.id not in ids and not registration.draining
    ]


def unwanted_registration(target: Target, registration: Registration) -> Finding:
    """The failure for a registration that the catalog does not ask for."""
    by_hand = target.consul_command("services deregister", f"-id={registration.id}")
    return fails(
        f"{registration.id} (port {registration.port}) is registered and not wanted",
        f"{target.agent_repairs}; by hand: {by_hand}",
    )


async def checks_pass(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """Consul's own checks of each instance and sidecar pass, as callers' Envoys learn of them."""
    target = snapshot.target
    require_known(snapshot.registrations, target)
    catalog = await _catalog_entries(snapshot, wanted)

    async def judge(instance: InstanceView) -> Finding:
        found = [catalog[id_] for id_ in _registered_ids(instance) if id_ in catalog]
        return judge_checks(target, instance.id, found)

    return await try_each(
        snapshot.instances_of(wanted), judge, ANSWER_SECONDS, lambda _: Diagnosis("", target.mcpmesh_command("status"))
    )


def judge_checks(target: Target, instance: str, found: list[CatalogEntry]) -> Finding:
    """`found` are the entries of the instance and its sidecar in Consul's catalog."""
    if not found:
        return fails(f"{instance} is not in Consul's catalog, so nothing checks it", target.agent_repairs)
    failing = [text for entry in found for text in entry.failing]
    if failing:
        step = f"see its log, {target.log_file(instance)}, and: {target.mcpmesh_command('status')}"
        return fails(f"{instance}: {'; '.join(failing)}", step)
    return holds(f"{sum(entry.checks for entry in found)} checks of {instance} pass")


async def configured_as_wanted(snapshot: Snapshot, wanted: DesiredService) -> list[Finding]:
    """The service's config entries, its route among them, are in Consul as they are wanted."""
    present = require_known(snapshot.entries, snapshot.target)
    payloads = (*wanted.entries, *((wanted.route,) if wanted.route else ()))
    return [judge_entry(snapshot.target, payload, present) for payload in payloads]


def judge_entry(target: Target, wanted: Mapping[str, Any], present: Mapping[tuple[str, str], Entry]) -> Finding:
    """Whether a config entry is there, written by this mesh, with the wanted digest."""
    kind, name = wanted["Kind"], wanted["Name"]
    entry = present.get((kind, name))
    if entry is None:
        return fails(f"{kind}/{name} is missing", target.agent_repairs)
    if entry.owner != target.mesh:
        delete = target.consul_command("config delete", f"-kind {kind} -name {name}")
        return fails(f"{kind}/{name} was not written by this mesh", f"rename the service, or: {delete}")
    if entry.digest != wanted["Meta"][DIGEST]:
        return fails(f"{kind}/{name} is not as wanted", target.agent_repairs)
    return holds(f"{kind}/{name}")


async def _catalog_entries(snapshot: Snapshot, wanted: DesiredService) -> dict[str, CatalogEntry]:
    """The instances and sidecars of a service in Consul's catalog, by id."""
    name = wanted.spec.name
    return await snapshot.catalog.instances(name) | await snapshot.catalog.sidecars(name)


def _registered_ids(instance: InstanceView) -> tuple[str, str]:
    return instance.id, instance.instance.sidecar_id
