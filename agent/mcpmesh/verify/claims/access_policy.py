"""Claims about who may call a service: what was declared is there, and nobody else gets in."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from dataclasses import dataclass

from mcpmesh.model.observed_state import Intention
from mcpmesh.model.service import Protocol
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.claims import envoys, intentions
from mcpmesh.verify.claims.call_verdict import ruling
from mcpmesh.verify.claims.sidecars import at_each_sidecar
from mcpmesh.verify.finding import CannotTry, Finding, bad, good
from mcpmesh.verify.probes.tcp_probe import KNOCK_SECONDS, Outcome, Reply, knock, request
from mcpmesh.verify.snapshot import Facts, Seat, known
from mcpmesh.verify.target import SIDECAR, STRANGER_IDENTITY, World

_FORBIDDEN = 403
_FIRST_BYTE = b"\n"


async def declared(facts: Facts, wanted: DesiredService, source: str) -> list[Finding]:
    """The intention for one caller that the catalog names stands in Consul, or a person's own for that pair."""
    present = known(facts.intentions, facts.world)
    return [judge_declared(facts.world, intentions.exact(present, source, wanted.spec.name), source, wanted.spec.name)]


def judge_declared(world: World, found: Intention | None, source: str, service: str) -> Finding:
    """What a person wrote for a pair is kept, whatever it says; pure."""
    if found is None:
        by_hand = world.consul_command("intention create", f"-allow {source} {service}")
        return bad(f"Consul has no intention {source} => {service}", f"{world.mended_by_agent}; by hand: {by_hand}")
    if found.owner == world.mesh:
        return good(f"Consul has {intentions.pair(found)} ({found.action}), written by this mesh")
    who = f"mesh {found.owner}" if found.owner else "a person"
    return good(f"Consul has {intentions.pair(found)} ({found.action}), written by {who}, and it is kept")


async def stranger_refused(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """An identity of this very CA that no intention names is turned away by each sidecar."""
    context = known(facts.stranger, facts.world).ssl_context()

    async def probe(seat: Seat) -> Finding:
        if wanted.spec.protocol is Protocol.TCP:
            reply, refused = await cut_off(facts, seat, context)
            let_in = reply.opened
        else:
            door = facts.door(seat)
            reply = await knock(door.host, door.port, context=context, say=request("/mcp"))
            refused = reply.status == _FORBIDDEN and not reply.forwarded
            let_in = reply.outcome is Outcome.ANSWERED
        return judge_stranger(
            facts.world,
            Visit(f"port {facts.door(seat).port}", reply.said, refused, let_in, *facts.envoy_trouble(seat.id, SIDECAR)),
            ruling(facts, STRANGER_IDENTITY, wanted.spec.name),
            wanted.allow,
        )

    return await at_each_sidecar(facts, wanted, probe)


async def cut_off(facts: Facts, seat: Seat, context: ssl.SSLContext) -> tuple[Reply, bool]:
    """What a TCP connection with this identity comes to, and whether it was Envoy's access control that ended it.

    Envoy asks for permission when the first byte comes from the caller (its network RBAC filter), so a service
    that speaks first has been heard by then. A service may end a connection itself: what tells is Envoy's count.
    """
    door = facts.door(seat)
    if not seat.envoys:
        raise CannotTry(*facts.envoy_trouble(seat.id, SIDECAR))
    admin = seat.envoys[0].private_address("admin")
    before = await envoys.denied(facts.http, admin)
    reply = await knock(door.host, door.port, context=context, say=_FIRST_BYTE, hold=KNOCK_SECONDS)
    return reply, reply.outcome is Outcome.CLOSED and await envoys.denied(facts.http, admin) > before


@dataclass(frozen=True)
class Visit:
    """A stranger at a sidecar: whether Envoy `refused` it or it was `let_in`, and what is known of that Envoy.

    Neither, where the probe came to nothing.
    """

    where: str
    said: str
    refused: bool
    let_in: bool
    trouble: str
    step: str


def judge_stranger(world: World, visit: Visit, found: Intention | None, allow: Collection[str]) -> Finding:
    """Whether a stranger was turned away; `found` is the intention that decides for it; pure."""
    said = visit.said
    if visit.refused:
        return good(f"{visit.where} refuses {STRANGER_IDENTITY}: {said}")
    if not visit.let_in:
        return bad(
            f"whether {visit.where} refuses {STRANGER_IDENTITY} can't be told: {said}; {visit.trouble}", visit.step
        )
    seen = f"{visit.where} lets {STRANGER_IDENTITY} in: {said}"
    if intentions.ANY in allow:
        return good(f"{seen}, and everybody may call it, as the catalog says")
    if found is None:
        policy = 'set default_intention_policy = "deny" in the configuration of Consul'
        return bad(f"{seen}; no intention says so, and by default nothing should be allowed", f"{policy}; {visit.step}")
    if found.action == intentions.DENY:
        return bad(f"{seen}, though {intentions.pair(found)} (deny) says otherwise; {visit.trouble}", visit.step)
    delete = world.consul_command("intention delete", f"'{found.source}' '{found.destination}'")
    return bad(
        f"{seen}; the intention {intentions.pair(found)} ({found.action}) says so", f"if that is not meant: {delete}"
    )


async def denies_by_default(facts: Facts) -> list[Finding]:
    """Consul's own default: a pair that no intention names is denied."""
    known(facts.registrations, facts.world)
    policy = await facts.catalog.default_policy()
    if policy == intentions.DENY:
        return [good(f"Consul at {facts.world.consul.address} denies what no intention allows")]
    step = 'set default_intention_policy = "deny" in the configuration of its servers and agents, and start them again'
    return [bad(f"Consul at {facts.world.consul.address} has the default intention policy {policy!r}", step)]
