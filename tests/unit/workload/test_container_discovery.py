"""What the container runtime takes for ended, and what it copies, beside an engine that changes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mcpmesh.kit.marked_process import Mark
from mcpmesh.settings import ContainerSettings
from mcpmesh.workload.containers import layout, log_copier
from mcpmesh.workload.containers.agent_environment import EnvironmentReader
from mcpmesh.workload.containers.container_ids import PAIR, ContainerIds
from mcpmesh.workload.containers.discovery import ContainerDiscovery
from mcpmesh.workload.containers.docker_engine import DockerEngine, Json
from mcpmesh.workload.containers.log_copier import LogCopier


class Shown(DockerEngine):
    """Docker as a list of containers; `between` happens after the first look at them."""

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

    async def said(self, id_: str, since: float) -> AsyncGenerator[bytes, None]:
        yield b"said\n"
        found = self.containers.get(id_)
        if found and found["State"]["Running"] and id_ not in self.stopped:
            await asyncio.Event().wait()

    async def events(self, label: str) -> AsyncGenerator[Json, None]:
        await asyncio.Event().wait()
        yield {}


@pytest.fixture
async def docker() -> AsyncIterator[Shown]:
    shown = Shown()
    yield shown
    await shown.close()


@pytest.fixture
def known() -> ContainerIds:
    return ContainerIds()


@pytest.fixture
async def finder(docker: Shown, known: ContainerIds, tmp_path: Path) -> AsyncIterator[ContainerDiscovery]:
    settings = ContainerSettings(image="mesh", sockets=tmp_path, data=tmp_path)
    made = ContainerDiscovery(
        docker, known, EnvironmentReader(docker, settings, "test", str(tmp_path)), settings, tmp_path
    )
    yield made
    await made.close()


@pytest.fixture
def container(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def made(id_: str, role: str, running: bool = True, **labels: str) -> dict[str, Any]:
        mark = Mark("test", str(tmp_path), role, "test-time-1", "time")
        named = layout.labels(str(tmp_path), mark, **labels)
        state = {"Running": running, "StartedAt": "1", "Pid": 7}
        return {"Id": id_, "State": state, "Config": {"Labels": named}, "NetworkSettings": {}}

    return made


async def test_a_shim_whose_program_starts_between_two_looks_stays(
    finder: ContainerDiscovery, docker: Shown, container: Callable[..., dict[str, Any]]
) -> None:
    docker.containers["s"] = container("s", "shim", image="mcp/time")
    program = container("p", "server", joined="s@1")
    docker.between = lambda: docker.containers.update(p=program)
    await finder.found()
    assert set(docker.containers) == {"s", "p"}
    assert {process.mark.role for process in await finder.found()} == {"shim", "server"}


async def test_a_shim_whose_program_is_being_started_stays_until_it_could_not_be(
    finder: ContainerDiscovery, known: ContainerIds, docker: Shown, container: Callable[..., dict[str, Any]]
) -> None:
    docker.containers["s"] = container("s", "shim", image="mcp/time")
    with known.starting(PAIR, "test-time-1"):
        await finder.found()
        assert set(docker.containers) == {"s"}
    await finder.found()
    assert docker.containers == {}


async def test_what_is_over_at_both_looks_is_put_away_with_its_last_words(
    finder: ContainerDiscovery, docker: Shown, container: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    docker.containers["s"] = container("s", "shim", running=False)
    assert await finder.found() == []
    assert docker.containers == {}
    assert (tmp_path / "logs" / "test-time-1.log").read_text() == "said\n"


async def test_a_program_whose_shim_is_gone_is_ended_before_its_last_words_are_waited_for(
    finder: ContainerDiscovery,
    docker: Shown,
    container: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_copier, "_END_SECONDS", 600.0)
    docker.containers["p"] = container("p", "server", joined="s@1")
    async with asyncio.timeout(60):
        assert await finder.found() == []
    assert (docker.containers, docker.stopped) == ({}, {"p"})
    assert (tmp_path / "logs" / "test-time-1.server.log").read_text() == "said\n"


async def test_a_log_that_could_not_be_opened_is_begun_again(docker: Shown, tmp_path: Path) -> None:
    pump, log = LogCopier(docker), tmp_path / "logs" / "time.log"
    log.parent.write_text("in the way")
    await pump.end("s", log)
    log.parent.unlink()
    await pump.end("s", log)
    assert log.read_text() == "said\n"
    assert log.stat().st_mode & 0o777 == 0o600
