"""Claims about calls: through each sidecar, from a service to its upstreams, and through the ingress."""

from __future__ import annotations

import ssl

import httpx

from mcpmesh.errors import Refused
from mcpmesh.mcp.mcp_client import Forbidden, Unauthorized
from mcpmesh.mcp.through_sidecar import Door, tls_through
from mcpmesh.model.service import Protocol, ServiceSpec, Upstream
from mcpmesh.plan.desired_state import DesiredService
from mcpmesh.verify.claims import intentions
from mcpmesh.verify.claims.access_policy import cut_off
from mcpmesh.verify.claims.call_verdict import as_ruled, ruling
from mcpmesh.verify.claims.route_paths import covering, forwarded, taken_by_own
from mcpmesh.verify.claims.sidecars import at_each_sidecar, holder
from mcpmesh.verify.finding import CannotTry, Finding, bad, each, good
from mcpmesh.verify.probes import in_namespace, service_calls
from mcpmesh.verify.probes.tcp_probe import KNOCK_SECONDS, Outcome, knock
from mcpmesh.verify.snapshot import Facts, Seat, known
from mcpmesh.verify.target import AGENT_IDENTITY, LOOPBACK, SIDECAR

_SECONDS = service_calls.TOOLS_SECONDS + KNOCK_SECONDS
# A TCP service whose instance is dead closes at once; one that lives stays open.
_HOLD_SECONDS = 0.3


