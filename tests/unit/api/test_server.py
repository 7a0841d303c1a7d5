"""The server inside the agent takes no signals over and fails with errors of ours."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr
from tests.support.ports import OWN_PORTS
from tests.unit.api.conftest import Served
from tests.unit.api.fake_operations import FakeOperations

from mcpmesh.api.app import create
from mcpmesh.api.server import serve
from mcpmesh.errors import SettingsError, Unreachable


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_it_serves_on_loopback_alone(host: str) -> None:
    with pytest.raises(SettingsError, match="for this machine alone"):
        await serve(create(FakeOperations(), SecretStr("x"), name="default"), host, 0)


async def test_a_port_that_is_taken_is_named(served: Served) -> None:
    port = int(served.address.rpartition(":")[2])
    with pytest.raises(Unreachable, match=f"cannot listen at 127.0.0.1:{port}.*ss -ltnp"):
        await serve(create(FakeOperations(), SecretStr("x"), name="default"), "127.0.0.1", port)


@asynccontextmanager
async def serving(port: int) -> AsyncIterator[str]:
    """The address of one at this port, which ends with the block."""
    listening = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(create(FakeOperations(), SecretStr("x"), name="default"), "127.0.0.1", port, listening.set_result)
    )
    yield await asyncio.wait_for(listening, 60)
    task.cancel()
    await asyncio.wait({task})


async def test_it_can_be_served_at_once_again_at_the_same_port() -> None:
    port = OWN_PORTS.take()
    for _ in range(2):
        async with serving(port) as address, httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as http:
            assert address == f"http://127.0.0.1:{port}"
            assert (await http.get("/openapi.json")).is_success


async def test_signals_stay_with_the_program(served: Served) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL


async def test_nothing_listens_after_it() -> None:
    port = OWN_PORTS.take()
    async with serving(port):
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
