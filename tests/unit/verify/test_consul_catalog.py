"""Consul's catalog, read as its callers read it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.unit.verify.sample_mesh import refuse_connection

from mcpmesh.errors import Broken, Refused, Unreachable
from mcpmesh.verify.probes.consul_catalog import CatalogEntry, ConsulCatalog, parse_default_policy, parse_entries


def test_entries_have_their_failing_checks_without_those_of_the_node() -> None:
    node_check = {"Name": "Serf", "Status": "critical", "ServiceID": ""}
    ready = {"Name": "ready", "Status": "passing", "ServiceID": "files-1"}
    listener = {"Name": "listener", "Status": "critical", "ServiceID": "files-1", "Output": "connection\n refused "}
    silent = {"Name": "silent", "Status": "warning", "ServiceID": "files-2"}
    answer = [
        {
            "Node": {"Address": "10.0.0.1"},
            "Service": {"ID": "files-1", "Address": "", "Port": 80},
            "Checks": [node_check, ready, listener],
        },
        {
            "Node": {"Address": "10.0.0.1"},
            "Service": {"ID": "files-2", "Address": "10.0.0.2", "Port": 81},
            "Checks": [silent],
        },
    ]
    assert parse_entries(answer) == {
        "files-1": CatalogEntry("files-1", "10.0.0.1", 80, ("listener is critical: connection refused",), 2),
        "files-2": CatalogEntry("files-2", "10.0.0.2", 81, ("silent is warning",), 1),
    }


@pytest.mark.parametrize(
    ("configuration", "policy"),
    [
        ({"DefaultIntentionPolicy": "deny"}, "deny"),
        ({"DefaultIntentionPolicy": "allow", "ACLResolverSettings": {"ACLDefaultPolicy": "deny"}}, "allow"),
        (
            {"DefaultIntentionPolicy": "", "ACLResolverSettings": {"ACLsEnabled": True, "ACLDefaultPolicy": "deny"}},
            "deny",
        ),
        (
            {"DefaultIntentionPolicy": "", "ACLResolverSettings": {"ACLsEnabled": False, "ACLDefaultPolicy": "deny"}},
            "allow",
        ),
        ({}, "allow"),
    ],
)
def test_the_default_policy_is_the_one_that_consul_applies(configuration: dict[str, Any], policy: str) -> None:
    assert parse_default_policy({"DebugConfig": configuration}) == policy


@pytest.mark.parametrize(
    ("status", "kind"), [(200, Broken), (399, Broken), (400, Refused), (403, Refused), (499, Refused), (500, Broken)]
)
async def test_an_answer_that_cannot_be_used_raises_the_error_of_its_status(status: int, kind: type[Exception]) -> None:
    catalog = ConsulCatalog("http://consul", None, httpx.MockTransport(lambda _: httpx.Response(status, text="?")))
    with pytest.raises(kind, match="cannot read http://consul/v1/agent/self"):
        await catalog.default_policy()
    await catalog.close()


async def test_a_consul_that_does_not_answer_is_unreachable() -> None:
    catalog = ConsulCatalog("http://consul", None, httpx.MockTransport(refuse_connection))
    with pytest.raises(Unreachable, match="cannot read http://consul/v1/health/service/files: refused"):
        await catalog.instances("files")
    await catalog.close()


async def test_instances_and_sidecars_are_read_with_the_token() -> None:
    requests: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append((request.url.path, request.headers.get("X-Consul-Token")))
        return httpx.Response(200, json=[])

    catalog = ConsulCatalog("http://consul", SecretStr("secret"), httpx.MockTransport(answer))
    assert (await catalog.instances("files"), await catalog.sidecars("files")) == ({}, {})
    assert requests == [("/v1/health/service/files", "secret"), ("/v1/health/connect/files", "secret")]
    await catalog.close()
