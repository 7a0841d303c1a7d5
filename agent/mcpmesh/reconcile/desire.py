"""From a catalog to what is wanted in full."""

from __future__ import annotations

from mcpmesh.consul.entries import service_entries
from mcpmesh.consul.registration import registration
from mcpmesh.ingress.api_gateway import ApiGateway
from mcpmesh.ingress.seam import Ingress
from mcpmesh.kit.resources import handed
from mcpmesh.model.instance import Instance, instances
from mcpmesh.model.observed import Workload
from mcpmesh.model.service import Catalog, ServiceSpec
from mcpmesh.plan.desired import Desired, Wanted, WantedIngress

# Who the agent is when it proves that an instance answers; allowed everywhere, and nothing else is.
AGENT_IDENTITY = "mcpmesh-agent"


def desire(catalog: Catalog, mesh: str, key: bytes, ingress_service: str, ingress_host: str, port: int) -> Desired:
    """Everything that the catalog wants of this mesh."""
    ingress_id = nothing(mesh, ingress_service).ingress_id
    ingress = ApiGateway(mesh, ingress_id, ingress_service, ingress_host, port, _lua("caller"))
    return Desired(
        mesh=mesh,
        ingress_service=ingress_service,
        services={name: _wanted(spec, mesh, key, ingress, ingress_service) for name, spec in catalog.services.items()},
        ingress=WantedIngress(
            id=ingress_id, port=port, registration=ingress.registration(), entries=tuple(ingress.entries())
        ),
    )


def nothing(mesh: str, ingress_service: str) -> Desired:
    """What is wanted of a mesh that goes down."""
    return Desired(mesh, ingress_service, {}, None)


def _wanted(spec: ServiceSpec, mesh: str, key: bytes, ingress: Ingress, ingress_service: str) -> Wanted:
    def registrar(instance: Instance, workload: Workload) -> tuple[dict[str, object], ...]:
        return registration(
            spec,
            mesh=mesh,
            instance_id=instance.id,
            port=workload.port,
            address=workload.address,
            sidecar_port=workload.sidecar_port,
            upstream_ports=workload.upstream_ports,
            info=workload.info,
        )

    callers = {*spec.allow, AGENT_IDENTITY}
    if spec.route:
        callers.add(ingress_service)
    return Wanted(
        spec=spec,
        instances=instances(spec, mesh, key),
        entries=tuple(service_entries(spec, mesh, _lua("caller"), _lua("callee"))),
        allow=tuple(sorted(callers)),
        route=ingress.route(spec) if spec.route else None,
        registrar=registrar,
    )


def _lua(side: str) -> str:
    return handed(f"envoy/{side}.lua").read_text(encoding="utf-8")
