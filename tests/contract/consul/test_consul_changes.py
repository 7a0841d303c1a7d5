"""Changes of a real Consul, which also goes away and returns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.support.consul import Patient, RealConsul, running_consul
from tests.support.ports import CONSUL_PORTS

from mcpmesh.consul.client import KINDS, Consul
from mcpmesh.consul.config_entries import service_entries
from mcpmesh.ingress.api_gateway import ingress_entries, route_entry
from mcpmesh.model.service import ServiceSpec, Stdio

# One for each kind of entry; health, services and intentions.
_WATCHES = len(KINDS) + 3


class Ear(httpx.AsyncBaseTransport):
    """Collects the changes of one Consul, and counts the requests for them; `standing` are the queries that block."""

    def __init__(self, address: str) -> None:
        self.requests = 0
        self.heard: set[str] = set()
        self.standing: set[str] = set()
        self._inner = httpx.AsyncHTTPTransport()
        self._consul = Consul(address, transport=self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if request.url.params["index"] == "0":
            return await self._inner.handle_async_request(request)
        self.standing.add(request.url.path)
        try:
            return await self._inner.handle_async_request(request)
        finally:
            self.standing.remove(request.url.path)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def listen(self) -> None:
        try:
            async with contextlib.aclosing(self._consul.changes()) as words:
                async for word in words:
                    self.heard.add(word)
        finally:
            await self._consul.close()

    async def hears(self, *words: str) -> None:
        async with asyncio.timeout(90):
            while not self.heard >= set(words):
                await asyncio.sleep(0.02)
        self.heard.clear()

    async def silence(self, seconds: float = 1.0) -> None:
        """Waits until every query blocks, and for so long there is no request and no change."""
        async with asyncio.timeout(90):
            before = -1
            while before != self.requests or self.heard or len(self.standing) < _WATCHES:
                before = self.requests
                self.heard.clear()
                await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def listening(address: str) -> AsyncIterator[Ear]:
    ear = Ear(address)
    task = asyncio.create_task(ear.listen())
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def own(consul_program: Path, tmp_path: Path) -> AsyncIterator[RealConsul]:
    """A Consul in which no other test changes anything."""
    with running_consul(consul_program, tmp_path) as real:
        yield real


async def test_every_table_that_a_pass_reads_is_watched(own: RealConsul) -> None:
    consul = Consul(own.address, transport=Patient())
    assert await consul.entries("m") == {}
    spec = ServiceSpec("files", Stdio("server"), route="/mcp/files")
    port = CONSUL_PORTS.take()
    async with listening(own.address) as ear:
        await ear.silence()
        for entry in service_entries(spec, "m", "-- lua", "-- lua"):
            await consul.write_entry(entry)
        await ear.hears("service-defaults", "service-resolver", "service-router")
        for entry in ingress_entries("m", "ingress", port, "-- lua"):
            await consul.write_entry(entry)
        await ear.hears("api-gateway")
        await consul.write_entry(route_entry(spec, "m", "ingress"))
        await ear.hears("http-route")
        own.cli("intention", "create", "-deny", "a", "files")
        await ear.hears("intentions")
        own.put("/v1/agent/service/register", {"Name": "web", "Port": 1, "Check": {"TTL": "1h", "Status": "passing"}})
        await ear.hears("services", "health")
        own.put("/v1/agent/check/fail/service:web", None)
        await ear.hears("health")
        own.cli("intention", "delete", "a", "files")
        await ear.hears("intentions")
    await consul.close()


async def test_without_changes_nothing_is_yielded_and_few_queries_are_made(own: RealConsul) -> None:
    async with listening(own.address) as ear:
        # A Consul that has just started still changes something of its own now and then.
        await ear.silence(3.0)


async def test_the_return_of_a_consul_that_went_away_is_a_change(consul_program: Path, tmp_path: Path) -> None:
    ports = {name: CONSUL_PORTS.take() for name in ("http", "grpc", "serf_lan", "server")}
    settings = {"ports": {**ports, "dns": -1, "https": -1, "grpc_tls": -1, "serf_wan": -1}}
    with running_consul(consul_program, tmp_path, **settings) as first:
        ear = Ear(first.address)
        task = asyncio.create_task(ear.listen())
        await ear.silence()
    before = ear.requests
    await asyncio.sleep(2.0)
    assert ear.requests - before < 80  # eight tables, with growing pauses
    async with asyncio.timeout(90):
        while ear.requests == before:
            await asyncio.sleep(0.05)
    assert ear.heard == set()
    with running_consul(consul_program, tmp_path, **settings) as second:
        assert second.address == first.address
        await ear.hears("health", "services", "intentions", "http-route")
        await ear.silence()
        second.cli("intention", "create", "-deny", "a", "files")
        await ear.hears("intentions")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
