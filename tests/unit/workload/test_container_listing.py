"""Which containers discovery takes for ended, and what it copies, while the engine changes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mcpmesh.kit.marked_process import Mark
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers import container_naming
from mcpmesh.workload.containers.agent_environment import EnvironmentReader
from mcpmesh.workload.containers.container_ids import PAIR, ContainerIds
from mcpmesh.workload.containers.container_listing import ContainerDiscovery
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.containers.log_copier import LogCopier


class ListedContainers(DockerEngine):
    """Docker as a list of containers; `between` is called after the first inventory of them."""

    def __init__(self, address: str = "") -> None:
        super().__init__(address)
        self.containers: dict[str, dict[str, Any]] = {}
        self.stopped: set[str] = set()
        self.between: Callable[[], None] = lambda: None

    async def labelled(self, label: str) -> list[Json]:
        return list(self.containers.values())

    async def inspect(self, id_: str) -> Json | None:
        found = self.containers.get(id_)
        if id_ == "s":
            found, between, self.between = dict(found or {}), self.between, lambda: None
            between()
        return found or None

    async def remove(self, id_: str) -> None:
        self.containers.pop(id_, None)

    async def stop(self, id_: str, grace_seconds: float) -> None:
        self.stopped.add(id_)

    async def output(self, id_: str, since: float) -> AsyncGenerator[bytes, None]:
        yield b"output\n"
        found = self.containers.get(id_)
        if found and found["State"]["Running"] and id_ not in self.stopped:
            await asyncio.Event().wait()

    async def events(self, label: str) -> AsyncGenerator[Json, None]:
        await asyncio.Event().wait()
        yield {}


@pytest.fixture
async def docker() -> AsyncIterator[ListedContainers]:
    made = ListedContainers()
    yield made
    await made.close()


@pytest.fixture
def ids() -> ContainerIds:
    return ContainerIds()


@pytest.fixture
async def discovery(docker: ListedContainers, ids: ContainerIds, tmp_path: Path) -> AsyncIterator[ContainerDiscovery]:
    settings = ContainerSettings(image="mesh", sockets=tmp_path, data=tmp_path)
    environment = EnvironmentReader(docker, settings, "test", str(tmp_path))
    # No test may wait for the end of a copy.
    copier = LogCopier(docker, end_seconds=600.0)
    made = ContainerDiscovery(docker, ids, environment, copier, settings, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def container(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(id_: str, role: str, running: bool = True, **labels: str) -> dict[str, Any]:
        mark = Mark("test", str(tmp_path), role, "test-time-1", "time")
        named = container_naming.labels(str(tmp_path), mark, **labels)
        state = {"Running": running, "StartedAt": "1", "Pid": 7}
        return {"Id": id_, "State": state, "Config": {"Labels": named}, "NetworkSettings": {}}

    return make


async def test_a_shim_whose_server_starts_between_two_inventories_is_kept(
    discovery: ContainerDiscovery, docker: ListedContainers, container: Callable[..., dict[str, Any]]
) -> None:
    docker.containers["s"] = container("s", "shim", image="mcp/time")
    program = container("p", "server", joined="s@1")
    docker.between = lambda: docker.containers.update(p=program)
    await discovery.list_processes()
    assert set(docker.containers) == {"s", "p"}
    assert {process.mark.role for process in await discovery.list_processes()} == {"shim", "server"}


async def test_a_shim_is_kept_while_its_server_is_being_started_and_removed_when_that_failed(
    discovery: ContainerDiscovery, ids: ContainerIds, docker: ListedContainers, container: Callable[..., dict[str, Any]]
) -> None:
    docker.containers["s"] = container("s", "shim", image="mcp/time")
    with ids.starting(PAIR, "test-time-1"):
        await discovery.list_processes()
        assert set(docker.containers) == {"s"}
    await discovery.list_processes()
    assert docker.containers == {}


async def test_a_container_that_is_over_in_both_inventories_is_removed_and_its_output_kept(
    discovery: ContainerDiscovery, docker: ListedContainers, container: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    docker.containers["s"] = container("s", "shim", running=False)
    assert await discovery.list_processes() == []
    assert docker.containers == {}
    assert (tmp_path / "logs" / "test-time-1.log").read_text() == "output\n"


async def test_a_server_whose_shim_is_gone_is_stopped_before_the_end_of_its_output_is_awaited(
    discovery: ContainerDiscovery,
    docker: ListedContainers,
    container: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    docker.containers["p"] = container("p", "server", joined="s@1")
    async with asyncio.timeout(60):
        assert await discovery.list_processes() == []
    assert (docker.containers, docker.stopped) == ({}, {"p"})
    assert (tmp_path / "logs" / "test-time-1.server.log").read_text() == "output\n"


async def test_a_log_that_could_not_be_opened_is_copied_at_the_next_attempt(
    docker: ListedContainers, tmp_path: Path
) -> None:
    copier, log = LogCopier(docker), tmp_path / "logs" / "time.log"
    log.parent.write_text("in the way")
    await copier.finish("s", log)
    log.parent.unlink()
    await copier.finish("s", log)
    assert log.read_text() == "output\n"
    assert log.stat().st_mode & 0o777 == 0o600
