from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.unit.api.fake_operations import StandIn

from mcpmesh.api import agent_record, app
from mcpmesh.api.client import AgentClient
from mcpmesh.api.server import serve


@dataclass
class Served:
    """A stand-in behind a real server, and an HTTP client that has its token."""

    agent: StandIn
    home: Path
    address: str
    token: str
    http: httpx.AsyncClient
    task: asyncio.Task[None]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "default"


@pytest.fixture
async def served(home: Path) -> AsyncIterator[Served]:
    agent = StandIn()
    with agent_record.held(home):
        token = agent_record.mint_token(home)
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            serve(app.create(agent, token, name="default"), "127.0.0.1", 0, told.set_result),
            name="served",
        )
        address = await asyncio.wait_for(told, 60)
        agent_record.announce(home, agent_record.Presence(os.getpid(), address, 1000.0, "0.1.0"))
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=60) as http:
            yield Served(agent, home, address, token.get_secret_value(), http, task)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AgentClient]:
    async with AgentClient(served.home, answer_seconds=60) as client:
        yield client
