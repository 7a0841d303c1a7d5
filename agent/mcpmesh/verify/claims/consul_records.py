"""Claims about what Consul has of a service: that it is so, and that it is all."""

from __future__ import annotations

from mcpmesh.consul.ownership import DIGEST
from mcpmesh.model.observed_state import Registration, Unknown
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.finding import ANSWER_SECONDS, Finding, bad, each, good
from mcpmesh.verify.probes.consul_catalog import Entry
from mcpmesh.verify.snapshot import Facts, Seat, known
from mcpmesh.verify.target import World


async def as_wanted(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """Each wanted instance and its sidecar is registered by this mesh, in the agent and the catalog, and no other."""
    known(facts.registrations, facts.world)
    name = wanted.spec.name
    instances, sidecars = await facts.catalog.instances(name), await facts.catalog.sidecars(name)

    async def probe(seat: Seat) -> Finding:
        registration = facts.registered(seat)
        facts.door(seat)
        if (missing := [id_ for id_ in _ids(seat) if id_ not in instances | sidecars]) or registration.draining:
            what = f"{', '.join(missing)} is not in the catalog" if missing else f"{seat.id} is being drained"
            return bad(what, facts.world.mended_by_agent)
        return await _digest(facts, seat, registration)

    found = await each(facts.seats(wanted), probe, ANSWER_SECONDS, lambda _: ("", facts.world.mended_by_agent))
    return found + surplus(facts, wanted)


async def _digest(facts: Facts, seat: Seat, registration: Registration) -> Finding:
    """Compares digests where what runs can be described; a server that is down is told by another claim."""
    told = f"{seat.id} and its sidecar are registered by mesh {facts.world.mesh} at ports "
    told += f"{registration.port} and {registration.sidecar_port}"
    if not seat.programs:
        return good(told)
    workload = await facts.world.runtime.observe(seat.programs[0])
    if not workload.ready:
        return good(told)
    digest = seat.wanted.registrar(seat.instance, workload)[0]["Meta"][DIGEST]
    if digest != registration.digest:
        return bad(
            f"{seat.id} is registered with digest {registration.digest[:12] or 'unknown'}, "
            f"what runs would be registered with {digest[:12]}",
            facts.world.mended_by_agent,
        )
    return good(f"{told}, digest {digest[:12]}")


def surplus(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """Registrations of ours under this service's name that nobody wants, those that drain apart."""
    if isinstance(facts.registrations, Unknown):
        return []
    ids = {instance.id for instance in wanted.instances}
    return [
        not_wanted(facts.world, registration)
        for registration in facts.registrations.values()
        if registration.service == wanted.spec.name and registration.id not in ids and not registration.draining
    ]


def not_wanted(world: World, registration: Registration) -> Finding:
    """A registration of ours that leads to nothing wanted."""
    return bad(
        f"{registration.id} (port {registration.port}) is registered and not wanted",
        f"{world.mended_by_agent}; by hand: {world.consul_command('services deregister', f'-id={registration.id}')}",
    )


async def checks_pass(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """Consul's own checks of each instance and sidecar, as callers' Envoys hear of them."""
    known(facts.registrations, facts.world)
    name = wanted.spec.name
    instances, sidecars = await facts.catalog.instances(name), await facts.catalog.sidecars(name)

    async def probe(seat: Seat) -> Finding:
        found = [entry for id_ in _ids(seat) if (entry := (instances | sidecars).get(id_))]
        return judge_checks(facts.world, seat.id, found)

    return await each(facts.seats(wanted), probe, ANSWER_SECONDS, lambda _: ("", facts.world.mcpmesh("status")))


def judge_checks(world: World, id_: str, found: list[Entry]) -> Finding:
    """From an instance's entries in the catalog; pure."""
    if not found:
        return bad(f"{id_} is not in Consul's catalog, so nothing checks it", world.mended_by_agent)
    failing = [text for entry in found for text in entry.failing]
    if failing:
        return bad(f"{id_}: {'; '.join(failing)}", f"see its log, {world.log(id_)}, and: {world.mcpmesh('status')}")
    return good(f"{sum(entry.checks for entry in found)} checks of {id_} pass")


async def configured(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """The config entries of the service, its route among them, stand in Consul as they are wanted."""
    present = known(facts.entries, facts.world)
    payloads = (*wanted.entries, *((wanted.route,) if wanted.route else ()))

    async def probe(payload: dict[str, object]) -> Finding:
        kind, name, meta = str(payload["Kind"]), str(payload["Name"]), payload["Meta"]
        assert isinstance(meta, dict)
        entry = present.get((kind, name))
        if entry is None:
            return bad(f"{kind}/{name} is missing", facts.world.mended_by_agent)
        if entry.owner != facts.world.mesh:
            step = facts.world.consul_command("config delete", f"-kind {kind} -name {name}")
            return bad(f"{kind}/{name} was written by somebody else", f"rename the service, or: {step}")
        if entry.digest != meta[DIGEST]:
            return bad(f"{kind}/{name} is not as wanted", facts.world.mended_by_agent)
        return good(f"{kind}/{name}")

    return await each(payloads, probe, ANSWER_SECONDS, lambda _: ("", facts.world.mended_by_agent))


def _ids(seat: Seat) -> tuple[str, str]:
    return seat.id, seat.instance.sidecar_id
