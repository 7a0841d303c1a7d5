"""What follows from a service of the model, and the names that it can have."""

from __future__ import annotations

import pytest

from mcpmesh.model.observed_state import Kong, KongContent, Registration, Unknown, Workload
from mcpmesh.model.reserved_names import is_reserved
from mcpmesh.model.service import (
    Health,
    Plain,
    Protocol,
    Remote,
    ServiceSpec,
    Stdio,
    Timeouts,
    default_route,
    service_name,
)


@pytest.mark.parametrize(
    ("start", "is_mcp", "protocol"),
    [
        (Stdio("x"), True, Protocol.HTTP),
        (Remote("http://x/"), True, Protocol.HTTP),
        (Plain(Protocol.HTTP, address="x:1"), False, Protocol.HTTP),
        (Plain(Protocol.TCP, address="x:1"), False, Protocol.TCP),
    ],
)
def test_mcp_travels_over_http_and_a_plain_service_has_its_own_protocol(
    start: Stdio | Remote | Plain, is_mcp: bool, protocol: Protocol
) -> None:
    spec = ServiceSpec("a", start)
    assert (spec.is_mcp, spec.protocol) == (is_mcp, protocol)


def test_a_service_without_further_keys_is_one_instance_with_documented_bounds() -> None:
    spec = ServiceSpec("a", Stdio("x"))
    assert (spec.instances, spec.balance, spec.egress, spec.route) == (1, "least_request", False, None)
    assert (spec.timeouts, spec.health) == (Timeouts(60.0, 86_400.0, 10.0), Health(2.0, None))


@pytest.mark.parametrize(("health", "path"), [(Health(), "/"), (Health(path="/up"), "/up")])
def test_a_plain_service_is_proven_at_its_health_path_or_the_root(health: Health, path: str) -> None:
    assert health.proof_path == path


def test_a_server_has_a_route_below_mcp() -> None:
    assert default_route("files") == "/mcp/files"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("files", "files"),
        ("My_Server 2!", "my-server-2"),
        ("--a--", "a"),
        ("a" * 64, "a" * 63),
        ("a" * 62 + "_b", "a" * 62),
        ("ü", ""),
    ],
)
def test_any_text_has_a_nearest_service_name(text: str, name: str) -> None:
    assert service_name(text) == name


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("ingress", True),
        ("consul", True),
        ("mcpmesh-agent", True),
        ("mcpmesh-stranger", True),
        ("files-sidecar-proxy", True),
        ("sidecar-proxy", False),
        ("agent", False),
        ("files", False),
    ],
)
def test_names_of_the_mesh_and_of_consuls_sidecars_are_reserved(name: str, reserved: bool) -> None:
    assert is_reserved(name) == reserved


@pytest.mark.parametrize(("state", "ready"), [("ready", True), ("starting", False), ("crash-loop", False)])
def test_a_workload_is_ready_only_in_the_state_ready(state: str, ready: bool) -> None:
    assert Workload("m-a-1-x", "a", 1, 2, 3, state).ready == ready


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", False), ("10.0.0.7", True)])
def test_a_sidecar_off_loopback_has_an_address_of_its_own(host: str, own: bool) -> None:
    registration = Registration("m-a-1-x", "a", 1, 2, "x", draining=False, passing=True, sidecar_host=host)
    assert registration.has_own_address == own


@pytest.mark.parametrize(("content", "known"), [(KongContent("abc"), "abc"), (Unknown("no answer"), None)])
def test_kongs_document_has_a_hash_unless_it_could_not_be_read(content: KongContent | Unknown, known: str) -> None:
    assert Kong(1, 8000, listening=True, content=content).hash == known
