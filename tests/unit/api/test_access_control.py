"""Who is answered: programs of this machine that have the token, and nobody else."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx
import pytest
from tests.unit.api.conftest import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def served(shared_server: Served) -> Served:
    shared_server.agent.reset()
    return shared_server


PATHS = [
    ("GET", "/v1/status"),
    ("GET", "/v1/events"),
    ("POST", "/v1/plan"),
    ("POST", "/v1/verify"),
    ("GET", "/v1/tools"),
    ("POST", "/v1/call"),
    ("GET", "/v1/logs/files"),
    ("POST", "/v1/reload"),
    ("POST", "/v1/pause"),
    ("POST", "/v1/resume"),
    ("POST", "/v1/down"),
    ("GET", "/nowhere"),
    ("GET", "/openapi.json/"),
    ("GET", "//openapi.json"),
]


async def raw(served: Served, text: str) -> bytes:
    """What the server says to these very bytes; it closes the connection."""
    where = urlsplit(served.address)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(text.replace("\n", "\r\n").encode("latin-1"))
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await writer.wait_closed()
    return answer.split(b"\r\n")[0]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_the_token_nothing_is_answered_and_nothing_is_done(
    served: Served, method: str, path: str
) -> None:
    async with httpx.AsyncClient(base_url=served.address, trust_env=False, timeout=60) as stranger:
        answer = await stranger.request(method, path, content=b"{}")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Authorization: Bearer" in answer.json()["detail"]
    assert served.agent.asked == []


async def test_the_description_can_be_read_without_the_token(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.address, trust_env=False, timeout=60) as stranger:
        answer = await stranger.get("/openapi.json")
    assert answer.status_code == 200
    assert "/v1/status" in answer.json()["paths"]


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Bearer x", "Basic {token}", "{token}", "Bearer {token}x", "Bearer x{token}", "Bearer \xe9"],
)
async def test_a_wrong_token_is_refused(served: Served, value: str) -> None:
    value = value.replace("{token}", served.token)
    answer = await raw(
        served, f"GET /v1/status HTTP/1.1\nHost: localhost\nAuthorization: {value}\nConnection: close\n\n"
    )
    assert b" 401 " in answer


async def test_two_authorizations_are_refused(served: Served) -> None:
    line = f"Authorization: Bearer {served.token}\n"
    answer = await raw(served, f"GET /v1/status HTTP/1.1\nHost: localhost\n{line}{line}Connection: close\n\n")
    assert b" 401 " in answer


async def test_the_scheme_may_be_in_any_case(served: Served) -> None:
    answer = await served.http.get("/v1/status", headers={"Authorization": f"bearer {served.token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80"])
async def test_names_of_this_machine_are_answered(served: Served, host: str) -> None:
    answer = await served.http.get("/v1/status", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost:80@evil.example",
        "localhost:",
        "localhost:x",
        "[::1",
        "[::1]x",
        "[localhost]",
        "0.0.0.0",
        "2130706433",
        "",
    ],
)
async def test_another_host_is_refused_even_with_the_token(served: Served, host: str) -> None:
    answer = await raw(
        served,
        f"GET /v1/status HTTP/1.1\nHost: {host}\nAuthorization: Bearer {served.token}\nConnection: close\n\n",
    )
    assert b" 403 " in answer


async def test_no_host_and_two_hosts_are_refused(served: Served) -> None:
    token = f"Authorization: Bearer {served.token}\n"
    assert b" 403 " in await raw(served, f"GET /v1/status HTTP/1.0\n{token}\n")
    two = f"GET /v1/status HTTP/1.1\nHost: localhost\nHost: evil.example\n{token}Connection: close\n\n"
    assert b" 200 " not in await raw(served, two)


@pytest.mark.parametrize("origin", ["null", "http://localhost", "https://evil.example", ""])
async def test_a_web_page_is_refused_even_with_the_token(served: Served, origin: str) -> None:
    answer = await served.http.post("/v1/down", headers={"Origin": origin})
    assert answer.status_code == 403
    assert served.agent.asked == []


async def test_a_web_socket_is_not_opened(served: Served) -> None:
    answer = await raw(
        served,
        "GET /v1/events HTTP/1.1\nHost: localhost\nConnection: Upgrade, close\nUpgrade: websocket\n"
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n",
    )
    assert b" 101 " not in answer
