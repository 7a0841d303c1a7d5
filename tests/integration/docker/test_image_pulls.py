"""An image that Docker pulls from a registry, and the progress that is reported."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from tests.e2e.composed import docker, until

from mcpmesh.errors import WorkloadError
from mcpmesh.workload.containers.docker_engine import DockerEngine
from mcpmesh.workload.containers.images import Images

MEGABYTES = 60


@pytest.fixture(scope="module")
def registry() -> Iterator[int]:
    """The port of a registry on loopback, with which alone Docker speaks without TLS."""
    testcontainers_config.ryuk_disabled = True  # its reaper is an image that may not be had
    with DockerContainer("registry:2").with_exposed_ports(5000) as container:
        port = int(container.get_exposed_port(5000))
        until(lambda: answers(f"http://127.0.0.1:{port}/v2/"), "the registry")
        yield port


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=60).is_success
    except httpx.TransportError:
        return False


@dataclass
class Relay:
    """A relay to a registry that passes half of an image before `open` is set."""

    registry: int
    port: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    passed: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        from_registry, to_registry = await asyncio.open_connection("127.0.0.1", self.registry)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, to_registry))
                group.create_task(self._pass(from_registry, writer, bounded=True))
        finally:
            to_registry.close()
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bounded: bool = False) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                if bounded:
                    self.passed += len(piece)
                    if self.passed > MEGABYTES * 1_000_000 / 2:
                        await self.open.wait()
                writer.write(piece)
                await writer.drain()
            writer.write_eof()


@pytest.fixture
async def way(registry: int) -> AsyncIterator[Relay]:
    """A relay; its connections end with the test."""
    made = Relay(registry)
    server = await asyncio.start_server(made.lead, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    # Docker keeps its connections open for a while.
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.fixture
def absent(registry: int, way: Relay, tmp_path: Path) -> Iterator[str]:
    """An image behind that relay: one incompressible layer on an empty base, so that Docker has no layer of it."""
    (tmp_path / "large").write_bytes(os.urandom(MEGABYTES * 1_000_000))
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY large /\nCMD ["/large"]\n')
    pushed, name = (f"127.0.0.1:{port}/mcpmesh-test-large:1" for port in (registry, way.port))
    docker("build", "-q", "-t", pushed, str(tmp_path))
    docker("push", "-q", pushed)
    docker("rmi", pushed)
    yield name
    docker("rmi", name, check=False)


async def test_the_progress_of_a_pull_is_reported_until_the_image_is_there(absent: str, way: Relay) -> None:
    engine = DockerEngine("unix:///var/run/docker.sock")
    images, said = Images(engine), []
    async with asyncio.timeout(240):
        while True:
            try:
                found = await images.require(absent)
                break
            except WorkloadError as error:
                said.append(str(error))
            if f" % of {MEGABYTES} MB so far" in said[-1]:
                way.open.set()
            await asyncio.sleep(0.02)
    await engine.close()
    assert found["Config"]["Cmd"] == ["/large"]
    assert all(f"its image {absent} is being pulled" in sentence for sentence in said)
    assert any(f" % of {MEGABYTES} MB so far" in sentence for sentence in said), set(said)
