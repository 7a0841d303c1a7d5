"""The process of an agent, from start to end; and the sweep after one that died."""

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
from mcpmesh.api import agent_lock, agent_record, app
from mcpmesh.api.server import serve
from mcpmesh.catalog.loader import load
from mcpmesh.daemon.agent import Agent
from mcpmesh.daemon.agent_operations import AgentOperations
from mcpmesh.daemon.state_store import marked_ports
from mcpmesh.errors import CatalogError
from mcpmesh.kit.marked_process import find_marked
from mcpmesh.model.reserved_names import AGENT
from mcpmesh.model.service import Catalog
from mcpmesh.settings import Settings
from mcpmesh.telemetry.logging_setup import log_to_stderr


def run(settings: Settings, name: str, sources: Sequence[Path]) -> NoReturn:
    """Runs the agent until `down`, or until a signal (the mesh then keeps running), and ends the process with 0.

    While the catalog has a mistake, the API reports it and what runs is left alone. Raises SettingsError.
    """
    log_to_stderr(settings.agent.log_level)
    files = [source.absolute() for source in sources]
    uvloop.run(_run(settings, name, files, _read_catalog(files)))
    # Nothing is left to do; the interpreter would spend another half second on freeing memory.
    logging.shutdown()
    os._exit(0)


def sweep(settings: Settings, name: str, progress: Callable[[str], None]) -> int:
    """Takes down what a dead agent left running; returns how many processes there were."""
    home = settings.home(name)
    if not home.exists():
        return 0
    found = [process for process in find_marked(home) if process.mark.role != AGENT]
    if found:
        uvloop.run(_sweep(settings, name, progress))
    agent_record.remove(home)
    return len(found)


def _read_catalog(sources: Sequence[Path]) -> Catalog | CatalogError:
    try:
        return load(sources, os.environ)
    except CatalogError as error:
        return error


async def _run(settings: Settings, name: str, sources: Sequence[Path], first: Catalog | CatalogError) -> None:
    home = settings.home(name)
    agent = Agent(settings, name, sources, first)
    token = agent_record.create_token(home)
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)

    def announce(address: str) -> None:
        agent_record.write(home, agent_record.AgentRecord(os.getpid(), address, time.time(), __version__))

    port = agent.mesh.state_store.ports(("api",), agent.mesh.consul.ports, marked_ports())["api"]
    api = app.create(AgentOperations(agent), token, name=name)
    server = asyncio.create_task(serve(api, "127.0.0.1", port, announce), name="api")
    scheduler = _schedule(agent, settings)
    agent.start()
    waits = [asyncio.create_task(signalled.wait()), asyncio.create_task(agent.finished.wait()), server]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if bug := agent.background.bug:
            raise RuntimeError("the agent cannot go on; the mesh runs on") from bug
        if server.done():
            await server
    finally:
        scheduler.shutdown(wait=False)
        await agent.stop()
        for task in (waits[0], waits[1], server):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        agent_record.remove(home)


def _schedule(agent: Agent, settings: Settings) -> AsyncIOScheduler:
    """Triggers the periodic work, coalesced and one at a time."""
    # On a busy machine a trigger comes late; it is neither left out nor warned about.
    scheduler = AsyncIOScheduler(job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})
    scheduler.add_job(agent.nudge, "interval", seconds=settings.agent.pass_seconds, id="pass")
    scheduler.add_job(agent.tidy, "interval", seconds=60, id="tidy")
    scheduler.start()
    return scheduler


async def _sweep(settings: Settings, name: str, progress: Callable[[str], None]) -> None:
    """Runs `down` in an agent without an API, so that calls are drained where Consul still runs."""
    with agent_lock.hold(settings.home(name)):
        agent = Agent(settings, name, [], None)
        try:
            async for event in agent.down():
                progress(f"{event.service}: {event.sentence}" if event.service else event.sentence)
        finally:
            await agent.stop()
