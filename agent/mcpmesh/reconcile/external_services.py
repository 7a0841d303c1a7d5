"""Plain services that run elsewhere: an address that accepts connections, and no process of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mcpmesh.kit.ports import accepts_connections
from mcpmesh.model.observed_state import Registration, Workload
from mcpmesh.model.service import Plain
from mcpmesh.plan.desired_state import DesiredService, DesiredState
from mcpmesh.reconcile.port_claims import PortClaims


async def observe_external(
    desired: DesiredState, registrations: Mapping[str, Registration], claims: PortClaims
) -> dict[str, Workload]:
    """A workload for each external service, by instance id: ready while its address accepts connections."""
    observed = await asyncio.gather(
        *(
            _observe(wanted, wanted.spec.start.address, registrations, claims)
            for wanted in desired.services.values()
            if isinstance(wanted.spec.start, Plain) and wanted.spec.start.address
        )
    )
    return {workload.instance: workload for workload in observed}


async def _observe(
    wanted: DesiredService, address: str, registrations: Mapping[str, Registration], claims: PortClaims
) -> Workload:
    instance = wanted.instances[0]
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    registration = registrations.get(instance.id)
    registered_port = registration.sidecar_port if registration else None
    sidecar_port = registered_port or claims.external_sidecar_port(instance.id)
    ready = await accepts_connections(host, int(port))
    return Workload(
        instance=instance.id,
        service=wanted.spec.name,
        pid=None,
        port=int(port),
        sidecar_port=sidecar_port,
        state="ready" if ready else "unreachable",
        error="" if ready else f"nothing accepts connections at {address}; start it, or correct its address",
        address=host,
    )
