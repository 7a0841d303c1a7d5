"""The agent's background tasks, its mesh and its catalog, without anything that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcpmesh.catalog.loader import load
from mcpmesh.daemon.agent import Agent
from mcpmesh.daemon.agent_operations import AgentOperations
from mcpmesh.daemon.compose_follower import ComposeFollower
from mcpmesh.daemon.intervals import Intervals
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import CatalogError, Unreachable
from mcpmesh.kit.marked_process import Process
from mcpmesh.model.service import Catalog, ServiceSpec, Stdio
from mcpmesh.reconcile.desired_from_catalog import empty_desired_state
from mcpmesh.reconcile.event_journal import Journal
from mcpmesh.settings import Settings


class Loop:
    """A loop that is in sync with every desired state."""

    passes, in_sync, paused = 1, True, True

    def set_desired(self, desired: Any) -> None:
        """Nothing runs."""
        self.desired = desired


class Docker:
    """A runtime that does not answer the first request, and then has no containers."""

    isolated = True
    socket_folder = None
    requests = 0

    async def list_processes(self) -> list[Process]:
        self.requests += 1
        if self.requests == 1:
            raise Unreachable("cannot ask Docker")
        return []

    def remove_bootstraps(self) -> None:
        """There are none."""

    async def close(self) -> None:
        """Nothing is open."""


# Nothing here may wait for an interval.
QUICK = Intervals(0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01)


def settings_in(folder: Path, **more: Any) -> Settings:
    return Settings(state_dir=folder / "state", **more)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    settings = settings_in(tmp_path, runtime="containers", containers={"sockets": tmp_path})
    made = Agent(settings, "m", [], Catalog({}), QUICK)
    yield made
    await made.stop()


async def journal_has(agent: Agent, text: str) -> None:
    """Returns when the journal has a sentence with this text."""
    async with asyncio.timeout(90.0):
        async for event in agent.journal.follow(0, forever=True):
            if text in event.sentence:
                return


async def test_an_unexpected_error_is_reported_and_ends_the_agent(agent: Agent) -> None:
    async def faulty() -> None:
        raise ZeroDivisionError("a bug")

    agent.background.start(faulty(), "some work")
    async with asyncio.timeout(90.0):
        await agent.finished.wait()
    assert isinstance(agent.background.bug, ZeroDivisionError)
    await journal_has(agent, "\"some work\" failed with ZeroDivisionError('a bug')")


async def test_a_task_that_is_cancelled_or_done_does_not_end_the_agent(agent: Agent) -> None:
    async def work() -> None:
        """Done at once."""

    await agent.background.start(work(), "done")
    cancelled = agent.background.start(asyncio.sleep(60.0), "cancelled")
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert agent.background.bug is None and not agent.finished.is_set()


async def test_servers_are_reported_gone_though_docker_did_not_answer_at_first(agent: Agent, tmp_path: Path) -> None:
    docker: Any = Docker()
    loop: Any = Loop()
    await agent.mesh.runtime.close()
    agent.mesh.runtime, agent.mesh.loop = docker, loop
    agent.background.start(ComposeFollower(agent.mesh, agent.catalog, QUICK).follow_signal(), "follow compose")
    await journal_has(agent, "cannot ask Docker")
    async with asyncio.timeout(90.0):
        while not (tmp_path / "gone").exists():
            await asyncio.sleep(0.05)
    (tmp_path / "wanted").touch()
    await journal_has(agent, "the servers are wanted")
    assert agent.background.bug is None and agent.mesh.is_wanted


async def test_the_catalog_is_still_watched_while_the_settings_are_unusable(tmp_path: Path) -> None:
    catalog = tmp_path / "mesh.yaml"
    catalog.write_text("version: 1\nservices: {}\n")
    settings = settings_in(tmp_path, ingress={"kind": "kong"}, kong={"binary": tmp_path / "none"})
    agent = Agent(settings, "m", [catalog], Catalog({}), QUICK)
    agent.start()
    try:
        await journal_has(agent, "cannot find a program")
        for number in range(2):
            catalog.write_text(f"version: 1\nservices: {{}}\nmistake{number}: 1\n")
            await journal_has(agent, f"mistake{number}")
            catalog.write_text("version: 1\nservices: {}\n")
        assert agent.background.bug is None
    finally:
        await agent.stop()


async def test_what_runs_is_left_alone_until_there_is_a_catalog(tmp_path: Path) -> None:
    loop: Any = Loop()
    mesh = Mesh(settings_in(tmp_path, ingress={"kind": "api-gateway"}), "m", Journal())
    mesh.loop = loop
    try:
        mesh.set_catalog(None)
        assert not hasattr(loop, "desired") and not mesh.desired_known.is_set()
        mesh.set_catalog(Catalog({"clock": ServiceSpec("clock", Stdio("clock"))}))
        assert set(loop.desired.services) == {"clock"} and mesh.desired_known.is_set()
    finally:
        await mesh.close()


async def test_an_unwanted_mesh_is_removed_though_there_is_no_catalog(tmp_path: Path) -> None:
    loop: Any = Loop()
    mesh = Mesh(settings_in(tmp_path, ingress={"kind": "api-gateway"}), "m", Journal())
    mesh.loop = loop
    try:
        mesh.remove_everything()
        assert loop.desired == empty_desired_state("m", "ingress") and mesh.desired_known.is_set()
    finally:
        await mesh.close()


@pytest.mark.parametrize("exists", [False, True])
async def test_an_agent_brings_its_mesh_up_once_the_catalog_is_fixed(tmp_path: Path, exists: bool) -> None:
    catalog = tmp_path / "conf" / "mesh.yaml"
    if exists:
        catalog.parent.mkdir()
        catalog.write_text("version: 1\nservices: {clock: {comand: clock}}\n")
    with pytest.raises(CatalogError) as mistake:
        load([catalog], {})
    # It can't come up; the reason in the journal shows that it tries.
    settings = settings_in(tmp_path, ingress={"kind": "kong"}, kong={"binary": tmp_path / "none"})
    agent = Agent(settings, "m", [catalog], mistake.value, QUICK)
    agent.start()
    operations = AgentOperations(agent)
    try:
        await journal_has(agent, "what runs is left as it is")
        status = await operations.status()
        assert status.catalog_error == str(mistake.value)
        assert (status.services, status.in_sync, status.ingress) == ((), False, None)
        with pytest.raises(CatalogError):
            _ = [claim async for claim in operations.verify([])]
        assert not agent.mesh.desired_known.is_set()
        catalog.parent.mkdir(exist_ok=True)
        catalog.write_text("version: 1\nservices: {clock: {command: clock}}\n")
        await journal_has(agent, "cannot find a program")
        status = await operations.status()
        assert (status.catalog_error, [service.name for service in status.services]) == (None, ["clock"])
    finally:
        await agent.stop()


async def test_a_mesh_that_goes_down_stays_empty_whatever_catalog_is_set_meanwhile(tmp_path: Path) -> None:
    loop: Any = Loop()
    mesh = Mesh(settings_in(tmp_path, ingress={"kind": "api-gateway"}), "m", Journal())
    catalog = Catalog({"clock": ServiceSpec("clock", Stdio("clock"))})
    mesh.loop = loop
    try:
        mesh.set_catalog(catalog)
        assert set(loop.desired.services) == {"clock"}
        mesh.remove_everything()
        mesh.set_catalog(catalog)
        assert (loop.desired, loop.paused) == (empty_desired_state("m", "ingress"), False)
    finally:
        await mesh.close()


async def test_a_mesh_wanted_again_before_there_is_a_catalog_is_left_alone_again(tmp_path: Path) -> None:
    mesh = Mesh(settings_in(tmp_path), "m", Journal())
    try:
        mesh.is_wanted = False
        mesh.set_catalog(None)
        assert mesh.desired_known.is_set()
        mesh.is_wanted = True
        mesh.set_catalog(None)
        assert not mesh.desired_known.is_set()
    finally:
        await mesh.close()


async def test_a_fixed_catalog_routes_nothing_before_the_users_documents_for_kong_are_read(tmp_path: Path) -> None:
    catalog, document = tmp_path / "mesh.yaml", tmp_path / "kong.d" / "keys.yml"
    catalog.write_text("version: 1\nservices: {clock: {command: clock}}\n")
    document.parent.mkdir()
    document.write_text("plugins: [{name: key-auth}]\n")
    settings = settings_in(tmp_path, kong={"admin": "http://127.0.0.1:1"})
    agent = Agent(settings, "m", [catalog], CatalogError("no catalog yet"))
    loop: Any = Loop()
    loop.desired = None
    agent.mesh.loop = loop
    try:
        await agent.catalog.read()
        assert "_format_version" in str(agent.catalog.error)
        assert (agent.catalog.current, loop.desired) == (None, None)
        document.write_text('_format_version: "3.0"\nplugins: [{name: key-auth}]\n')
        await agent.catalog.read()
        assert set(loop.desired.services) == {"clock"}
    finally:
        await agent.stop()
