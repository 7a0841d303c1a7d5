"""Claims about the ingress as a whole."""

from __future__ import annotations

import ipaddress

from mcpmesh.verify.claims import kong_at_ingress
from mcpmesh.verify.claims.real_calls import require_ingress
from mcpmesh.verify.claims.route_paths import UNDECLARED, covering, taken_by_own
from mcpmesh.verify.claims.sidecars import holder
from mcpmesh.verify.finding import Finding, bad, good
from mcpmesh.verify.snapshot import Facts, known
from mcpmesh.verify.target import GATEWAY, LOOPBACK

_NOT_FOUND = 404


async def is_held(facts: Facts) -> list[Finding]:
    """The ingress is registered at the port where it is wanted, and our Envoy, or our Kong, holds that port."""
    (registered,) = await is_registered(facts)
    wanted = facts.world.desired.ingress
    if wanted is None or not registered.ok:
        return [registered]
    host = _reached_at(str(wanted.registration["Address"]))
    if wanted.kong:
        return [kong_at_ingress.holds_port(facts, wanted, host)]
    return [holder(facts, wanted.id, GATEWAY, wanted.port, host)]


async def is_registered(facts: Facts) -> list[Finding]:
    """The ingress is registered at the port where it is wanted, and passes its checks."""
    world, wanted = facts.world, facts.world.desired.ingress
    if wanted is None:
        return [bad("no ingress is wanted: this mesh is going down", world.mcpmesh("status"))]
    registration = known(facts.registrations, world).get(wanted.id)
    if registration is None:
        return [bad(f"{wanted.id} is not registered in Consul", world.mended_by_agent)]
    if registration.port != wanted.port:
        return [bad(f"{wanted.id} is registered at port {registration.port}, not {wanted.port}", world.mended_by_agent)]
    if not registration.passing:
        return [bad(f"{wanted.id}: {'; '.join(registration.failing)}", facts.ingress_trouble()[1])]
    return [good(f"{wanted.id} is registered at port {wanted.port}, and Consul's checks of it pass")]


async def answers_only_declared(facts: Facts) -> list[Finding]:
    """A path that nobody declared is answered with 404 by the ingress itself."""
    require_ingress(facts)
    world = facts.world
    routes = facts.routes
    if everything := covering(routes, UNDECLARED):
        return [good(f'every path is declared: the route of "{everything}" is {routes[everything]}')]
    if facts.front.status == _NOT_FOUND and not facts.front.forwarded:
        return [good(f"{world.ingress_url}{UNDECLARED} answers HTTP 404")]
    if own := taken_by_own(world.kong.paths if world.kong else (), UNDECLARED):
        return [good(f"every path is declared: a document of your own takes {own}")]
    step = world.routes_command
    return [bad(f"{world.ingress_url}{UNDECLARED} answers {facts.front.said}", f"see whose route takes it: {step}")]


def _reached_at(host: str) -> str:
    """The address in the kernel's tables; Envoy binds to an address, so a name can only be this machine's own."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return LOOPBACK
    return host
