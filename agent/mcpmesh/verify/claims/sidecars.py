"""Claims about a service's sidecars: whose they are, who they say they are, and whom they turn away."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from mcpmesh.mcp.through_sidecar import tls_through
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.finding import Finding, bad, each, good
from mcpmesh.verify.probes import foreign_certificate
from mcpmesh.verify.probes.tcp_probe import KNOCK_SECONDS, Outcome, Reply, knock, request
from mcpmesh.verify.snapshot import Facts, Seat, known
from mcpmesh.verify.target import LOOPBACK, SIDECAR

# Connecting, shaking hands and reading have a bound each.
_SECONDS = 3 * KNOCK_SECONDS


async def port_is_envoys(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """The sidecar's registered port is held by the Envoy with that instance's mark, and by nobody else."""

    async def probe(seat: Seat) -> Finding:
        return holder(facts, seat.id, SIDECAR, facts.door(seat).port, facts.door(seat).host)

    return await at_each_sidecar(facts, wanted, probe)


def holder(facts: Facts, instance: str, role: str, port: int, host: str = LOOPBACK) -> Finding:
    """Whether that port is held by the Envoy of `instance` alone, by the kernel's word."""
    pids = facts.ground.of(instance).holding(host, port)
    ours = {process.pid for process in facts.of(instance, role)}
    trouble, step = facts.envoy_trouble(instance, role)
    if not pids:
        return bad(f"port {port} of {instance} is held by nobody that we know; {trouble}", step)
    if strangers := sorted(pids - ours):
        names = ", ".join(f"pid {pid} ({facts.tree.name(pid)})" for pid in strangers)
        return bad(f"port {port} of {instance} is held by {names}; {trouble}", f"end what holds it; {step}")
    return good(f"{host}:{port} is held by the Envoy of {instance}, pid {min(pids)}")


async def proves_identity(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """It shows a certificate of the service's SPIFFE identity, chained to Consul's CA."""
    context = known(facts.agent, facts.world).ssl_context()

    async def probe(seat: Seat) -> Finding:
        door = facts.door(seat)
        certificate = await tls_through(context, door, KNOCK_SECONDS)
        until = certificate.get("notAfter", "an unknown time")
        return good(f"port {door.port} proves to be {door.spiffe}, by Consul's CA, until {until}")

    return await at_each_sidecar(facts, wanted, probe)


async def refuses_plain_text(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """A request in the clear gets no answer."""
    return await _refuses(facts, wanted, None, "plain text")


async def refuses_no_certificate(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """A caller that shows no certificate gets no answer."""
    return await _refuses(facts, wanted, foreign_certificate.bare_context(), "a caller without a certificate")


async def refuses_foreign_certificate(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """A caller whose certificate names an allowed identity, but comes from another CA, gets no answer."""
    return await _refuses(facts, wanted, facts.foreigner, "a certificate of another CA")


async def _refuses(facts: Facts, wanted: DesiredService, context: ssl.SSLContext | None, whom: str) -> list[Finding]:
    async def probe(seat: Seat) -> Finding:
        door = facts.door(seat)
        reply = await knock(door.host, door.port, context=context, say=request("/"))
        return judge_refusal(reply, whom, f"port {door.port}", *facts.envoy_trouble(seat.id, SIDECAR))

    return await at_each_sidecar(facts, wanted, probe)


def judge_refusal(reply: Reply, whom: str, where: str, trouble: str, step: str) -> Finding:
    """Only a connection that was ended is a refusal; silence proves nothing; pure."""
    if reply.outcome is Outcome.CLOSED:
        return good(f"{where} refuses {whom}: {reply.said}")
    if reply.outcome is Outcome.ANSWERED:
        return bad(f"{where} answers {whom}: {reply.said}; {trouble}", step)
    return bad(f"whether {where} refuses {whom} can't be told: {reply.said}; {trouble}", step)


async def at_each_sidecar(
    facts: Facts, wanted: DesiredService, probe: Callable[[Seat], Awaitable[Finding]], seconds: float = _SECONDS
) -> list[Finding]:
    """One finding per instance; what failed is told with the state of its Envoy."""
    return await each(facts.seats(wanted), probe, seconds, lambda seat: facts.envoy_trouble(seat.id, SIDECAR))
