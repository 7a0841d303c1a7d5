"""Claims about who may call a service: what was declared is there, and nobody else gets in."""

from __future__ import annotations

from collections.abc import Collection

from mcpmesh.model.observed import Intention, Unknown
from mcpmesh.model.service import Protocol
from mcpmesh.plan.desired import Wanted
from mcpmesh.verify import rulings
from mcpmesh.verify.facts import Facts, Seat, known
from mcpmesh.verify.finding import Finding, bad, good
from mcpmesh.verify.knock import Outcome, Reply, knock, request
from mcpmesh.verify.sidecars import at_each_sidecar
from mcpmesh.verify.world import SIDECAR, STRANGER_IDENTITY, World

_FORBIDDEN = 403
# Envoy asks for permission on the first byte of a TCP connection, not before.
_FIRST_BYTE = b"\n"


async def declared(facts: Facts, wanted: Wanted, source: str) -> list[Finding]:
    """The intention for one caller that the catalog names stands in Consul, or a person's own for that pair."""
    present = known(facts.intentions, facts.world)
    return [judge_declared(facts.world, rulings.exact(present, source, wanted.spec.name), source, wanted.spec.name)]


def judge_declared(world: World, found: Intention | None, source: str, service: str) -> Finding:
    """What a person wrote for a pair is kept, whatever it says; pure."""
    if found is None:
        by_hand = world.consul_command("intention create", f"-allow {source} {service}")
        return bad(f"Consul has no intention {source} => {service}", f"{world.mended_by_agent}; by hand: {by_hand}")
    if found.owner == world.mesh:
        return good(f"Consul has {rulings.pair(found)} ({found.action}), written by this mesh")
    who = f"mesh {found.owner}" if found.owner else "a person"
    return good(f"Consul has {rulings.pair(found)} ({found.action}), written by {who}, and it is kept")


async def stranger_refused(facts: Facts, wanted: Wanted) -> list[Finding]:
    """An identity of this very CA that no intention names is turned away by each sidecar."""
    context = known(facts.stranger, facts.world).ssl_context()
    name, http = wanted.spec.name, wanted.spec.protocol is Protocol.HTTP

    async def probe(seat: Seat) -> Finding:
        door = facts.door(seat)
        reply = await knock(door.host, door.port, context=context, say=request("/mcp") if http else _FIRST_BYTE)
        trouble, step = facts.envoy_trouble(seat.id, SIDECAR)
        if reply.outcome is Outcome.ANSWERED or (not http and reply.outcome is Outcome.SILENT):
            return judge_stranger(
                facts.world, reply, f"port {door.port}", ruling_of_stranger(facts, name), wanted.allow
            )
        if reply.outcome is Outcome.CLOSED and not http:
            return good(f"port {door.port} refuses {STRANGER_IDENTITY}: {reply.said}")
        return bad(f"whether port {door.port} refuses {STRANGER_IDENTITY} can't be told: {reply.said}; {trouble}", step)

    return await at_each_sidecar(facts, wanted, probe)


def judge_stranger(world: World, reply: Reply, where: str, found: Intention | None, allow: Collection[str]) -> Finding:
    """What an open connection or an answer means; `found` is the intention that decides for the stranger; pure."""
    if reply.status == _FORBIDDEN and not reply.forwarded:
        return good(f"{where} answers {STRANGER_IDENTITY} with HTTP 403")
    seen = f"{where} lets {STRANGER_IDENTITY} in: {reply.said}"
    if rulings.ANY in allow:
        return good(f"{seen}, and everybody may call it, as the catalog says")
    if found is None:
        return bad(
            f"{seen}; no intention says so, and by default nothing should be allowed",
            'set default_intention_policy = "deny" in Consul\'s configuration, and see: '
            + world.consul_command("intention list", "").rstrip(),
        )
    delete = world.consul_command("intention delete", f"'{found.source}' '{found.destination}'")
    return bad(
        f"{seen}; the intention {rulings.pair(found)} ({found.action}) says so", f"if that is not meant: {delete}"
    )


def ruling_of_stranger(facts: Facts, service: str) -> Intention | None:
    """The intention that decides for the stranger."""
    if isinstance(facts.intentions, Unknown):
        return None
    return rulings.ruling(facts.intentions, STRANGER_IDENTITY, service)


async def denies_by_default(facts: Facts) -> list[Finding]:
    """Consul's own default: a pair that no intention names is denied."""
    policy = await facts.catalog.default_policy()
    if policy == rulings.DENY:
        return [good(f"Consul at {facts.world.consul.address} denies what no intention allows")]
    step = 'set default_intention_policy = "deny" in the configuration of its servers and agents, and start them again'
    return [bad(f"Consul at {facts.world.consul.address} has the default intention policy {policy!r}", step)]
