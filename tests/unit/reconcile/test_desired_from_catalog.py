"""The desired state that follows from a catalog."""

from __future__ import annotations

from mcpmesh.ingress.kong.document import document_from_content
from mcpmesh.ingress.kong.user_documents import UserDocuments
from mcpmesh.model.instance import instances
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import Catalog, Plain, Protocol, ServiceSpec, Stdio
from mcpmesh.plan.desired_state import DesiredState
from mcpmesh.reconcile.desired_from_catalog import (
    KongOptions,
    build_desired_state,
    empty_desired_state,
    kong_content,
)

FILES = ServiceSpec("files", Stdio("server"), allow=("notes", "git"), route="/mcp/files", instances=2)
DATABASE = ServiceSpec("db", Plain(Protocol.TCP, address="127.0.0.1:5432"))
CATALOG = Catalog({"files": FILES, "db": DATABASE})
KONG = KongOptions(6000, {"files": 7000}, [{"name": "cors"}], UserDocuments(), "digest")
KEY = b"k" * 32


def built(kong: KongOptions | None = None) -> DesiredState:
    return build_desired_state(CATALOG, "m", KEY, "edge", "0.0.0.0", 8000, kong, "172.18.0.2")


def test_each_service_has_its_instances_and_the_callers_of_its_catalog() -> None:
    state = built()
    assert (state.mesh, state.ingress_service, state.ingress_id) == ("m", "edge", "m-edge")
    assert {name: wanted.spec for name, wanted in state.services.items()} == CATALOG.services
    files, database = state.services["files"], state.services["db"]
    assert files.instances == instances(FILES, "m", KEY) and len(files.instances) == 2
    assert files.allow == ("edge", "git", "mcpmesh-agent", "notes")
    assert database.allow == ("mcpmesh-agent",)


def test_a_service_with_a_route_has_its_entry_at_the_api_gateway_and_none_at_kong() -> None:
    files = built().services["files"]
    assert files.route is not None and (files.route["Kind"], files.route["Name"]) == ("http-route", "files")
    assert built().services["db"].route is None
    assert built(KONG).services["files"].route is None
    assert built(KONG).services["files"].allow == files.allow


def test_the_filters_of_both_sides_are_in_the_entries() -> None:
    entries = {entry["Kind"]: str(entry) for entry in built().services["files"].entries}
    assert "service-defaults" in entries and "envoy_on_request" in entries["service-defaults"]


def test_the_ingress_is_the_api_gateway_without_kong() -> None:
    ingress = built().ingress
    assert ingress is not None and ingress.kong is None
    assert (ingress.id, ingress.port, ingress.registration["ID"]) == ("m-edge", 8000, "m-edge")
    assert {entry["Kind"] for entry in ingress.entries} >= {"api-gateway"}


def test_kong_has_its_ports_registrations_and_digest() -> None:
    ingress = built(KONG).ingress
    assert ingress is not None and ingress.kong is not None
    kong = ingress.kong
    assert (kong.sidecar_port, kong.ports, kong.digest) == (6000, {"files": 7000}, "digest")
    instance, sidecar = kong.registrar({"files": 7000})
    assert (instance["ID"], sidecar["ID"], sidecar["Port"]) == ("m-edge", "m-edge-sidecar", 6000)
    upstreams = sidecar["Proxy"]["Upstreams"]
    assert [(u["DestinationName"], u["LocalBindPort"]) for u in upstreams] == [("files", 7000)]
    assert ingress.registration == kong.registrar({})[0]


def test_the_document_of_kong_has_a_route_to_the_services_that_it_may_have() -> None:
    ingress = built(KONG).ingress
    assert ingress is not None and ingress.kong is not None
    for services in (["files"], []):
        content = kong_content(CATALOG, "m", KONG, services)
        assert [service["name"] for service in content["services"]] == services
        assert [route["name"] for route in content.get("routes", [])] == (["files"] if not services else [])
        assert ingress.kong.document(services) == document_from_content(content)


def test_an_instance_is_registered_with_the_ports_and_addresses_that_it_has() -> None:
    wanted = built().services["files"]
    workload = Workload(
        wanted.instances[0].id,
        "files",
        7,
        20001,
        20002,
        "ready",
        upstream_ports={"db": 20003},
        address="127.0.0.2",
        host="172.18.0.7",
    )
    instance, sidecar = wanted.registrar(wanted.instances[0], workload)
    assert (instance["ID"], instance["Port"], instance["Address"]) == (workload.instance, 20001, "127.0.0.2")
    assert (sidecar["ID"], sidecar["Port"]) == (f"{workload.instance}-sidecar", 20002)
    assert sidecar["Address"] == "172.18.0.7"


def test_a_mesh_that_goes_down_wants_nothing() -> None:
    assert empty_desired_state("m", "edge") == DesiredState("m", "edge", {}, None)
