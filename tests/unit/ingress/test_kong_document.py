"""The document for Kong, rendered from the catalog and the settings."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from pydantic import SecretStr

from mcpmesh.errors import SettingsError
from mcpmesh.ingress.kong.document import document_from_content, render_content, route_paths
from mcpmesh.ingress.kong.plugins import plugins
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Stdio, Timeouts
from mcpmesh.settings import KongSettings

FILES = ServiceSpec("files", Stdio("server"), route="/mcp/files", timeouts=Timeouts(request=600))
WEB = ServiceSpec("web", Plain(Protocol.HTTP, command="web"), route="/shop.v2")

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)


def only(spec: ServiceSpec, port: int = 7000) -> dict[str, Any]:
    found: dict[str, Any] = render_content("m", {spec.name: (spec, port)}, [])["services"][0]
    return found


def test_a_service_leads_to_its_port_of_the_sidecar_and_kong_never_retries() -> None:
    service = only(FILES)
    del service["routes"], service["tags"]
    assert service == {
        "name": "files",
        "protocol": "http",
        "host": "127.0.0.1",
        "port": 7000,
        "path": "/mcp",
        "retries": 0,
        "connect_timeout": 3000,
        "read_timeout": 600_000,
        "write_timeout": 600_000,
    }


def test_a_route_neither_buffers_nor_changes_the_host_header() -> None:
    (route,) = only(FILES)["routes"]
    del route["tags"]
    assert route == {
        "name": "files",
        "protocols": ["http", "https"],
        "paths": ["~/mcp/files$", "/mcp/files/"],
        "strip_path": True,
        "preserve_host": True,
        "request_buffering": False,
        "response_buffering": False,
    }


def test_the_route_of_a_plain_service_leads_to_its_root() -> None:
    assert "path" not in only(WEB)


@pytest.mark.parametrize(
    ("route", "taken", "left"),
    [
        ("/mcp/files", ["/mcp/files", "/mcp/files/", "/mcp/files/a"], ["/mcp/filesystem", "/mcp/file", "/mcp"]),
        ("/shop.v2", ["/shop.v2", "/shop.v2/x"], ["/shopXv2", "/shop"]),
        ("/", ["/", "/a"], []),
    ],
)
def test_a_route_matches_its_path_and_what_lies_below_it(route: str, taken: list[str], left: list[str]) -> None:
    def matches(path: str) -> bool:
        patterns = route_paths(route)
        return any(re.match(p[1:], path) if p.startswith("~") else path.startswith(p) for p in patterns)

    assert all(map(matches, taken)) and not any(map(matches, left))


def test_a_longer_time_out_than_kong_accepts_becomes_its_longest() -> None:
    assert only(replace(FILES, timeouts=Timeouts(request=10**9)))["read_timeout"] == 2**31 - 2


def test_the_digest_changes_with_anything_of_the_service_and_with_nothing_else() -> None:
    tags = only(FILES)["tags"]
    assert tags[0] == "mcpmesh-owner:m"
    assert only(FILES)["tags"] == tags
    assert only(FILES, 7001)["tags"] != tags
    assert only(replace(FILES, route="/files"))["tags"] != tags
    both = render_content("m", {"files": (FILES, 7000), "web": (WEB, 7001)}, [{"name": "prometheus", "config": {}}])
    assert both["services"][0]["tags"] == tags


@pytest.mark.parametrize("names", list(itertools.permutations(["files", "clock", "web"])))
def test_the_same_catalog_gives_the_same_text_whatever_its_order(names: tuple[str, ...]) -> None:
    ports = {"clock": 1, "files": 2, "web": 3}
    routed = {name: (replace(FILES, name=name, route=f"/mcp/{name}"), ports[name]) for name in names}
    found = document_from_content(render_content("m", routed, []))
    assert [service["name"] for service in json.loads(found.text)["services"]] == ["clock", "files", "web"]
    assert found == document_from_content(render_content("m", dict(sorted(routed.items())), []))


def test_a_document_is_empty_for_kong_where_it_has_no_entities() -> None:
    assert document_from_content({"_format_version": "3.0", "services": []}).hash == "0" * 32
    assert document_from_content({"_format_version": "3.0", "services": [{"name": "a"}]}).hash != "0" * 32


def test_the_route_of_a_service_that_is_not_ready_answers_503() -> None:
    content = render_content("m", {}, [], [WEB, FILES])
    assert [route["name"] for route in content["routes"]] == ["files", "web"]
    assert content["routes"][0] == {
        "name": "files",
        "protocols": ["http", "https"],
        "paths": ["~/mcp/files$", "/mcp/files/"],
        "plugins": [
            {
                "name": "request-termination",
                "config": {"status_code": 503, "message": "files is not ready; try again soon"},
            }
        ],
        "tags": ["mcpmesh-owner:m"],
    }


def test_the_text_of_a_document_is_not_in_its_repr() -> None:
    assert "sesame" not in repr(document_from_content({"consumers": [{"key": "sesame"}]}))


# --- plugins


def test_by_default_calls_get_an_id_and_are_counted() -> None:
    assert plugins(KongSettings()) == [
        {
            "name": "correlation-id",
            "config": {"header_name": "X-Correlation-Id", "generator": "uuid", "echo_downstream": True},
        },
        {"name": "prometheus", "config": {"status_code_metrics": True, "latency_metrics": True}},
    ]


@pytest.mark.parametrize(
    ("setting", "name", "config"),
    [
        (
            {"key_auth": True},
            "key-auth",
            {"hide_credentials": True, "key_in_header": True, "key_in_query": False, "key_in_body": False},
        ),
        (
            {"jwt": True},
            "jwt",
            {"claims_to_verify": ["exp"], "header_names": ["authorization"], "uri_param_names": []},
        ),
        ({"acl_allow": "team-a, team-b"}, "acl", {"allow": ["team-a", "team-b"], "hide_groups_header": True}),
        (
            {"calls_per_minute": 60},
            "rate-limiting",
            {"minute": 60, "limit_by": "consumer", "policy": "local"},
        ),
        (
            {"request_megabytes": 8},
            "request-size-limiting",
            {"allowed_payload_size": 8, "size_unit": "megabytes"},
        ),
        (
            {"cors_origins": "https://app.example"},
            "cors",
            {
                "origins": ["https://app.example"],
                "methods": ["GET", "POST", "DELETE", "OPTIONS"],
                "exposed_headers": ["Mcp-Session-Id", "Mcp-Protocol-Version", "WWW-Authenticate"],
                "max_age": 3600,
            },
        ),
        (
            {"traces_url": "http://otel:4318/v1/traces", "traces_headers": SecretStr("authorization=Bearer a=b")},
            "opentelemetry",
            {"traces_endpoint": "http://otel:4318/v1/traces", "headers": {"authorization": "Bearer a=b"}},
        ),
    ],
)
def test_each_setting_turns_its_plugin_on(setting: dict[str, Any], name: str, config: dict[str, Any]) -> None:
    quiet = {"correlation_header": "", "prometheus": False}
    assert plugins(KongSettings(**quiet, **setting)) == [{"name": name, "config": config}]


def test_malformed_headers_are_an_error_that_does_not_show_them() -> None:
    with pytest.raises(SettingsError, match="MCPMESH_KONG__TRACES_HEADERS") as caught:
        plugins(KongSettings(traces_url="http://otel:4318", traces_headers=SecretStr("sesame")))
    assert "sesame" not in str(caught.value)
