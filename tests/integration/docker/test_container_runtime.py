"""The container runtime on a real Docker, used directly from the machine."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.e2e.composed import docker, environments_in, inspect
from tests.e2e.composed import until as until_now

from mcpmesh.errors import Unreachable, WorkloadError
from mcpmesh.model.instance import Instance
from mcpmesh.model.observed_state import Workload
from mcpmesh.model.service import Isolation, ServiceSpec, Stdio
from mcpmesh.settings import ContainerSettings, Settings
from mcpmesh.workload.containers.container_runtime import ContainerRuntime
from mcpmesh.workload.runtime import PreferredPorts

CLOCK = ServiceSpec("clock", Stdio("mcp-server-time", ("--local-timezone", "UTC"), cwd=Path("/")), route="/mcp/clock")
ONE = Instance("test", "clock", 1, "0" * 64)


@pytest.fixture
def network() -> Iterator[str]:
    name = f"mcpmesh-test-{os.urandom(4).hex()}"
    docker("network", "create", "--internal", name)
    yield name
    removed(name)


def removed(network: str) -> None:
    """Removes it; a container that has just been removed may hold an address in it for a moment."""
    until_now(lambda: docker("network", "rm", network), f"the end of {network}")


@pytest.fixture
def settings(image: str, network: str, tmp_path: Path) -> Settings:
    for folder in ("sockets", "data"):
        (tmp_path / folder).mkdir()
    # The socket's path has to stay below 108 bytes.
    containers = ContainerSettings(
        image=image, network=network, sockets=tmp_path / "sockets", data=tmp_path / "data", memory_mebibytes=256
    )
    return Settings(runtime="containers", containers=containers)


@pytest.fixture
async def runtime(settings: Settings, tmp_path: Path) -> AsyncIterator[ContainerRuntime]:
    made = ContainerRuntime(settings, "test", tmp_path / "home")
    yield made
    for process in await made.list_processes():
        await made.end(process, 0)
    await made.close()
    assert docker("ps", "-aq", "--filter", f"label=mcpmesh.owner={tmp_path / 'home'}") == ""


async def until(ask: Callable[[], Awaitable[object]], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not await ask():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.1)


async def ready(runtime: ContainerRuntime, count: int = 1) -> list[Workload]:
    seen: list[Workload] = []

    async def all_ready() -> bool:
        nonlocal seen
        seen = [await runtime.observe(process) for process in await runtime.list_processes()]
        return len(seen) == count and all(workload.ready for workload in seen)

    await until(all_ready, f"{count} that are ready: {seen}")
    return seen


async def start(runtime: ContainerRuntime, spec: ServiceSpec = CLOCK, instance: Instance = ONE) -> None:
    await runtime.start(spec, instance, PreferredPorts(), ())


async def test_an_instance_answers_at_its_socket_and_has_an_address(runtime: ContainerRuntime) -> None:
    await start(runtime)
    [workload] = await ready(runtime)
    assert (workload.instance, workload.port, workload.sidecar_port) == (ONE.id, 11100, 11101)
    assert workload.info and {tool.name for tool in workload.info.tools} == {"get_current_time", "convert_time"}
    [process] = await runtime.list_processes()
    assert workload.host == process.host != "127.0.0.1"


async def test_another_agent_finds_the_same_instance(
    runtime: ContainerRuntime, settings: Settings, tmp_path: Path
) -> None:
    await start(runtime)
    await ready(runtime)
    other = ContainerRuntime(settings, "test", tmp_path / "home")
    try:
        assert await other.list_processes() == await runtime.list_processes()
        assert [workload.ready for workload in await ready(other)] == [True]
    finally:
        await other.close()


async def test_another_mesh_does_not_find_the_instance(
    runtime: ContainerRuntime, settings: Settings, tmp_path: Path
) -> None:
    await start(runtime)
    other = ContainerRuntime(settings, "test", tmp_path / "elsewhere")
    try:
        assert await other.list_processes() == []
    finally:
        await other.close()


async def test_instances_have_the_same_ports_and_addresses_of_their_own(runtime: ContainerRuntime) -> None:
    await start(runtime)
    await start(runtime, instance=replace(ONE, ordinal=2))
    first, second = await ready(runtime, 2)
    assert (first.port, first.sidecar_port) == (second.port, second.sidecar_port)
    assert first.host != second.host


async def test_the_secret_of_a_service_is_only_in_its_servers_environment(runtime: ContainerRuntime) -> None:
    spec = replace(CLOCK, start=replace(CLOCK.start, env={"TOKEN": SecretStr("sesame-open")}))
    await start(runtime, spec)
    await ready(runtime)
    name = f"mcpmesh-{ONE.id}-shim"
    assert "sesame-open" not in json.dumps(inspect(name))
    until_now(lambda: any(b"TOKEN=sesame-open" in each for each in environments_in(name)), "a server that has it")


async def test_an_ended_container_is_removed_and_its_output_kept(runtime: ContainerRuntime) -> None:
    spec = replace(CLOCK, start=Stdio("no-such-program", isolation=Isolation.SHARED, cwd=Path("/")))
    await start(runtime, spec)
    assert len(await runtime.list_processes()) == 1

    async def has_logged() -> bool:
        return "mcpmesh-shim" in await runtime.last_log_line(ONE.id)

    await until(has_logged, "its first line")
    docker("kill", f"mcpmesh-{ONE.id}-shim")

    async def gone() -> bool:
        return await runtime.list_processes() == []

    await until(gone, "the end of it")
    assert docker("ps", "-aq", "--filter", f"name=mcpmesh-{ONE.id}-shim") == ""
    assert "mcpmesh-shim" in await runtime.last_log_line(ONE.id)
    assert runtime.socket_folder and not list(runtime.socket_folder.iterdir())


async def test_a_change_is_noticed_at_once(runtime: ContainerRuntime) -> None:
    await start(runtime)
    processes = await runtime.list_processes()
    waiting = asyncio.create_task(runtime.wait_for_any_end(processes))
    # Docker's events of the start may come first.
    while waiting in (await asyncio.wait([waiting], timeout=2))[0]:
        waiting = asyncio.create_task(runtime.wait_for_any_end(processes))
    docker("kill", f"mcpmesh-{ONE.id}-shim")
    await asyncio.wait_for(waiting, 60)


async def test_an_image_that_cannot_be_pulled_is_an_error(runtime: ContainerRuntime) -> None:
    # A registry that does not listen; an unknown host name could take a resolver a minute.
    spec = replace(CLOCK, start=Stdio("", image="127.0.0.1:1/mcpmesh/absent:1", cwd=Path("/")))
    with pytest.raises(WorkloadError, match=r"is being pulled|cannot pull the image"):
        await start(runtime, spec)

    async def is_reported() -> bool:
        try:
            await start(runtime, spec)
        except WorkloadError as error:
            return "cannot pull the image 127.0.0.1:1/mcpmesh/absent:1" in str(error)
        return False

    await until(is_reported, "the reason")


def create_small_network(name: str) -> str:
    subnet = f"10.213.{random.randrange(256)}.0/30"
    return docker("network", "create", "--internal", "--subnet", subnet, name)


async def test_a_network_without_a_free_address_is_an_error_and_leaves_no_container(
    settings: Settings, network: str, tmp_path: Path
) -> None:
    # Room for the bridge and one more; an earlier run may have left a network in the same range.
    until_now(lambda: create_small_network(f"{network}-small"), "a free range of four addresses")
    small = settings.containers.model_copy(update={"network": f"{network}-small"})
    runtime = ContainerRuntime(settings.model_copy(update={"containers": small}), "small", tmp_path / "home")
    try:
        await start(runtime)
        second = replace(ONE, ordinal=2)
        with pytest.raises(WorkloadError, match="its network is full"):
            await start(runtime, instance=second)
        assert docker("ps", "-aq", "--filter", f"name=mcpmesh-{second.id}") == ""
        for process in await runtime.list_processes():
            await runtime.end(process, 0)
    finally:
        await runtime.close()
        removed(f"{network}-small")


async def test_a_docker_that_does_not_run_is_an_error_with_its_address(settings: Settings, tmp_path: Path) -> None:
    away = settings.containers.model_copy(update={"engine": f"unix://{tmp_path}/no.sock"})
    runtime = ContainerRuntime(settings.model_copy(update={"containers": away}), "test", tmp_path / "home")
    try:
        with pytest.raises(Unreachable, match=r"cannot reach Docker at unix://.*no\.sock: is it running"):
            await runtime.list_processes()
    finally:
        await runtime.close()
