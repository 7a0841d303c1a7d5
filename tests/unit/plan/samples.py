"""Small services and their desired states, for the tests of the plan and of its application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcpmesh.ingress.kong.document import Document, document_from_content
from mcpmesh.model.instance import Instance, instances, sidecar_id
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import Protocol, ServiceSpec, Stdio
from mcpmesh.plan.desired_state import DesiredIngress, DesiredKong, DesiredService, DesiredState

MESH = "test"
KEY = b"key"
INGRESS = "ingress"
INGRESS_ID = f"{MESH}-{INGRESS}"
INGRESS_PORT = 8000
KONG_SIDECAR_PORT = 6000
# The listeners of the sidecar of Kong; as with the real agent, a service keeps its port.
KONG_PORTS = {"files": 7000, "time": 7001}


def spec(name: str, **changes: Any) -> ServiceSpec:
    """A stdio service with a route."""
    return replace(ServiceSpec(name, Stdio("server"), route=f"/mcp/{name}"), **changes)


def payload(kind: str, name: str, digest: str = "1", **more: Any) -> dict[str, Any]:
    """A config entry of ours."""
    return {"Kind": kind, "Name": name, "Meta": {"mcpmesh-owner": MESH, "mcpmesh-digest": digest}, **more}


def wanted(service: ServiceSpec) -> DesiredService:
    """The desired state of a service, with config entries as small as they can be."""

    def registrar(instance: Instance, workload: Workload) -> tuple[dict[str, Any], ...]:
        meta = {"mcpmesh-digest": f"{instance.digest}{service.tags}"}
        first = {"ID": instance.id, "Name": service.name, "Port": workload.port, "Meta": meta}
        return first, {"ID": instance.sidecar_id, "Port": workload.sidecar_port, "Meta": meta}

    kinds = ["service-defaults", "service-resolver"]
    if service.protocol is Protocol.HTTP:
        kinds.append("service-router")
    return DesiredService(
        spec=service,
        instances=instances(service, MESH, KEY),
        entries=tuple(payload(kind, service.name, service.protocol) for kind in kinds),
        allow=tuple(sorted({*service.allow, *([INGRESS] if service.route else [])})),
        route=payload("http-route", service.name, str(service.route)) if service.route else None,
        registrar=registrar,
    )


def desired(*services: ServiceSpec) -> DesiredState:
    """These services behind Consul's API gateway."""
    registration = {
        "ID": INGRESS_ID,
        "Name": INGRESS,
        "Address": "127.0.0.1",
        "Port": INGRESS_PORT,
        "Meta": {"mcpmesh-digest": "g"},
    }
    entries = (payload("service-defaults", INGRESS), payload("api-gateway", INGRESS))
    ingress = DesiredIngress(INGRESS_ID, INGRESS_PORT, registration, entries)
    return DesiredState(MESH, INGRESS, {service.name: wanted(service) for service in services}, ingress)


def behind_kong(*services: ServiceSpec) -> DesiredState:
    """These services behind Kong."""
    ports = {service.name: KONG_PORTS[service.name] for service in services if service.route}
    ingress = DesiredIngress(
        INGRESS_ID,
        INGRESS_PORT,
        kong_registrations({})[0],
        (payload("service-defaults", INGRESS, "kong"),),
        DesiredKong(
            KONG_SIDECAR_PORT,
            ports,
            kong_registrations,
            lambda names: kong_document({name: ports[name] for name in names}),
        ),
    )
    wanted_services = {service.name: replace(wanted(service), route=None) for service in services}
    return DesiredState(MESH, INGRESS, wanted_services, ingress)


def kong_registrations(upstreams: Mapping[str, int]) -> tuple[dict[str, Any], ...]:
    """The registrations of Kong and of its sidecar with a listener at each of these ports."""
    meta = {"mcpmesh-digest": str(sorted(upstreams.items()))}
    first = {"ID": INGRESS_ID, "Name": INGRESS, "Address": "127.0.0.1", "Port": INGRESS_PORT, "Meta": meta}
    sidecar = {"ID": sidecar_id(INGRESS_ID), "Port": KONG_SIDECAR_PORT, "Meta": meta, "Upstreams": dict(upstreams)}
    return first, sidecar


def kong_document(ports: Mapping[str, int]) -> Document:
    """A document with a route to each of these services."""
    return document_from_content({"services": [{"name": name, "port": port} for name, port in sorted(ports.items())]})


NOTHING = DesiredState(MESH, INGRESS, {}, None)
