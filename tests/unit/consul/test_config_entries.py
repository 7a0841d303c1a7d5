from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mcpmesh.consul.config_entries import service_entries, with_reconnect_digest
from mcpmesh.ingress.api_gateway import ingress_entries, route_entry
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Stdio, Timeouts, Upstream

LUA = "-- lua"
FILES = ServiceSpec("files", Stdio("server"), route="/mcp/files", timeouts=Timeouts(request=90.5))
WEB = ServiceSpec("web", Plain(Protocol.HTTP, address="a:1"), route="/web")
DATABASE = ServiceSpec("db", Plain(Protocol.TCP, address="a:1"), balance="random")


def plain(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without their marks."""
    return [{key: value for key, value in entry.items() if key != "Meta"} for entry in entries]


def lua(proxy: str, *listeners: str) -> list[dict[str, Any]]:
    return [
        {"Name": "builtin/lua", "Arguments": {"ProxyType": proxy, "Listener": listener, "Script": LUA}}
        for listener in listeners or ("outbound",)
    ]


def test_only_the_resolver_changes_with_the_policy() -> None:
    entries = service_entries(FILES, "m", LUA, LUA)
    one, other = with_reconnect_digest(entries, "a1"), with_reconnect_digest(entries, "a2")
    assert [mine == theirs for mine, theirs in zip(one, other, strict=True)] == [True, False, True]
    assert (one[1]["ConnectTimeout"], other[1]["ConnectTimeout"]) == ("3000161us", "3000162us")
    assert one[1]["Meta"] == {**entries[1]["Meta"], "mcpmesh-policy": "a1"}
    assert one == with_reconnect_digest(one, "a1")


def test_an_http_service_has_defaults_a_resolver_and_a_router() -> None:
    assert plain(service_entries(FILES, "m", LUA, LUA)) == [
        {
            "Kind": "service-defaults",
            "Name": "files",
            "Protocol": "http",
            "EnvoyExtensions": lua("connect-proxy", "outbound", "inbound"),
        },
        {
            "Kind": "service-resolver",
            "Name": "files",
            "ConnectTimeout": "3s",
            "LoadBalancer": {"Policy": "least_request"},
            "RequestTimeout": "90500ms",
        },
        {
            "Kind": "service-router",
            "Name": "files",
            "Routes": [
                {
                    "Match": {"HTTP": {"PathPrefix": "/"}},
                    "Destination": {
                        "Service": "files",
                        "RequestTimeout": "90500ms",
                        "IdleTimeout": "24h",
                        "NumRetries": 5,
                        "RetryOn": ["connect-failure", "refused-stream"],
                    },
                }
            ],
        },
    ]


def test_a_tcp_service_has_no_http_settings() -> None:
    assert plain(service_entries(DATABASE, "m", LUA, LUA)) == [
        {"Kind": "service-defaults", "Name": "db", "Protocol": "tcp"},
        {"Kind": "service-resolver", "Name": "db", "ConnectTimeout": "3s", "LoadBalancer": {"Policy": "random"}},
    ]


def test_a_tcp_service_with_upstreams_has_the_callers_script() -> None:
    caller = replace(DATABASE, upstreams=(Upstream("files"),))
    assert service_entries(caller, "m", LUA, LUA)[0]["EnvoyExtensions"] == lua("connect-proxy")


def test_the_ingress_is_a_gateway_with_one_listener() -> None:
    assert plain(ingress_entries("m", "ingress", 8000, LUA)) == [
        {"Kind": "service-defaults", "Name": "ingress", "Protocol": "http", "EnvoyExtensions": lua("api-gateway")},
        {
            "Kind": "api-gateway",
            "Name": "ingress",
            "Listeners": [{"Name": "main", "Port": 8000, "Protocol": "http"}],
        },
    ]


def rewrites(spec: ServiceSpec) -> list[tuple[str, str, str]]:
    rules = route_entry(spec, "m", "ingress")["Rules"]
    return [
        (path["Match"], path["Value"], rule["Filters"]["URLRewrite"]["Path"])
        for rule in rules
        for path in [rule["Matches"][0]["Path"]]
    ]


def test_a_gateway_route_matches_its_path_and_what_lies_below_it() -> None:
    assert rewrites(FILES) == [("exact", "/mcp/files", "/mcp"), ("prefix", "/mcp/files/", "/mcp/")]
    assert rewrites(WEB) == [("prefix", "/web", "/"), ("prefix", "/web/", "/")]
    assert rewrites(replace(WEB, route="/web/")) == rewrites(WEB)
    assert rewrites(replace(WEB, route="/")) == [("prefix", "/", "/")]


def test_the_path_of_a_plain_route_matches_exactly() -> None:
    match = route_entry(replace(WEB, route="/w.b"), "m", "ingress")["Rules"][0]["Matches"][0]
    assert match["Headers"] == [{"Match": "regex", "Name": ":path", "Value": r"/w\.b(\?.*)?"}]


def test_a_route_allows_long_calls_and_idle_streams() -> None:
    for rule in route_entry(FILES, "m", "ingress")["Rules"]:
        assert rule["Filters"]["RetryFilter"]["RetryOn"] == [
            "connect-failure",
            "refused-stream",
            "reset-before-request",
        ]
        assert rule["Filters"]["TimeoutFilter"] == {"RequestTimeout": "90500ms", "IdleTimeout": "24h"}


@pytest.mark.parametrize("spec", [FILES, WEB, DATABASE])
def test_no_entry_retries_a_call_that_may_have_started(spec: ServiceSpec) -> None:
    entries = service_entries(spec, "m", LUA, LUA) + ([route_entry(spec, "m", "ingress")] if spec.route else [])
    text = json.dumps(entries)
    assert not [
        word for word in ("5xx", "gateway-error", '"reset"', "unavailable", "RetryOnStatusCodes") if word in text
    ]
    assert "RetryOnConnectFailure" not in text


def test_every_entry_has_owner_and_digest_and_a_change_changes_the_digest() -> None:
    def digests(spec: ServiceSpec) -> list[str]:
        entries = [*service_entries(spec, "m", LUA, LUA), route_entry(spec, "m", "ingress")]
        assert {entry["Meta"]["mcpmesh-owner"] for entry in entries} == {"m"}
        return [entry["Meta"]["mcpmesh-digest"] for entry in entries]

    assert digests(FILES) == digests(FILES)
    changed = digests(replace(FILES, timeouts=Timeouts(request=1.0)))
    assert [before == after for before, after in zip(digests(FILES), changed, strict=True)] == [
        True,
        False,
        False,
        False,
    ]
