"""The claim that nothing but the ingress, and what this machine alone reaches, is published by containers."""

from __future__ import annotations

import ipaddress

from mcpmesh.verify.finding import CannotTry, Finding, bad, good
from mcpmesh.verify.snapshot import Facts
from mcpmesh.workload.runtime import PublishedPort


async def only_what_was_asked_for(facts: Facts) -> list[Finding]:
    """Ports of the host that lead into containers of the mesh, or of the project that it is in."""
    ingress = facts.world.desired.ingress
    if ingress is None:
        raise CannotTry("no ingress is wanted: this mesh is going down", facts.world.mcpmesh("status"))
    found = await facts.world.runtime.published_ports()
    wrong = [each for each in found if not allowed(each, ingress.port)]
    if wrong:
        return [
            bad(
                f"port {each.container_port} of {each.container} is published at {each.host}:{each.port}",
                "remove that port from the compose file, or publish it at 127.0.0.1, then: docker compose up -d",
            )
            for each in wrong
        ]
    told = ", ".join(f"{each.container} at {each.host}:{each.port}" for each in found)
    return [good(f"published: {told or 'nothing'}")]


def allowed(each: PublishedPort, ingress_port: int) -> bool:
    """Whether it is the ingress's own port, or something of the project's own for this machine alone; pure."""
    if each.ingress and each.container_port == ingress_port:
        return True
    return not each.ours and ipaddress.ip_address(each.host).is_loopback
