"""Digests that earlier versions have written: with another digest an agent would replace what already runs well."""

from __future__ import annotations

from dataclasses import replace

from mcpmesh.consul.config_entries import service_entries, with_reconnect_digest
from mcpmesh.consul.intention_changes import policy_digest
from mcpmesh.consul.registration import registration
from mcpmesh.ingress.api_gateway import gateway_registration, ingress_entries, route_entry
from mcpmesh.ingress.kong.document import document_from_content, render_content
from mcpmesh.ingress.kong.kong_ingress import KongIngress
from mcpmesh.model.observed_state import Intention, ServerInfo, ToolDigest
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Stdio, Upstream

FILES = ServiceSpec("files", Stdio("server"), tags=("docs",), upstreams=(Upstream("db"),), route="/mcp/files")
INFO = ServerInfo("fs", "1.2.3", ("2025-11-25",), (ToolDigest("read", "a"),))
KONG = KongIngress("m", "m-ingress", "ingress", "0.0.0.0", 8000, 6000, "lua")


def digests(payloads: object) -> list[str]:
    """The digest in the Meta of each payload, shortened."""
    assert isinstance(payloads, list | tuple)
    return [payload["Meta"]["mcpmesh-digest"][:12] for payload in payloads]


def test_the_digest_of_a_registration_with_everything_in_it() -> None:
    pair = registration(
        FILES,
        mesh="m",
        instance_id="m-files-1",
        port=1,
        sidecar_port=2,
        upstream_ports={"db": 3},
        info=INFO,
        host="10.0.0.2",
        check_port=4,
    )
    assert digests(pair) == ["d28b5e7fa650"] * 2


def test_the_digests_of_config_entries_and_the_policy_in_the_resolver() -> None:
    defaults, resolver, router = with_reconnect_digest(service_entries(FILES, "m", "caller", "callee"), "ab12")
    assert digests([defaults, resolver, router]) == ["e1c6a72c44ab", "77ff4dcb6ba9", "604c56907bb0"]
    assert (resolver["Meta"]["mcpmesh-policy"], resolver["ConnectTimeout"]) == ("ab12", "3043794us")


def test_the_digest_of_a_policy() -> None:
    intentions = [Intention("1", "a", "files", "allow", "m"), Intention("", "*", "*", "deny", None, "r")]
    assert policy_digest("files", intentions)[:12] == "229d5c1485ab"


def test_the_digests_of_the_api_gateway() -> None:
    assert digests(ingress_entries("m", "ingress", 8000, "lua")) == ["b8ff55764c4f", "d45ed77f8c7b"]
    web = ServiceSpec("web", Plain(Protocol.HTTP, command="web"), route="/shop.v2")
    routes = [route_entry(spec, "m", "ingress") for spec in (FILES, web, replace(web, route="/"))]
    assert digests(routes) == ["fb3109a6af5c", "e27a561601cc", "d3f283ae14af"]
    assert digests([gateway_registration("m", "m-ingress", "ingress", "0.0.0.0", 8000)]) == ["054a8bc43269"]


def test_the_digests_of_kong_as_a_member_of_the_mesh() -> None:
    assert digests(KONG.registrations({"files": 7000})) == ["8cda7ba59155"] * 2
    assert digests(KONG.entries()) == ["d68b769b3f8d"]


def test_the_hash_and_the_tags_of_kongs_document() -> None:
    content = render_content("m", {"files": (FILES, 7000)}, [{"name": "prometheus", "config": {}}], [FILES])
    assert document_from_content(content).hash == "74b226a9e2d82030c496f5ec6ceb97c4"
    assert content["services"][0]["tags"] == ["mcpmesh-owner:m", "mcpmesh-digest:576c74d6bc8e"]
