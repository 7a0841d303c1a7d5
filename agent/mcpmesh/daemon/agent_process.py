"""An agent in the foreground, from lock to last word; and the sweep after one that died."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import uvloop
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from mcpmesh import __version__
from mcpmesh.api import agent_record, app
from mcpmesh.api.server import serve
from mcpmesh.catalog.loader import load
from mcpmesh.daemon.agent import Agent
from mcpmesh.daemon.agent_operations import AgentOperations
from mcpmesh.daemon.state_store import claimed_ports
from mcpmesh.errors import CatalogError
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.model.service import Catalog
from mcpmesh.settings import Settings
from mcpmesh.telemetry.logging_setup import to_stderr


def run(settings: Settings, name: str, sources: Sequence[Path]) -> NoReturn:
    """Runs the agent until `down` or a signal (the mesh then runs on), and ends the process with 0.

    A catalog with a mistake is told by the API, and what runs is left alone until that is mended. Raises SettingsError.
    """
    to_stderr(settings.agent.log_level)
    files = [source.absolute() for source in sources]
    uvloop.run(_run(settings, name, files, _first(files)))
    # All is said and done; to free its memory would take the interpreter another half second.
    logging.shutdown()
    os._exit(0)


def sweep(settings: Settings, name: str, progress: Callable[[str], None]) -> int:
    """Takes down what an agent that died has left; returns how many processes there were."""
    home = settings.home(name)
    if not home.exists():
        return 0
    found = [process for process in find_marked(home) if process.mark.role != AGENT]
    if found:
        uvloop.run(_sweep(settings, name, progress))
    agent_record.withdraw(home)
    return len(found)


def _first(sources: Sequence[Path]) -> Catalog | CatalogError:
    try:
        return load(sources, os.environ)
    except CatalogError as error:
        return error


async def _run(settings: Settings, name: str, sources: Sequence[Path], first: Catalog | CatalogError) -> None:
    home = settings.home(name)
    agent = Agent(settings, name, sources, first)
    token = agent_record.mint_token(home)
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)

    def listening(address: str) -> None:
        agent_record.announce(home, agent_record.Presence(os.getpid(), address, time.time(), __version__))

    port = agent.mesh.state_store.ports(("api",), agent.mesh.consul.ports, claimed_ports())["api"]
    api = app.create(AgentOperations(agent), token, name=name)
    server = asyncio.create_task(serve(api, "127.0.0.1", port, listening), name="api")
    scheduler = _schedule(agent, settings)
    agent.begin()
    waits = [asyncio.create_task(asked.wait()), asyncio.create_task(agent.gone.wait()), server]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if bug := agent.background.bug:
            raise RuntimeError("the agent cannot go on; the mesh runs on") from bug
        if server.done():
            await server
    finally:
        scheduler.shutdown(wait=False)
        await agent.end()
        for task in (waits[0], waits[1], server):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        agent_record.withdraw(home)


def _schedule(agent: Agent, settings: Settings) -> AsyncIOScheduler:
    """Triggers alone, coalesced and one at a time; the loop does the work."""
    # On a busy machine a trigger comes late; that is no reason to leave it out, nor to warn of it.
    scheduler = AsyncIOScheduler(job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})
    scheduler.add_job(agent.nudge, "interval", seconds=settings.agent.pass_seconds, id="pass")
    scheduler.add_job(agent.tidy, "interval", seconds=60, id="tidy")
    scheduler.start()
    return scheduler


async def _sweep(settings: Settings, name: str, progress: Callable[[str], None]) -> None:
    """Down, by an agent without an API, so that calls are drained where Consul still lives."""
    with agent_record.held(settings.home(name)):
        agent = Agent(settings, name, [], None)
        try:
            async for event in agent.down():
                progress(f"{event.service}: {event.sentence}" if event.service else event.sentence)
        finally:
            await agent.end()
