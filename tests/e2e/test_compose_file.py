"""The limits and privileges of each service of compose.yaml and its override files, as Compose reads them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.composed import ROOT

from mcpmesh.catalog.values import looks_secret

OVERRIDES = sorted(path for path in ROOT.glob("compose.*.yaml") if path.name != "compose.override.yaml")

DOCKER_SOCKET = "/var/run/docker.sock"
# compose.yaml gives the reasons.
CAPABILITIES = {"agent": ["CHOWN", "DAC_OVERRIDE", "FOWNER"], "consul": ["DAC_OVERRIDE"]}


def services(*overrides: Path, **variables: str) -> dict[str, dict[str, Any]]:
    """The files as Compose reads them with only these variables set."""
    files = [word for path in (ROOT / "compose.yaml", *overrides) for word in ("--file", str(path))]
    argv = ["docker", "compose", "--env-file", os.devnull, *files, "config", "--format", "json"]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_CONFIG") if key in os.environ}
    done = subprocess.run(argv, env={**environment, **variables}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


@pytest.fixture(params=[(), *((path,) for path in OVERRIDES)], ids=lambda files: files[0].name if files else "alone")
def described(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return services(*request.param)


def sources(service: dict[str, Any]) -> list[str]:
    """The folders of this machine and the volumes that a service mounts."""
    return [mount["source"] for mount in service.get("volumes") or ()]


def lacking(service: dict[str, Any]) -> Iterator[str]:
    """The required settings that this service lacks."""
    needed = ("mem_limit", "pids_limit", "cpus", "read_only", "healthcheck", "logging")
    yield from (key for key in needed if not service.get(key))
    if service.get("cap_drop") != ["ALL"]:
        yield "cap_drop"
    if service.get("security_opt") != ["no-new-privileges"]:
        yield "security_opt"
    if service.get("restart") != "unless-stopped":
        yield "restart"
    if service.get("privileged") or service.get("network_mode", "none") != "none" or service.get("pid"):
        yield "namespaces of its own"
    # Docker refuses more than the machine has.
    if float(service.get("cpus", 0)) > 1:
        yield "cpus that every machine has"


def test_every_service_has_limits_a_health_check_and_a_restart_policy(described: dict[str, dict[str, Any]]) -> None:
    assert {name: found for name, service in described.items() if (found := list(lacking(service)))} == {}


def test_every_service_has_only_the_listed_capabilities(described: dict[str, dict[str, Any]]) -> None:
    assert {name: service["cap_add"] for name, service in described.items() if service.get("cap_add")} == CAPABILITIES


def test_no_file_holds_a_secret(described: dict[str, dict[str, Any]]) -> None:
    said = [
        f"{name}: {key}"
        for name, service in described.items()
        for key, value in (service.get("environment") or {}).items()
        if value and looks_secret(key)
    ]
    assert said == []
    assert [name for name, service in described.items() if service.get("secrets") or service.get("configs")] == []


def test_only_the_agent_or_the_proxy_instead_has_dockers_socket(
    described: dict[str, dict[str, Any]],
) -> None:
    given = [name for name, service in described.items() if DOCKER_SOCKET in sources(service)]
    assert given == (["docker-proxy"] if "docker-proxy" in described else ["agent"])


def test_only_the_ingress_and_consul_are_published_on_loopback(
    described: dict[str, dict[str, Any]],
) -> None:
    published = {
        (name, port["host_ip"], port["target"])
        for name, service in described.items()
        for port in service.get("ports", ())
    }
    ingress = "ingress" if "ingress" in described else "kong"
    assert published == {(ingress, "127.0.0.1", 8000), ("consul", "127.0.0.1", 8500)}


def test_every_public_image_has_a_version(described: dict[str, dict[str, Any]]) -> None:
    images = {service["image"] for service in described.values()}
    assert [image for image in images if ":" not in image or image.endswith(":latest")] == []


def test_kong_sends_no_reports_and_creates_spans_only_when_they_are_sent() -> None:
    silent, traced = (
        services(**variables)["kong"]["environment"]
        for variables in ({}, {"MCPMESH_KONG__TRACES_URL": "http://collector:4318/v1/traces"})
    )
    assert silent["KONG_ANONYMOUS_REPORTS"] == "off"
    assert silent["KONG_TRACING_INSTRUMENTATIONS"] == ""
    assert traced["KONG_TRACING_INSTRUMENTATIONS"] == "request,router,balancer"
