"""An image that Docker fetches from a registry, by what a person reads meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from tests.e2e.composed import docker, until

from mcpmesh.errors import WorkloadError
from mcpmesh.workload.containers.engine import Engine
from mcpmesh.workload.containers.images import Images

MEGABYTES = 60


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """An image that a registry has and Docker has not."""
    testcontainers_config.ryuk_disabled = True  # its reaper is an image that may not be had
    with DockerContainer("registry:2").with_exposed_ports(5000) as container:
        # Docker asks registries on loopback alone without TLS.
        address = f"127.0.0.1:{container.get_exposed_port(5000)}"
        until(lambda: answers(f"http://{address}/v2/"), "the registry")
        yield f"{address}/mcpmesh-test-large:1"


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def absent(name: str, tmp_path: Path) -> Iterator[str]:
    """That image: what can't be compressed, on top of nothing, so that no layer of it is here."""
    (tmp_path / "large").write_bytes(os.urandom(MEGABYTES * 1_000_000))
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY large /\nCMD ["/large"]\n')
    docker("build", "-q", "-t", name, str(tmp_path))
    docker("push", "-q", name)
    docker("rmi", name)
    yield name
    docker("rmi", name, check=False)


async def test_how_far_a_pull_is_can_be_read_until_it_is_there(absent: str) -> None:
    engine = Engine("unix:///var/run/docker.sock")
    images, said = Images(engine), []
    async with asyncio.timeout(120):
        while True:
            try:
                found = await images.have(absent)
                break
            except WorkloadError as error:
                said.append(str(error))
            await asyncio.sleep(0.02)
    await engine.close()
    assert found["Config"]["Cmd"] == ["/large"]
    assert all(f"its image {absent} is being pulled" in sentence for sentence in said)
    assert any(f" % of {MEGABYTES} MB so far" in sentence for sentence in said), set(said)
