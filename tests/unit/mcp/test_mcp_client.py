"""One MCP exchange over HTTP: what is sent, and every kind of answer read."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from mcpmesh.errors import Broken, PeerError, Refused, Unreachable
from mcpmesh.mcp.mcp_client import RpcError, exchange, messages, parameter_headers, request

URL = "http://127.0.0.1:1/mcp"
Handler = Callable[[httpx.Request], httpx.Response]


def http(handler: Handler) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(handler))


def stream(text: str | bytes) -> Handler:
    return lambda _: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text)


async def test_headers_and_body_have_the_same_revision_method_and_name() -> None:
    headers, body = request("tools/call", {"name": "echo", "arguments": {}})
    assert headers["MCP-Protocol-Version"] == body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
    assert (headers["Mcp-Method"], headers["Mcp-Name"]) == (body["method"], body["params"]["name"])


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("plain", "plain"),
        ("Füße", "=?base64?RsO8w59l?="),
        (" padded", "=?base64?IHBhZGRlZA==?="),
        ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
        ("a\nb", "=?base64?YQpi?="),
    ],
)
def test_a_name_that_a_header_cannot_carry_is_marked_and_encoded(name: str, header: str) -> None:
    assert request("tools/call", {"name": name})[0]["Mcp-Name"] == header


def test_marked_parameters_become_headers() -> None:
    schema = {"properties": {"city": {"x-mcp-header": "City"}, "deep": {"x-mcp-header": "Deep"}, "n": {}}}
    arguments = {"city": "Berlin", "deep": True, "n": 1}
    assert parameter_headers(schema, arguments) == {"Mcp-Param-City": "Berlin", "Mcp-Param-Deep": "true"}


async def test_a_plain_answer_is_the_result() -> None:
    async with http(lambda _: httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": {"tools": []}})) as client:
        assert await exchange(client, URL, "tools/list") == {"tools": []}


async def test_a_stream_gives_each_message_however_it_is_cut_and_whatever_line_ends_json_holds() -> None:
    first = json.dumps({"method": "notifications/progress", "params": {"message": "a\u2028b"}}, ensure_ascii=False)
    text = f': comment\r\n\r\nevent: message\r\ndata: {first}\r\n\r\ndata: {{"id": 1,\ndata: "result": {{}}}}\n\n'

    async def pieces():  # type: ignore[no-untyped-def]
        for byte in text.encode():
            yield bytes([byte])

    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=pieces())
    async with http(lambda _: answer) as client:
        found = [message async for message in messages(client, URL, "tools/call")]
    assert found == [json.loads(first), {"id": 1, "result": {}}]


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (httpx.Response(403, text="RBAC: access denied"), Refused, "HTTP 403: RBAC: access denied"),
        (httpx.Response(503, text="no healthy upstream"), Broken, "no healthy upstream"),
        (
            httpx.Response(404, json={"error": {"code": -32601, "message": "no such method"}}),
            RpcError,
            "no such method",
        ),
        (
            httpx.Response(403, json={"error": {"code": -32600, "message": "Host is not allowed here"}}),
            Broken,
            "HTTP 403: Host is not allowed here",
        ),
        (httpx.Response(503, json={"error": {"code": -32603, "message": "no server"}}), Broken, "HTTP 503: no server"),
        (httpx.Response(200, json={"error": {"code": -1, "message": "sorry"}}), RpcError, "sorry"),
        (httpx.Response(200, text="<html>"), Broken, "no JSON"),
        (httpx.Response(200, json=[]), Broken, "no JSON-RPC message"),
        (httpx.Response(200, json={"id": 1}), Broken, "no result"),
    ],
)
async def test_every_other_answer_raises_an_error_with_its_text(
    answer: httpx.Response, kind: type[PeerError], text: str
) -> None:
    async with http(lambda _: answer) as client:
        with pytest.raises(kind, match=text):
            await exchange(client, URL, "tools/list")


async def test_without_an_answer_the_url_is_unreachable() -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(Unreachable, match=r"cannot reach http://127\.0\.0\.1:1/mcp"):
            await exchange(client, URL, "tools/list")


async def test_a_stream_that_ends_without_a_response_is_broken() -> None:
    async with http(stream('data: {"method": "notifications/progress"}\n\n')) as client:
        with pytest.raises(Broken, match="no result"):
            await exchange(client, URL, "tools/list")
