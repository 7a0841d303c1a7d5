"""Questions about a status that several commands ask; pure."""

from __future__ import annotations

from mcpmesh.model.mesh_status import MeshStatus, ServiceStatus, State


def all_ready(status: MeshStatus) -> bool:
    """Whether all services, Consul and the ingress are ready and the catalog has no mistake."""
    return (
        all(service.state is State.READY for service in wanted_services(status))
        and status.consul_ready
        and (status.ingress is None or status.ingress_ready)
        and not status.ingress_error
        and status.catalog_error is None
    )


def wanted_services(status: MeshStatus) -> list[ServiceStatus]:
    """The services of the catalog, without those that are only draining."""
    return [service for service in status.services if service.state is not State.DRAINING]
