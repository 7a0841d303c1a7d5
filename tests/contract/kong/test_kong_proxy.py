"""Calls through a Kong with the mesh's document: a real one where it is given, else the stand-in.

A real Kong has to reach a server of this machine at 127.0.0.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from tests.support.kong.running import RunningKong

from mcpmesh.ingress.kong.document import document_from_content, render_content
from mcpmesh.ingress.kong.kong_admin import KongAdmin
from mcpmesh.ingress.kong.plugins import plugins
from mcpmesh.model.service import Plain, Protocol, ServiceSpec, Stdio
from mcpmesh.settings import KongSettings

FILES = ServiceSpec("files", Stdio("server"), route="/mcp/files")
WEB = ServiceSpec("web", Plain(Protocol.HTTP, command="web"), route="/web")


class Service:
    """Records its requests, as a service behind the sidecar gets them; /mcp/stream continues when it is told to."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[str] = []
        self.got = asyncio.Event()
        self.go_on = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            if "/stream" in head.split()[1]:
                await self._stream(writer)
            elif "/upload" in head.split()[1]:
                await reader.readuntil(b"begin")
                self.got.set()
                await reader.readuntil(b"0\r\n\r\n")
                await self._plain(writer)
            else:
                await self._plain(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _plain(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: s1@127.0.0.1:1\r\n"
            b"Mcp-Protocol-Version: 2025-11-25\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        )
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            await writer.drain()
            await self.go_on.wait()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def asked(self) -> tuple[str, dict[str, str]]:
        """The latest request: its target, and its headers."""
        first, *rest = self.heads[-1].strip().split("\r\n")
        return first.split()[1], {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in rest}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    found = Service()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    found.go_on.set()
    server.close()
    await server.wait_closed()


@pytest.fixture
async def proxy(kong: RunningKong, admin: KongAdmin, service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a Kong with both routes to the service."""
    await hand_over(kong, admin, service, KongSettings())
    async with httpx.AsyncClient(base_url=kong.proxy, trust_env=False, timeout=60) as client:
        yield client


async def hand_over(
    kong: RunningKong, admin: KongAdmin, service: Service, settings: KongSettings, **more: object
) -> None:
    routed = {"files": (FILES, service.port), "web": (WEB, service.port)}
    await admin.post(kong.admin, document_from_content({**render_content("m", routed, plugins(settings)), **more}))


@pytest.mark.parametrize(
    ("path", "heard"),
    [
        ("/mcp/files", "/mcp"),
        ("/mcp/files?a=1&b=%2F", "/mcp?a=1&b=%2F"),
        ("/mcp/files/", "/mcp/"),
        ("/mcp/files/below/it", "/mcp/below/it"),
        ("/web", "/"),
        ("/web/", "/"),
        ("/web/shop?q=x", "/shop?q=x"),
    ],
)
async def test_the_service_gets_its_own_path(proxy: httpx.AsyncClient, service: Service, path: str, heard: str) -> None:
    assert (await proxy.get(path)).status_code == httpx.codes.OK
    assert service.asked()[0] == heard


@pytest.mark.parametrize(
    "path", ["/", "/mcp", "/mcp/filesystem", "/mcp/file", "/website", "/mcp/mcpmesh-verify-undeclared"]
)
async def test_an_undeclared_path_gets_404_from_kong(proxy: httpx.AsyncClient, service: Service, path: str) -> None:
    answer = await proxy.get(path)
    assert answer.status_code == httpx.codes.NOT_FOUND and "no Route matched" in answer.text
    assert not service.heads


async def test_the_headers_of_mcp_pass_both_ways(proxy: httpx.AsyncClient, service: Service) -> None:
    mine = {
        "mcp-session-id": "abc@127.0.0.1:9",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "=?base64?w6Q=?=",
        "mcp-param-region": "eu",
        "last-event-id": "7",
        "accept": "application/json, text/event-stream",
        "authorization": "Bearer t",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    answer = await proxy.post("/mcp/files", headers=mine, content=b"{}")
    heard = service.asked()[1]
    assert {key: heard.get(key) for key in mine} == mine
    assert answer.headers["mcp-session-id"] == "s1@127.0.0.1:1"
    assert answer.headers["mcp-protocol-version"] == "2025-11-25"


async def test_the_service_gets_the_host_header_of_the_client(proxy: httpx.AsyncClient, service: Service) -> None:
    await proxy.get("/mcp/files", headers={"host": "mesh.example"})
    assert service.asked()[1]["host"] == "mesh.example"


async def test_each_call_has_an_id_that_both_sides_get(proxy: httpx.AsyncClient, service: Service) -> None:
    answer = await proxy.get("/mcp/files")
    assert answer.headers["x-correlation-id"] == service.asked()[1]["x-correlation-id"] != ""
    await proxy.get("/mcp/files", headers={"x-correlation-id": "mine"})
    assert service.asked()[1]["x-correlation-id"] == "mine"


async def test_events_arrive_while_the_stream_is_open(proxy: httpx.AsyncClient, service: Service) -> None:
    async with proxy.stream("GET", "/mcp/files/stream") as answer:
        pieces = answer.aiter_raw()
        async with asyncio.timeout(60):
            assert await anext(pieces) == b"data: 1\n\n"
        service.go_on.set()
        rest = b"".join([piece async for piece in pieces])
    assert rest == b"data: 2\n\n"


async def test_a_request_reaches_the_service_before_its_end(proxy: httpx.AsyncClient, service: Service) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"begin"
        # This continues only with a proxy that does not wait for the whole request.
        await asyncio.wait_for(service.got.wait(), 60)
        yield b"end"

    answer = await proxy.post("/mcp/files/upload", content=slowly())
    assert answer.status_code == httpx.codes.OK and service.got.is_set()


async def test_a_missing_service_gives_502_after_one_attempt(kong: RunningKong, admin: KongAdmin) -> None:
    await admin.post(kong.admin, document_from_content(render_content("m", {"files": (FILES, 1)}, [])))
    answer = httpx.get(f"{kong.proxy}/mcp/files", trust_env=False, timeout=60)
    assert answer.status_code in (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE)


async def test_without_a_document_kong_answers_503_and_never_404(kong: RunningKong) -> None:
    answer = httpx.get(f"{kong.proxy}/mcp/files", trust_env=False, timeout=60)
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "try again soon" in answer.text


async def test_a_service_that_is_not_ready_answers_503_at_its_own_paths_only(
    kong: RunningKong, admin: KongAdmin, service: Service
) -> None:
    await admin.post(kong.admin, document_from_content(render_content("m", {"web": (WEB, service.port)}, [], [FILES])))
    async with httpx.AsyncClient(base_url=kong.proxy, trust_env=False, timeout=60) as client:
        for path in ("/mcp/files", "/mcp/files/below"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["message"]) == (503, "files is not ready; try again soon")
        assert (await client.get("/mcp/filesystem")).status_code == httpx.codes.NOT_FOUND
        assert (await client.get("/web")).status_code == httpx.codes.OK
    assert set(await admin.services(kong.admin, "m")) == {"web"}


async def test_with_key_auth_a_key_is_needed_and_not_passed_to_the_service(
    kong: RunningKong, admin: KongAdmin, service: Service
) -> None:
    ada = {"username": "ada", "keyauth_credentials": [{"key": "sesame"}]}
    await hand_over(kong, admin, service, KongSettings(key_auth=True), consumers=[ada])
    async with httpx.AsyncClient(base_url=kong.proxy, trust_env=False, timeout=60) as client:
        assert (await client.get("/mcp/files")).status_code == httpx.codes.UNAUTHORIZED
        assert (await client.get("/mcp/files", headers={"apikey": "wrong"})).status_code == httpx.codes.UNAUTHORIZED
        assert (await client.get("/mcp/files?apikey=sesame")).status_code == httpx.codes.UNAUTHORIZED
        assert not service.heads
        assert (await client.get("/mcp/files", headers={"apikey": "sesame"})).status_code == httpx.codes.OK
    heard = service.asked()[1]
    assert "apikey" not in heard and heard["x-consumer-username"] == "ada"
