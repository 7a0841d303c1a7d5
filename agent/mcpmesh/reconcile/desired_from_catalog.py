"""The desired state, worked out from a catalog."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mcpmesh.consul.config_entries import service_entries
from mcpmesh.consul.registration import LOOPBACK, registration
from mcpmesh.ingress.api_gateway import ApiGateway
from mcpmesh.ingress.interface import Ingress
from mcpmesh.ingress.kong.document import Content, Document, document_from_content, render_content
from mcpmesh.ingress.kong.kong_ingress import KongIngress
from mcpmesh.ingress.kong.user_documents import UserDocuments
from mcpmesh.kit.packaged_files import resource_path
from mcpmesh.model.instance import Instance, instances
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.reserved_names import AGENT_IDENTITY
from mcpmesh.model.service import Catalog, ServiceSpec
from mcpmesh.plan.desired_state import DesiredIngress, DesiredKong, DesiredService, DesiredState


@dataclass(frozen=True)
class KongOptions:
    """What Kong gets besides the routes of the catalog: `plugins` for all calls, and the user's own documents.

    `ports` are those of its sidecar's listeners, one for each service with a
    route. `digest` is that of the settings that a Kong of ours is started with.
    """

    sidecar_port: int
    ports: Mapping[str, int]
    plugins: Sequence[Content]
    user_documents: UserDocuments
    digest: str = ""


def build_desired_state(
    catalog: Catalog,
    mesh: str,
    key: bytes,
    ingress_service: str,
    ingress_host: str,
    port: int,
    kong: KongOptions | None = None,
    inside_host: str = LOOPBACK,
) -> DesiredState:
    """The desired state of this mesh, with Kong or, without `kong`, Consul's API gateway as its ingress.

    Clients reach the ingress at `ingress_host`; the mesh reaches the sidecar
    of Kong at `inside_host`.
    """
    ingress_id = empty_desired_state(mesh, ingress_service).ingress_id
    ingress: Ingress
    if kong is None:
        ingress = ApiGateway(mesh, ingress_id, ingress_service, ingress_host, port, _lua_filter("caller"))
    else:
        ingress = KongIngress(
            mesh, ingress_id, ingress_service, ingress_host, port, kong.sidecar_port, _lua_filter("caller"), inside_host
        )
    return DesiredState(
        mesh=mesh,
        ingress_service=ingress_service,
        services={
            name: _desired_service(spec, mesh, key, ingress, ingress_service) for name, spec in catalog.services.items()
        },
        ingress=DesiredIngress(
            id=ingress_id,
            port=port,
            registration=ingress.registrations({})[0],
            entries=tuple(ingress.entries()),
            kong=_desired_kong(catalog, mesh, ingress, kong) if kong else None,
        ),
    )


def empty_desired_state(mesh: str, ingress_service: str) -> DesiredState:
    """The desired state of a mesh that goes down."""
    return DesiredState(mesh, ingress_service, {}, None)


def kong_content(catalog: Catalog, mesh: str, kong: KongOptions, services: Collection[str]) -> Content:
    """The content of Kong's document while it may have routes to these services."""
    absent = kong.ports.keys() - set(services)
    routed = {name: (catalog.services[name], kong.ports[name]) for name in services}
    ours = render_content(mesh, routed, kong.plugins, [catalog.services[name] for name in absent])
    return kong.user_documents.merged_with(ours, absent)


def _desired_kong(catalog: Catalog, mesh: str, ingress: Ingress, kong: KongOptions) -> DesiredKong:
    def document(services: Collection[str]) -> Document:
        return document_from_content(kong_content(catalog, mesh, kong, services))

    return DesiredKong(kong.sidecar_port, kong.ports, ingress.registrations, document, kong.digest)


def _desired_service(
    spec: ServiceSpec, mesh: str, key: bytes, ingress: Ingress, ingress_service: str
) -> DesiredService:
    def registrar(instance: Instance, workload: Workload) -> tuple[dict[str, object], ...]:
        return registration(
            spec,
            mesh=mesh,
            instance_id=instance.id,
            port=workload.port,
            address=workload.address,
            host=workload.host,
            check_port=workload.check_port,
            sidecar_port=workload.sidecar_port,
            upstream_ports=workload.upstream_ports,
            info=workload.info,
        )

    callers = {*spec.allow, AGENT_IDENTITY}
    if spec.route:
        callers.add(ingress_service)
    return DesiredService(
        spec=spec,
        instances=instances(spec, mesh, key),
        entries=tuple(service_entries(spec, mesh, _lua_filter("caller"), _lua_filter("callee"))),
        allow=tuple(sorted(callers)),
        route=ingress.route(spec) if spec.route else None,
        registrar=registrar,
    )


def _lua_filter(side: str) -> str:
    return resource_path(f"envoy/{side}.lua").read_text(encoding="utf-8")
