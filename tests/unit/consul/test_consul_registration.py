from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcpmesh.consul.ownership import digest_of
from mcpmesh.consul.registration import registration
from mcpmesh.ingress.api_gateway import gateway_registration
from mcpmesh.model.observed_state import ServerInfo, ToolDigest
from mcpmesh.model.service import Health, Plain, Protocol, ServiceSpec, Stdio, Upstream

FILES = ServiceSpec("files", Stdio("server"), tags=("docs",), upstreams=(Upstream("db"), Upstream("later")))
INFO = ServerInfo("fs", "1.2.3", ("2025-11-25", "2026-07-28"), (ToolDigest("read", "a"), ToolDigest("write", "b")))


def register(spec: ServiceSpec = FILES, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    arguments: dict[str, Any] = {
        "mesh": "m",
        "instance_id": "m-files-1",
        "port": 1001,
        "sidecar_port": 1002,
        "upstream_ports": {"db": 1003},
        "info": INFO,
    }
    return registration(spec, **{**arguments, **changes})


def test_the_registration_of_an_instance() -> None:
    instance, _ = register()
    digest = instance["Meta"].pop("mcpmesh-digest")
    assert len(digest) == 64
    assert instance == {
        "ID": "m-files-1",
        "Name": "files",
        "Address": "127.0.0.1",
        "Port": 1001,
        "Tags": ["docs"],
        "Meta": {
            "mcpmesh-owner": "m",
            "mcpmesh-instance": "m-files-1",
            "mcpmesh-protocol-versions": "2025-11-25,2026-07-28",
            "mcpmesh-server": "fs",
            "mcpmesh-server-version": "1.2.3",
            "mcpmesh-tools": "2",
        },
        "Checks": [
            {
                "CheckID": "m-files-1:ready",
                "Name": "ready",
                "Interval": "2000ms",
                "HTTP": "http://127.0.0.1:1001/ready",
                "Timeout": "5s",
                "Status": "passing",
            }
        ],
    }


def test_the_registration_of_a_sidecar() -> None:
    instance, sidecar = register()
    assert sidecar == {
        "ID": "m-files-1-sidecar",
        "Name": "files-sidecar",
        "Kind": "connect-proxy",
        "Address": "127.0.0.1",
        "Port": 1002,
        "Meta": {
            "mcpmesh-owner": "m",
            "mcpmesh-instance": "m-files-1",
            "mcpmesh-digest": instance["Meta"]["mcpmesh-digest"],
        },
        "Proxy": {
            "DestinationServiceName": "files",
            "DestinationServiceID": "m-files-1",
            "LocalServiceAddress": "127.0.0.1",
            "LocalServicePort": 1001,
            "Config": {
                "protocol": "http",
                "bind_address": "127.0.0.1",
                "local_connect_timeout_ms": 2000,
                "local_request_timeout_ms": 0,
                "local_idle_timeout_ms": 0,
            },
            "Upstreams": [{"DestinationName": "db", "LocalBindAddress": "127.0.0.1", "LocalBindPort": 1003}],
        },
        "Checks": [
            {
                "CheckID": "m-files-1-sidecar:listener",
                "Name": "listener",
                "Interval": "1s",
                "TCP": "127.0.0.1:1002",
                "Timeout": "5s",
            },
            {"CheckID": "m-files-1-sidecar:instance", "Name": "instance", "AliasService": "m-files-1"},
        ],
    }


@pytest.mark.parametrize(
    ("start", "health", "check"),
    [
        (Plain(Protocol.HTTP, address="a:1"), Health(), {"TCP": "10.0.0.1:1001"}),
        (Plain(Protocol.HTTP, address="a:1"), Health(path="/up"), {"HTTP": "http://10.0.0.1:1001/up"}),
        (Plain(Protocol.TCP, address="a:1"), Health(path="/up"), {"TCP": "10.0.0.1:1001"}),
        (
            Stdio("server"),
            Health(interval=0.5, path="/up"),
            {"HTTP": "http://10.0.0.1:1001/ready", "Interval": "500ms"},
        ),
    ],
)
def test_the_check_of_an_instance_depends_on_its_kind(start: Any, health: Health, check: dict[str, str]) -> None:
    instance, sidecar = register(ServiceSpec("x", start, health=health), address="10.0.0.1")
    assert check.items() <= instance["Checks"][0].items()
    assert sidecar["Proxy"]["LocalServiceAddress"] == "10.0.0.1"


def test_a_tcp_service_has_no_time_limits_for_calls() -> None:
    _, sidecar = register(ServiceSpec("x", Plain(Protocol.TCP, address="a:1")))
    config = {"protocol": "tcp", "bind_address": "127.0.0.1", "local_connect_timeout_ms": 2000}
    assert sidecar["Proxy"]["Config"] == config


def test_long_server_info_is_cut_to_consuls_limit() -> None:
    instance, _ = register(info=replace(INFO, name="n" * 5000))
    assert len(instance["Meta"]["mcpmesh-server"]) == 512


def test_without_server_info_there_is_none_in_meta() -> None:
    instance, _ = register(info=None)
    assert instance["Meta"].keys() == {"mcpmesh-owner", "mcpmesh-instance", "mcpmesh-digest"}


@pytest.mark.parametrize(
    "change",
    [
        {"port": 1},
        {"sidecar_port": 1},
        {"upstream_ports": {}},
        {"info": None},
        {"mesh": "other"},
        {"spec": replace(FILES, tags=())},
    ],
)
def test_every_change_changes_the_common_digest(change: dict[str, Any]) -> None:
    before, after = register(), register(**change)
    digests = {payload["Meta"]["mcpmesh-digest"] for payload in after}
    assert len(digests) == 1
    assert digests != {before[0]["Meta"]["mcpmesh-digest"]}


def test_a_digest_does_not_depend_on_itself() -> None:
    both = register()
    assert digest_of(*both) == both[0]["Meta"]["mcpmesh-digest"]
    assert register() == both


def test_a_gateway_on_all_addresses_is_checked_on_loopback() -> None:
    gateway = gateway_registration("m", "m-ingress", "ingress", "0.0.0.0", 8000)
    assert (gateway["Kind"], gateway["Address"], gateway["Checks"][0]["TCP"]) == (
        "api-gateway",
        "0.0.0.0",
        "127.0.0.1:8000",
    )


def test_an_ipv6_address_is_written_in_brackets() -> None:
    gateway = gateway_registration("m", "m-ingress", "ingress", "::1", 8000)
    assert (gateway["Address"], gateway["Checks"][0]["TCP"]) == ("::1", "[::1]:8000")
