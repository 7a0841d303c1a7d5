"""compose.yaml with compose.proxy.yaml: the proxy passes every call that the agent needs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from tests.e2e.calls import every_claim_holds
from tests.e2e.composed import ROOT, Composed, docker, inspect, until
from tests.e2e.conftest import CATALOG, composed
from tests.integration.mesh.traffic import call

PROXY = ROOT / "compose.proxy.yaml"

# Calls Docker through the agent's socket; prints the status of each call.
ASK = """
import http.client, socket, sys
for call in sys.argv[1:]:
    method, path = call.split()
    connection = http.client.HTTPConnection("docker")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/docker/docker.sock")
    connection.request(method, path)
    print(connection.getresponse().status)
    connection.close()
"""
REFUSED = (
    "GET /info",
    "GET /v1.41/volumes",
    "GET /v1.41/images/json",
    "GET /v1.41/containers/x/archive?path=/",
    "GET /v1.41/containers/../info",
    "PUT /v1.41/containers/x/archive?path=/",
    "POST /v1.41/volumes/create",
    "POST /v1.41/build",
    "POST /v1.41/containers/x/update",
    "POST /v1.41/networks/create",
    "DELETE /v1.41/volumes/x",
    "DELETE /v1.41/images/x",
)


@pytest.fixture(scope="module")
def proxied(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The mesh with the proxy between the agent and Docker."""
    with composed("mcpmesh-e2e-proxied", image, tmp_path_factory.mktemp("proxied"), PROXY) as running:
        yield running


def test_a_mesh_behind_the_proxy_serves_scales_and_heals_and_every_claim_holds(
    proxied: Composed, clock_image: str
) -> None:
    proxied.write({**CATALOG, "clock": {"image": clock_image, "egress": True}})
    until(lambda: proxied.ready("clock") and proxied.settled(), "a service on a second network")
    answer = call(f"{proxied.ingress}/mcp/clock", "get_current_time", {"timezone": "Asia/Tokyo"})
    assert "Asia/Tokyo" in json.dumps(answer)
    proxied.mcpmesh("scale", "clock=2")
    until(lambda: proxied.ready("clock", 2) and proxied.settled(), "two instances")
    [killed] = proxied.containers("shim", "time")
    before = proxied.ids()[killed]
    docker("kill", killed)
    until(lambda: proxied.ids().get(killed, before) != before and proxied.settled(), "the killed one again")
    until(lambda: "listens on" in proxied.mcpmesh("logs", "time"), "a log that is followed")
    every_claim_holds(proxied)


def test_a_killed_proxy_is_started_again_and_the_agent_continues(proxied: Composed, clock_image: str) -> None:
    proxied.write({**CATALOG, "clock": {"image": clock_image}})
    until(lambda: proxied.ready("clock") and proxied.settled(), "a mesh at rest")
    name, before = f"{proxied.project}-docker-proxy-1", proxied.ids()
    killed = inspect(name)["State"]
    # By a signal, not by `docker kill`, which Docker would take for a person's wish.
    os.kill(killed["Pid"], signal.SIGKILL)
    until(lambda: inspect(name)["State"]["StartedAt"] != killed["StartedAt"], "the proxy again")
    proxied.write(CATALOG)
    until(lambda: not proxied.containers(service="clock") and proxied.settled(), "the end of a service")
    assert proxied.ids().items() <= before.items()


def test_the_agent_has_the_proxys_socket_and_the_proxy_no_network(proxied: Composed) -> None:
    mounted = {mount["Destination"]: mount["Source"] for mount in inspect(f"{proxied.project}-agent-1")["Mounts"]}
    assert mounted["/var/run/docker.sock"] == "/dev/null"
    assert list(inspect(f"{proxied.project}-docker-proxy-1")["NetworkSettings"]["Networks"]) == ["none"]


def test_other_calls_are_refused_and_logged(proxied: Composed) -> None:
    words = ["/opt/mcpmesh/bin/python", "-c", ASK, *REFUSED, "GET /version"]
    asked = docker("exec", f"{proxied.project}-agent-1", *words)
    assert asked.split() == ["403"] * len(REFUSED) + ["200"]

    def told() -> str:
        said = docker("logs", f"{proxied.project}-docker-proxy-1")
        return said if all(f'"{each} HTTP/1.1"' in said for each in REFUSED) else ""

    # And nothing else. Docker has the log some moments after the answers.
    assert until(told, "all that was refused").count("HTTP/1.1") == len(REFUSED)


def test_down_through_the_proxy_leaves_nothing(proxied: Composed) -> None:
    proxied.compose("down", "-v")
    assert proxied.left() == []
