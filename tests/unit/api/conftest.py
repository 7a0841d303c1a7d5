from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tests.unit.api.fake_operations import FakeOperations

from mcpmesh.api import agent_lock, agent_record, app
from mcpmesh.api.client import AgentClient
from mcpmesh.api.ndjson_streams import StreamTiming
from mcpmesh.api.server import serve

# Quiet streams begin at once, and those that do not end by themselves are ended at once.
TIMING = StreamTiming(first_line_seconds=0.02, closing_seconds=0.2)

# Without it httpx reads the CA certificates of the machine for each client, which takes longer than most of the tests.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Served:
    """A fake agent behind a real server, and an HTTP client that has its token."""

    agent: FakeOperations
    home: Path
    address: str
    token: str
    http: httpx.AsyncClient
    task: asyncio.Task[None]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "default"


@asynccontextmanager
async def serving(home: Path, timing: StreamTiming) -> AsyncIterator[Served]:
    """Serves a fake agent of the mesh at `home`."""
    agent = FakeOperations()
    with agent_lock.hold(home):
        token = agent_record.create_token(home)
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        application = app.create(agent, token, name="default", timing=timing)
        task = asyncio.create_task(serve(application, "127.0.0.1", 0, listening.set_result), name="served")
        address = await asyncio.wait_for(listening, 60)
        agent_record.write(home, agent_record.AgentRecord(os.getpid(), address, 1000.0, "0.1.0"))
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        async with httpx.AsyncClient(
            base_url=address, headers=headers, trust_env=False, timeout=60, verify=_NO_TLS
        ) as http:
            yield Served(agent, home, address, token.get_secret_value(), http, task)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def served(home: Path) -> AsyncIterator[Served]:
    async with serving(home, TIMING) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """For modules whose tests do not end the server: starting one for each test takes most of their time."""
    async with serving(tmp_path_factory.mktemp("shared") / "default", TIMING) as served:
        yield served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AgentClient]:
    async with AgentClient(served.home, answer_seconds=60, exit_seconds=0.2) as client:
        yield client
