"""The claim that Consul has nothing of this mesh beyond what is wanted, so that no route leads nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mcpmesh.model.observed_state import Entry, Intention, Registration
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.verify.claims.consul_records import unwanted_registration
from mcpmesh.verify.claims.intentions import pair
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.snapshot import Snapshot, require_known


async def nothing_is_left_over(snapshot: Snapshot) -> list[Finding]:
    """Every registration, config entry and intention with this mesh's mark is wanted."""
    target = snapshot.target
    registrations = require_known(snapshot.registrations, target)
    entries = require_known(snapshot.entries, target)
    intentions = require_known(snapshot.intentions, target)
    findings = [
        unwanted_registration(target, registration)
        for registration in unwanted_registrations(target.desired, registrations)
    ]
    for entry in unwanted_entries(target.desired, entries):
        by_hand = target.consul_command("config delete", f"-kind {entry.kind} -name {entry.name}")
        evidence = f"{entry.kind}/{entry.name} was written by this mesh and is not wanted"
        findings.append(fails(evidence, f"{target.agent_repairs}; by hand: {by_hand}"))
    for intention in unwanted_intentions(target.desired, intentions):
        by_hand = target.consul_command("intention delete", f"'{intention.source}' '{intention.destination}'")
        evidence = f"the intention {pair(intention)} was written by this mesh and is not wanted"
        findings.append(fails(evidence, f"{target.agent_repairs}; by hand: {by_hand}"))
    return findings or [
        holds(f"{len(registrations)} registrations, and every entry and intention with our mark, are wanted")
    ]


def unwanted_registrations(desired: DesiredState, present: Mapping[str, Registration]) -> Iterator[Registration]:
    """Those of services that are not in the catalog. Surplus ones of other services fail a claim of their service."""
    for registration in present.values():
        known = registration.service in desired.services or registration.id == desired.ingress_id
        if not known and not registration.draining:
            yield registration


def unwanted_entries(desired: DesiredState, present: Mapping[tuple[str, str], Entry]) -> Iterator[Entry]:
    """Those of this mesh that no service and no ingress asks for."""
    payloads = [payload for wanted in desired.services.values() for payload in wanted.entries]
    payloads += [wanted.route for wanted in desired.services.values() if wanted.route]
    payloads += desired.ingress.entries if desired.ingress else ()
    keys = {(payload["Kind"], payload["Name"]) for payload in payloads}
    for key, entry in present.items():
        if entry.owner == desired.mesh and key not in keys:
            yield entry


def unwanted_intentions(desired: DesiredState, present: tuple[Intention, ...]) -> Iterator[Intention]:
    """Those of this mesh that name a caller whom the catalog does not allow."""
    for intention in present:
        wanted = desired.services.get(intention.destination)
        if intention.owner == desired.mesh and (wanted is None or intention.source not in wanted.allow):
            yield intention
