"""The claim that Consul holds nothing of this mesh beyond what is wanted: no route to nowhere."""

from __future__ import annotations

from collections.abc import Iterator

from mcpmesh.model.observed_state import Entry, Intention, Registration
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.verify.claims import intentions as rulings
from mcpmesh.verify.claims.consul_records import not_wanted
from mcpmesh.verify.finding import Finding, bad, good
from mcpmesh.verify.snapshot import Facts, known


async def none(facts: Facts) -> list[Finding]:
    """Registrations, config entries and intentions that bear our mark are all wanted."""
    world = facts.world
    registrations = known(facts.registrations, world)
    entries, intentions = known(facts.entries, world), known(facts.intentions, world)
    findings = [not_wanted(world, item) for item in unwanted_registrations(world.desired, registrations)]
    findings += [
        bad(
            f"{entry.kind}/{entry.name} was written by this mesh and is not wanted",
            f"{world.mended_by_agent}; by hand: "
            + world.consul_command("config delete", f"-kind {entry.kind} -name {entry.name}"),
        )
        for entry in unwanted_entries(world.desired, entries)
    ]
    findings += [
        bad(
            f"the intention {rulings.pair(intention)} was written by this mesh and is not wanted",
            f"{world.mended_by_agent}; by hand: "
            + world.consul_command("intention delete", f"'{intention.source}' '{intention.destination}'"),
        )
        for intention in unwanted_intentions(world.desired, intentions)
    ]
    told = f"{len(registrations)} registrations, and every entry and intention with our mark, are wanted"
    return findings or [good(told)]


def unwanted_registrations(desired: DesiredState, present: dict[str, Registration]) -> Iterator[Registration]:
    """Those of services that are not in the catalog; others are told with their service; pure."""
    for registration in present.values():
        if (
            registration.service not in desired.services
            and registration.id != desired.ingress_id
            and not registration.draining
        ):
            yield registration


def unwanted_entries(desired: DesiredState, present: dict[tuple[str, str], Entry]) -> Iterator[Entry]:
    """Ours that no service and no ingress asks for; pure."""
    payloads = [payload for wanted in desired.services.values() for payload in wanted.entries]
    payloads += [wanted.route for wanted in desired.services.values() if wanted.route]
    payloads += desired.ingress.entries if desired.ingress else ()
    keys = {(payload["Kind"], payload["Name"]) for payload in payloads}
    for key, entry in present.items():
        if entry.owner == desired.mesh and key not in keys:
            yield entry


def unwanted_intentions(desired: DesiredState, present: tuple[Intention, ...]) -> Iterator[Intention]:
    """Ours that let in somebody whom the catalog does not; pure."""
    for intention in present:
        wanted = desired.services.get(intention.destination)
        if intention.owner == desired.mesh and (wanted is None or intention.source not in wanted.allow):
            yield intention
