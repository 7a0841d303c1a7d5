"""Claims about calls: through the ingress, through each sidecar, and from a service to its upstreams."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import httpx

from mcpmesh.errors import Refused
from mcpmesh.mcp.exchange import Forbidden
from mcpmesh.mcp.through import Door, http_through, tls_through
from mcpmesh.model.observed import Unknown
from mcpmesh.model.service import Protocol, ServiceSpec, Upstream
from mcpmesh.plan.desired import Wanted
from mcpmesh.verify import rulings, shims
from mcpmesh.verify.facts import Facts, Seat, known
from mcpmesh.verify.finding import CannotTry, Finding, bad, good
from mcpmesh.verify.knock import KNOCK_SECONDS, Outcome
from mcpmesh.verify.routes import covering, upstream_answered
from mcpmesh.verify.sidecars import at_each_sidecar, holder
from mcpmesh.verify.tools import TOOLS_SECONDS, difference, tool_names
from mcpmesh.verify.world import AGENT_IDENTITY, GATEWAY, LOOPBACK, SIDECAR
from mcpmesh.workload.process import connects

_SECONDS = TOOLS_SECONDS + KNOCK_SECONDS
_FORBIDDEN, _NOT_FOUND, _SERVER_ERROR = 403, 404, 500
# A TCP service that is denied is cut off at the first byte; one that lives stays open.
_HOLD_SECONDS = 0.3


async def through_sidecars(facts: Facts, wanted: Wanted) -> list[Finding]:
    """The agent's identity, which every service allows, makes a real call to each instance through its own sidecar."""
    context = known(facts.agent, facts.world).ssl_context()

    async def probe(seat: Seat) -> Finding:
        door = facts.door(seat)

        async def call() -> str:
            await tls_through(context, door, KNOCK_SECONDS)
            return f"{await _call(facts, seat, context, door)} through the sidecar at port {door.port}"

        return await _as_ruled(facts, AGENT_IDENTITY, wanted.spec.name, call)

    return await at_each_sidecar(facts, wanted, probe, _SECONDS)


async def _call(facts: Facts, seat: Seat, context: ssl.SSLContext, door: Door) -> str:
    spec = seat.wanted.spec
    if spec.is_mcp:
        async with httpx.AsyncClient(verify=context, trust_env=False) as http:
            names = await tool_names(http, f"https://{door.host}:{door.port}/mcp")
        return await _compared(facts, [seat], names)
    if spec.protocol is Protocol.TCP:
        await tls_through(context, door, KNOCK_SECONDS, hold=_HOLD_SECONDS)
        return "a connection stays open"
    path = spec.health.path or "/"
    status = await http_through(context, door, path, KNOCK_SECONDS)
    return _answered(f"GET {path}", status)


async def through_ingress(facts: Facts, wanted: Wanted) -> list[Finding]:
    """A call from outside, without any certificate, at the service's address on the ingress."""
    spec = wanted.spec
    require_ingress(facts)

    async def call() -> str:
        url = f"{facts.world.ingress_url}{spec.route}"
        if spec.is_mcp:
            return f"{await _compared(facts, facts.seats(wanted), await tool_names(facts.http, url))} at {url}"
        answer = await facts.http.get(url + (spec.health.path or ""), timeout=KNOCK_SECONDS)
        if answer.status_code == _FORBIDDEN and not upstream_answered(answer):
            raise Forbidden(f"{url} answered HTTP 403")
        if not upstream_answered(answer):
            raise Refused(f"{url} answered HTTP {answer.status_code}, and not from the service")
        return _answered(f"GET {url}", answer.status_code)

    return [await _as_ruled(facts, facts.world.desired.ingress_service, spec.name, call)]


