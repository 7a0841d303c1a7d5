"""Claims about the ingress's registration, and the process that holds its port."""

from __future__ import annotations

import ipaddress

from mcpmesh.consul.registration import LOOPBACK
from mcpmesh.verify.claims import kong_at_ingress
from mcpmesh.verify.claims.port_holder import judge_holder
from mcpmesh.verify.finding import Finding, fails, holds
from mcpmesh.verify.process_roles import GATEWAY
from mcpmesh.verify.snapshot import Snapshot, require_known


async def is_held(snapshot: Snapshot) -> list[Finding]:
    """The ingress is registered at its wanted port, and our Envoy, or our Kong, holds that port."""
    (registered,) = await is_registered(snapshot)
    wanted = snapshot.target.desired.ingress
    if wanted is None or not registered.ok:
        return [registered]
    host = bound_address(str(wanted.registration["Address"]))
    if wanted.kong:
        return [kong_at_ingress.judge_port_holder(snapshot, wanted, host)]
    return [judge_holder(snapshot, wanted.id, GATEWAY, wanted.port, host)]


async def is_registered(snapshot: Snapshot) -> list[Finding]:
    """The ingress is registered at its wanted port, and Consul's checks of it pass."""
    target, wanted = snapshot.target, snapshot.target.desired.ingress
    if wanted is None:
        return [fails("no ingress is wanted: this mesh is going down", target.mcpmesh_command("status"))]
    registration = require_known(snapshot.registrations, target).get(wanted.id)
    if registration is None:
        return [fails(f"{wanted.id} is not registered in Consul", target.agent_repairs)]
    if registration.port != wanted.port:
        evidence = f"{wanted.id} is registered at port {registration.port}, not {wanted.port}"
        return [fails(evidence, target.agent_repairs)]
    if not registration.passing:
        return [fails(f"{wanted.id}: {'; '.join(registration.failing)}", snapshot.diagnose_ingress().next_step)]
    return [holds(f"{wanted.id} is registered at port {wanted.port}, and Consul's checks of it pass")]


def bound_address(host: str) -> str:
    """The address in the kernel's tables. Envoy binds to an address, so a name can only be this machine's own."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return LOOPBACK
    return host
