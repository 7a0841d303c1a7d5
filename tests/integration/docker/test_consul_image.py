"""The public Consul image alone: it accepts what we register for containers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from tests.support.mesh import wait_for

from mcpmesh.consul.registration import registration
from mcpmesh.model.service import Health, ServiceSpec, Stdio


@pytest.fixture(scope="module")
def consul() -> Iterator[str]:
    testcontainers_config.ryuk_disabled = True  # its reaper is an image that may not be had
    container = DockerContainer("hashicorp/consul:1.22").with_exposed_ports(8500)
    container = container.with_kwargs(entrypoint=["consul", "agent", "-dev", "-client=0.0.0.0"])
    with container:
        address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8500)}"

        def led() -> bool:
            leader = httpx.get(f"{address}/v1/status/leader", trust_env=False, timeout=60).text
            return leader.strip() not in ("", '""')

        wait_for("Consul has a leader", led)
        yield address


def test_an_instance_in_a_namespace_of_its_own_is_checked_through_its_sidecar(consul: str) -> None:
    payloads = registration(
        # There is no instance, and no check runs within this test.
        ServiceSpec("files", Stdio("server"), health=Health(interval=3600)),
        mesh="test",
        instance_id="test-files-1",
        port=11100,
        sidecar_port=11101,
        upstream_ports={},
        info=None,
        host="172.30.0.9",
        check_port=11102,
    )
    for payload in payloads:
        httpx.put(f"{consul}/v1/agent/service/register", json=payload, trust_env=False, timeout=60).raise_for_status()
    sidecar = httpx.get(f"{consul}/v1/agent/service/test-files-1-sidecar", trust_env=False, timeout=60).json()
    assert (sidecar["Address"], sidecar["Port"], sidecar["Proxy"]["LocalServiceAddress"]) == (
        "172.30.0.9",
        11101,
        "127.0.0.1",
    )
    [exposed] = sidecar["Proxy"]["Expose"]["Paths"]
    assert (exposed["Path"], exposed["LocalPathPort"], exposed["ListenerPort"]) == ("/ready", 11100, 11102)
    checks = httpx.get(f"{consul}/v1/agent/checks", trust_env=False, timeout=60).json()
    assert checks["test-files-1:ready"]["Status"] == "passing"
