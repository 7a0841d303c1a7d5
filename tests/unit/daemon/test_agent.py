"""What the agent's own tasks outlast, and what ends the agent."""

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
from mcpmesh.daemon.mesh import Mesh
from mcpmesh.errors import CatalogError, Unreachable
from mcpmesh.kit.marked_process import Process
from mcpmesh.model.service import Catalog, ServiceSpec, Stdio
from mcpmesh.reconcile.desired_from_catalog import empty_desired_state
from mcpmesh.reconcile.journal import Journal
from mcpmesh.settings import Settings


class Loop:
    """A loop that is in sync with whatever it is told."""

    passes, in_sync, paused = 1, True, True

    def set_desired(self, desired: Any) -> None:
        """Nothing runs."""
        self.desired = desired


class Docker:
    """A runtime that is away for the first question, and then has no containers."""

    isolated = True
    socket_folder = None
    asked = 0

    async def list_processes(self) -> list[Process]:
        self.asked += 1
        if self.asked == 1:
            raise Unreachable("cannot ask Docker")
        return []

    def remove_bootstraps(self) -> None:
        """There are none."""

    async def close(self) -> None:
        """Nothing is open."""


def settings_in(folder: Path, **more: Any) -> Settings:
    return Settings(state_dir=folder / "state", **more)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(settings_in(tmp_path, runtime="containers", containers={"sockets": tmp_path}), "m", [], Catalog({}))
    yield made
    await made.end()


async def said(agent: Agent, words: str) -> None:
    """Until the journal has it."""
    async with asyncio.timeout(90.0):
        async for event in agent.journal.follow(0, forever=True):
            if words in event.sentence:
                return


async def test_an_error_that_nobody_expected_is_told_and_ends_the_agent(agent: Agent) -> None:
    async def faulty() -> None:
        raise ZeroDivisionError("a bug")

    agent.background.begin(faulty(), "some work")
    async with asyncio.timeout(90.0):
        await agent.gone.wait()
    assert isinstance(agent.background.bug, ZeroDivisionError)
    await said(agent, "\"some work\" ended of ZeroDivisionError('a bug')")


async def test_a_task_that_is_cancelled_or_done_ends_nothing(agent: Agent) -> None:
    async def work() -> None:
        """Done at once."""

    await agent.background.begin(work(), "done")
    cancelled = agent.background.begin(asyncio.sleep(60.0), "cancelled")
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert agent.background.bug is None and not agent.gone.is_set()


async def test_servers_are_gone_in_the_end_though_docker_was_away(agent: Agent, tmp_path: Path) -> None:
    docker: Any = Docker()
    loop: Any = Loop()
    await agent.mesh.runtime.close()
    agent.mesh.runtime, agent.mesh.loop = docker, loop
    agent.background.begin(ComposeFollower(agent.mesh, agent.catalog).follow_signal(), "follow the companion")
    await said(agent, "cannot ask Docker")
    async with asyncio.timeout(90.0):
        while not (tmp_path / "gone").exists():
            await asyncio.sleep(0.05)
    (tmp_path / "wanted").touch()
    await said(agent, "the servers are wanted")
    assert agent.background.bug is None and agent.mesh.wanted


async def test_the_catalog_is_watched_on_though_the_settings_cannot_be_used(tmp_path: Path) -> None:
    catalog = tmp_path / "mesh.yaml"
    catalog.write_text("version: 1\nservices: {}\n")
    settings = settings_in(tmp_path, ingress={"kind": "kong"}, kong={"binary": tmp_path / "none"})
    agent = Agent(settings, "m", [catalog], Catalog({}))
    agent.begin()
    try:
        await said(agent, "cannot find a program")
        for place in range(2):
            catalog.write_text(f"version: 1\nservices: {{}}\nmistake{place}: 1\n")
            await said(agent, f"mistake{place}")
            catalog.write_text("version: 1\nservices: {}\n")
        assert agent.background.bug is None
    finally:
        await agent.end()


async def test_what_runs_is_left_alone_until_a_catalog_is_known(tmp_path: Path) -> None:
    loop: Any = Loop()
    mesh = Mesh(settings_in(tmp_path, ingress={"kind": "api-gateway"}), "m", Journal())
    mesh.loop = loop
    try:
        mesh.want(None)
        assert not hasattr(loop, "desired") and not mesh.known.is_set()
        mesh.want(Catalog({"clock": ServiceSpec("clock", Stdio("clock"))}))
        assert set(loop.desired.services) == {"clock"} and mesh.known.is_set()
    finally:
        await mesh.close()


async def test_what_is_not_wanted_goes_though_no_catalog_is_known(tmp_path: Path) -> None:
    loop: Any = Loop()
    mesh = Mesh(settings_in(tmp_path, ingress={"kind": "api-gateway"}), "m", Journal())
    mesh.loop = loop
    try:
        mesh.want_nothing()
        assert loop.desired == empty_desired_state("m", "ingress") and mesh.known.is_set()
    finally:
        await mesh.close()


@pytest.mark.parametrize("there", [False, True])
async def test_an_agent_begins_when_its_catalog_is_mended(tmp_path: Path, there: bool) -> None:
    catalog = tmp_path / "conf" / "mesh.yaml"
    if there:
        catalog.parent.mkdir()
        catalog.write_text("version: 1\nservices: {clock: {comand: clock}}\n")
    with pytest.raises(CatalogError) as mistake:
        load([catalog], {})
    # It can't come up, which is how a test sees that it tries to.
    settings = settings_in(tmp_path, ingress={"kind": "kong"}, kong={"binary": tmp_path / "none"})
    agent = Agent(settings, "m", [catalog], mistake.value)
    agent.begin()
    operations = AgentOperations(agent)
    try:
        await said(agent, "what runs is left as it is")
        seen = await operations.status()
        assert seen.catalog_error == str(mistake.value)
        assert (seen.services, seen.in_sync, seen.ingress) == ((), False, None)
        with pytest.raises(CatalogError):
            _ = [claim async for claim in operations.verify([])]
        assert not agent.mesh.known.is_set()
        catalog.parent.mkdir(exist_ok=True)
        catalog.write_text("version: 1\nservices: {clock: {command: clock}}\n")
        await said(agent, "cannot find a program")
        seen = await operations.status()
        assert (seen.catalog_error, [line.name for line in seen.services]) == (None, ["clock"])
    finally:
        await agent.end()


async def test_a_mesh_that_goes_down_wants_nothing_whatever_is_saved_or_scaled_meanwhile(tmp_path: Path) -> None:
    loop: Any = Loop()
    mesh = Mesh(settings_in(tmp_path, ingress={"kind": "api-gateway"}), "m", Journal())
    catalog = Catalog({"clock": ServiceSpec("clock", Stdio("clock"))})
    mesh.loop = loop
    try:
        mesh.want(catalog)
        assert set(loop.desired.services) == {"clock"}
        mesh.want_nothing()
        mesh.want(catalog)
        assert (loop.desired, loop.paused) == (empty_desired_state("m", "ingress"), False)
    finally:
        await mesh.close()


async def test_what_is_wanted_again_before_a_catalog_is_known_is_left_alone_again(tmp_path: Path) -> None:
    mesh = Mesh(settings_in(tmp_path), "m", Journal())
    try:
        mesh.wanted = False
        mesh.want(None)
        assert mesh.known.is_set()
        mesh.wanted = True
        mesh.want(None)
        assert not mesh.known.is_set()
    finally:
        await mesh.close()


async def test_a_mended_catalog_leads_nowhere_without_a_persons_own_documents_for_kong(tmp_path: Path) -> None:
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
        await agent.end()
