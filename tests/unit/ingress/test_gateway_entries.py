"""What Consul knows of an ingress: the API gateway, or Kong with its sidecar."""

from __future__ import annotations

import pytest

from mcpmesh.ingress.api_gateway import ApiGateway, gateway_registration, route_entry
from mcpmesh.ingress.kong.kong_ingress import KongIngress
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Stdio, Timeouts

GATEWAY = ApiGateway("m", "m-ingress", "ingress", "127.0.0.1", 8000, "lua")


@pytest.mark.parametrize(
    ("host", "checked"),
    [("0.0.0.0", "127.0.0.1:8000"), ("::", "127.0.0.1:8000"), ("10.0.0.5", "10.0.0.5:8000"), ("::1", "[::1]:8000")],
)
def test_a_gateway_is_checked_where_it_listens(host: str, checked: str) -> None:
    registration = gateway_registration("m", "m-ingress", "ingress", host, 8000)
    digest = registration["Meta"].pop("mcpmesh-digest")
    assert len(digest) == 64
    assert registration == {
        "Kind": "api-gateway",
        "ID": "m-ingress",
        "Name": "ingress",
        "Address": host,
        "Port": 8000,
        "Meta": {"mcpmesh-owner": "m"},
        "Checks": [
            {
                "CheckID": "m-ingress:listener",
                "Name": "listener",
                "Interval": "1s",
                "TCP": checked,
                "Timeout": "5s",
            }
        ],
    }


@pytest.mark.parametrize(
    ("host", "address"), [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("", "127.0.0.1"), ("10.0.0.5", "10.0.0.5")]
)
def test_kong_is_registered_where_its_sidecar_reaches_it(host: str, address: str) -> None:
    kong = KongIngress("m", "m-ingress", "ingress", host, 8000, 6000, "lua", "10.0.0.9")
    instance, sidecar = kong.registrations({"web": 2, "files": 1})
    assert (instance["Address"], instance["Port"], sidecar["Address"]) == (address, 8000, "10.0.0.9")
    assert [item["DestinationName"] for item in sidecar["Proxy"]["Upstreams"]] == ["files", "web"]
    assert kong.route(ServiceSpec("files", Stdio("server"), route="/mcp/files")) is None


def test_a_gateway_has_one_registration_whatever_it_leads_to() -> None:
    expected = (gateway_registration("m", "m-ingress", "ingress", "127.0.0.1", 8000),)
    assert GATEWAY.registrations({"files": 1}) == GATEWAY.registrations({}) == expected


def test_the_entries_of_a_gateway() -> None:
    defaults, gateway = GATEWAY.entries()
    assert (defaults["Kind"], defaults["Name"], defaults["Protocol"]) == ("service-defaults", "ingress", "http")
    assert defaults["EnvoyExtensions"][0]["Arguments"] == {
        "ProxyType": "api-gateway",
        "Listener": "outbound",
        "Script": "lua",
    }
    assert gateway["Listeners"] == [{"Name": "main", "Port": 8000, "Protocol": "http"}]


def test_the_route_of_an_mcp_service_leads_to_its_mcp_path() -> None:
    spec = ServiceSpec("files", Stdio("server"), route="/mcp/files", timeouts=Timeouts(request=300))
    route = GATEWAY.route(spec)
    assert route == route_entry(spec, "m", "ingress")
    assert route["Parents"] == [{"Kind": "api-gateway", "Name": "ingress", "SectionName": "main"}]
    assert [(rule["Matches"], rule["Filters"]["URLRewrite"], rule["Services"]) for rule in route["Rules"]] == [
        ([{"Path": {"Match": "exact", "Value": "/mcp/files"}}], {"Path": "/mcp"}, [{"Name": "files"}]),
        ([{"Path": {"Match": "prefix", "Value": "/mcp/files/"}}], {"Path": "/mcp/"}, [{"Name": "files"}]),
    ]
    assert route["Rules"][0]["Filters"]["TimeoutFilter"] == {"RequestTimeout": "300000ms", "IdleTimeout": "24h"}
    assert route["Rules"][0]["Filters"]["RetryFilter"] == {
        "NumRetries": 5,
        "RetryOn": ["connect-failure", "refused-stream", "reset-before-request"],
    }


@pytest.mark.parametrize(("path", "rules"), [("/shop.v2", 2), ("/", 1)])
def test_the_route_of_a_plain_service_leads_to_its_root(path: str, rules: int) -> None:
    route = route_entry(ServiceSpec("web", Plain(Protocol.HTTP, command="web"), route=path), "m", "ingress")
    matches = [rule["Matches"][0] for rule in route["Rules"]]
    assert len(matches) == rules
    assert {rule["Filters"]["URLRewrite"]["Path"] for rule in route["Rules"]} == {"/"}
    if rules == 2:
        whole = {"Match": "regex", "Name": ":path", "Value": r"/shop\.v2(\?.*)?"}
        assert matches[0] == {"Path": {"Match": "prefix", "Value": "/shop.v2"}, "Headers": [whole]}
    assert matches[-1] == {"Path": {"Match": "prefix", "Value": f"{path.rstrip('/')}/"}}