async def through_sidecars(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """The agent's identity, which every service allows, makes a real call to each instance through its own sidecar."""
    context = known(facts.agent, facts.world).ssl_context()

    async def probe(seat: Seat) -> Finding:
        door = facts.door(seat)

        async def call() -> str:
            await tls_through(context, door, KNOCK_SECONDS)
            return f"{await _through(facts, seat, context, door)} through the sidecar at port {door.port}"

        return await as_ruled(facts, AGENT_IDENTITY, wanted.spec.name, call)

    return await at_each_sidecar(facts, wanted, probe, _SECONDS)


async def _through(facts: Facts, seat: Seat, context: ssl.SSLContext, door: Door) -> str:
    spec, base = seat.wanted.spec, f"https://{door.host}:{door.port}"
    if spec.protocol is Protocol.TCP:
        await tls_through(context, door, KNOCK_SECONDS, hold=_HOLD_SECONDS)
        found = ruling(facts, AGENT_IDENTITY, spec.name)
        if found is not None and found.action == intentions.DENY:
            reply, refused = await cut_off(facts, seat, context)
            if refused:
                raise Forbidden(f"port {door.port}: {reply.said}")
        return "a connection opens and stays open"
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        return await (
            service_calls.tools(http, f"{base}/mcp", seat.shim, facts.http)
            if spec.is_mcp
            else service_calls.get(http, base + _path(spec))
        )


async def upstream_reached(facts: Facts, wanted: DesiredService, upstream: Upstream) -> list[Finding]:
    """Each instance finds its upstream at the port that it was told, held by its own sidecar, and is let through."""
    target = facts.world.desired.services.get(upstream.service)

    async def probe(seat: Seat) -> Finding:
        port = next((p.mark.ports.get(f"upstream:{upstream.service}") for p in seat.programs), None)
        if port is None:
            raise CannotTry(f"no process of ours runs for {seat.id}", facts.world.mended_by_agent)
        held = holder(facts, seat.id, SIDECAR, port)
        if not held.ok or target is None:
            return held

        async def call() -> str:
            said = await _as_the_service(facts, target.spec, port, seat)
            return f"{said} at {LOOPBACK}:{port}, as {seat.id} finds it"

        return await as_ruled(facts, wanted.spec.name, upstream.service, call)

    return await at_each_sidecar(facts, wanted, probe, _SECONDS)


async def _as_the_service(facts: Facts, target: ServiceSpec, port: int, seat: Seat) -> str:
    """Whoever connects to an upstream's port speaks with the identity of the service whose sidecar listens there."""
    base = f"http://{LOOPBACK}:{port}"
    if facts.world.runtime.isolated and target.protocol is Protocol.HTTP:
        url = f"{base}/mcp" if target.is_mcp else base + _path(target)
        return await in_namespace.ask(facts.world.runtime, seat.envoys[0], url, mcp=target.is_mcp)
    if target.protocol is Protocol.TCP:
        # Its sidecar accepts in any case, and closes where there is nobody to carry it to.
        reply = await knock(LOOPBACK, port, context=None, say=b"", hold=_HOLD_SECONDS)
        if reply.outcome not in (Outcome.ANSWERED, Outcome.SILENT):
            raise Refused(f"{LOOPBACK}:{port}: {reply.said}")
        return "a connection opens and stays open"
    # Its instances are several; which one answers is the balancer's choice.
    return await (
        service_calls.tools(facts.http, f"{base}/mcp", None)
        if target.is_mcp
        else service_calls.get(facts.http, base + _path(target))
    )


async def through_ingress(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """A call from outside, without any certificate, at the service's address on the ingress."""
    spec, source = wanted.spec, facts.world.desired.ingress_service
    require_ingress(facts)
    url = f"{facts.world.ingress_url}{spec.route}"
    shim = next((seat.shim for seat in facts.seats(wanted) if seat.shim), None)

    async def call() -> str:
        if not spec.is_mcp:
            return f"{await service_calls.get(facts.http, url.rstrip('/') + _path(spec))} at {url}"
        try:
            return f"{await service_calls.tools(facts.http, url, shim)} at {url}"
        except Unauthorized as error:
            if facts.world.kong is None:
                raise
            return f"Kong asks for a credential, and whom it lets in was not tried: {error}"

    async def probe(_: DesiredService) -> Finding:
        return await as_ruled(facts, source, spec.name, call)

    return await each([wanted], probe, _SECONDS, lambda wanted: service_trouble(facts, wanted))


async def not_at_ingress(facts: Facts, wanted: DesiredService) -> list[Finding]:
    """A service without a route is not reached from outside by guessing its path."""
    require_ingress(facts)
    path = f"/mcp/{wanted.spec.name}"
    routes = facts.routes
    if other := covering(routes, path):
        return [good(f'{path} belongs to "{other}", whose route is {routes[other]}')]
    answer = await service_calls.fetch(facts.http, f"{facts.world.ingress_url}{path}")
    if answer.status_code == httpx.codes.NOT_FOUND and not forwarded(answer):
        return [good(f"{facts.world.ingress_url}{path} answers HTTP 404")]
    if own := taken_by_own(facts.world.kong.paths if facts.world.kong else (), path):
        return [good(f"{path} belongs to a document of your own, whose path is {own}")]
    step = facts.world.routes_command
    return [bad(f"{path} has no route and answers HTTP {answer.status_code}", f"see whose route it is: {step}")]


def service_trouble(facts: Facts, wanted: DesiredService) -> tuple[str, str]:
    """What stands out about a service that does not answer, and the next step."""
    for seat in facts.seats(wanted):
        stopped = [process.pid for process in (*seat.envoys, *seat.programs) if facts.tree.stopped(process.pid)]
        if stopped or not seat.envoys:
            return facts.envoy_trouble(seat.id, SIDECAR)
    name = wanted.spec.name
    return "", f"see its other claims, and its output: {facts.world.mcpmesh(f'logs {name}')}"


def require_ingress(facts: Facts) -> None:
    """CannotTry, at once, where the ingress answers nobody."""
    if facts.front.outcome is not Outcome.ANSWERED:
        trouble, step = facts.ingress_trouble()
        raise CannotTry(
            f"the ingress at {facts.world.ingress_url} does not answer: {facts.front.said}; {trouble}", step
        )


def _path(spec: ServiceSpec) -> str:
    return spec.health.proof_path