async def not_at_ingress(facts: Facts, wanted: Wanted) -> list[Finding]:
    """A service without a route is not reached from outside by guessing its path."""
    require_ingress(facts)
    path = f"/mcp/{wanted.spec.name}"
    routes = {name: other.spec.route for name, other in facts.world.desired.services.items() if other.spec.route}
    if other := covering(routes, path):
        return [good(f'{path} belongs to "{other}", whose route is {routes[other]}')]
    answer = await facts.http.get(f"{facts.world.ingress_url}{path}", timeout=KNOCK_SECONDS)
    if answer.status_code == _NOT_FOUND and not upstream_answered(answer):
        return [good(f"{facts.world.ingress_url}{path} answers HTTP 404")]
    step = facts.world.consul_command("config list", "-kind http-route")
    return [bad(f"{path} has no route and answers HTTP {answer.status_code}", f"see whose route it is: {step}")]


async def upstream_reached(facts: Facts, wanted: Wanted, upstream: Upstream) -> list[Finding]:
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
            return f"{await _as_the_service(facts, target.spec, port)} at {LOOPBACK}:{port}, as {seat.id} finds it"

        return await _as_ruled(facts, wanted.spec.name, upstream.service, call)

    return await at_each_sidecar(facts, wanted, probe, _SECONDS)


async def _as_the_service(facts: Facts, target: ServiceSpec, port: int) -> str:
    """What listens at an upstream's port speaks with the identity of the service whose sidecar it is."""
    base = f"http://{LOOPBACK}:{port}"
    if target.is_mcp:
        return f"tools/list gives {len(await tool_names(facts.http, f'{base}/mcp'))} tools"
    if target.protocol is Protocol.TCP:
        if not await connects(LOOPBACK, port):
            raise Refused(f"nobody accepts connections at {LOOPBACK}:{port}")
        return "a connection opens"
    path = target.health.path or "/"
    answer = await facts.http.get(f"{base}{path}", timeout=KNOCK_SECONDS)
    if answer.status_code == _FORBIDDEN:
        raise Forbidden(f"GET {base}{path} answered HTTP 403")
    return _answered(f"GET {path}", answer.status_code)


async def _as_ruled(facts: Facts, source: str, service: str, call: Callable[[], Awaitable[str]]) -> Finding:
    """The call succeeds, unless a person has denied the pair: then it must not."""
    intentions = () if isinstance(facts.intentions, Unknown) else facts.intentions
    denied = rulings.denied_by_person(intentions, source, service)
    delete = (
        facts.world.consul_command("intention delete", f"'{denied.source}' '{denied.destination}'") if denied else ""
    )
    try:
        seen = await call()
    except Forbidden as error:
        if denied is not None:
            return good(f"{error}, as a person wants it: {rulings.pair(denied)} (deny); to undo that: {delete}")
        step = facts.world.consul_command("intention check", f"{source} {service}")
        return bad(f"{error}: no intention lets {source} call {service}", f"see: {step}; {facts.world.mended_by_agent}")
    except httpx.TransportError as error:
        raise Refused(f"no answer: {str(error) or type(error).__name__}") from error
    if denied is not None:
        return bad(f"{seen}, though a person denied {rulings.pair(denied)}", f"see the log of {service}'s sidecar")
    return good(seen)


async def _compared(facts: Facts, seats: list[Seat], names: list[str]) -> str:
    """How many tools there are, and that the shim tells the same."""
    ports = [process.mark.ports["http"] for seat in seats for process in seat.programs[:1]]
    if not ports:
        return f"tools/list gives {len(names)} tools"
    told = (await shims.about(facts.http, LOOPBACK, ports[0])).tools
    if unlike := difference(names, told):
        raise Refused(f"tools/list gives {len(names)} tools and the shim tells of {len(told)}: {unlike}")
    return f"tools/list gives {len(names)} tools, as the shim tells,"


def _answered(what: str, status: int) -> str:
    if status == _FORBIDDEN:
        raise Forbidden(f"{what} answered HTTP 403")
    if status >= _SERVER_ERROR:
        raise Refused(f"{what} answered HTTP {status}")
    return f"{what} answers HTTP {status}"


def require_ingress(facts: Facts) -> None:
    """CannotTry, at once, where the ingress answers nobody."""
    if facts.front.outcome is not Outcome.ANSWERED:
        trouble, step = facts.envoy_trouble(facts.world.desired.ingress_id, GATEWAY)
        raise CannotTry(
            f"the ingress at {facts.world.ingress_url} does not answer: {facts.front.said}; {trouble}", step
        )
