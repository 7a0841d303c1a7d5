"""Real calls to a service, and which tools are compared."""

from __future__ import annotations

import json

import httpx
import pytest
from tests.unit.verify.sample_mesh import http_that, refuse_connection

from mcpmesh.errors import Refused, Unreachable
from mcpmesh.mcp.mcp_client import Forbidden, RpcError
from mcpmesh.verify.probes import service_calls
from mcpmesh.verify.probes.tcp_probe import FORWARDED

URL = "http://ingress/mcp/files"
FROM_SERVICE = {FORWARDED: "3"}


@pytest.mark.parametrize(
    ("listed", "known", "text"),
    [
        (["b", "a"], ["a", "b"], ""),
        ([], [], ""),
        (["a"], ["a", "c", "b"], "missing: b, c"),
        (["c", "b", "a"], ["a"], "not named by the shim: b, c"),
        (["a", "c"], ["a", "b"], "missing: b; not named by the shim: c"),
    ],
)
def test_lists_of_tools_are_compared_by_name(listed: list[str], known: list[str], text: str) -> None:
    assert service_calls.difference(listed, known) == text


@pytest.mark.parametrize("status", [200, 204, 404, 403, 401, 499])
async def test_every_answer_of_the_service_below_500_passes(status: int) -> None:
    async with http_that(lambda _: httpx.Response(status, headers=FROM_SERVICE)) as http:
        assert await service_calls.get(http, URL) == f"GET gives HTTP {status}, from the service,"


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (httpx.Response(403, text="RBAC"), Forbidden, f"{URL} answered HTTP 403: RBAC"),
        (
            httpx.Response(403, text="RBAC: access denied", headers=FROM_SERVICE),
            Forbidden,
            f"{URL} answered HTTP 403: RBAC: access denied",
        ),
        (httpx.Response(200), Refused, f"{URL} answered HTTP 200, and not from the service"),
        (httpx.Response(503), Refused, f"{URL} answered HTTP 503, and not from the service"),
        (httpx.Response(500, headers=FROM_SERVICE), Refused, f"{URL} answered HTTP 500"),
    ],
)
async def test_every_other_answer_to_a_get_raises(answer: httpx.Response, kind: type[Exception], message: str) -> None:
    async with http_that(lambda _: answer) as http:
        with pytest.raises(kind) as raised:
            await service_calls.get(http, URL)
    assert (type(raised.value), str(raised.value)) == (kind, message)


async def test_an_ingress_that_asks_for_a_credential_passes_and_says_so() -> None:
    async with http_that(lambda _: httpx.Response(401)) as http:
        assert (await service_calls.get(http, URL)).startswith("HTTP 401 from the ingress, which asks for a credential")


async def test_without_an_answer_the_url_cannot_be_reached() -> None:
    async with http_that(refuse_connection) as http:
        with pytest.raises(Unreachable, match="cannot reach http://ingress/mcp/files: refused"):
            await service_calls.fetch(http, URL)


def mesh_that_lists(*pages: list[str], shim: list[str] | None = None, endless: bool = False) -> httpx.AsyncClient:
    """Answers tools/list with these pages, and /info with the tools of `shim`."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/info":
            tools = [{"name": name} for name in shim or []]
            return httpx.Response(200, json={"instance": "files-1", "version": "1", "tools": tools})
        page = int(json.loads(request.content)["params"].get("cursor") or 0)
        result: dict[str, object] = {"tools": [{"name": name} for name in pages[min(page, len(pages) - 1)]] or None}
        if endless or page + 1 < len(pages):
            result["nextCursor"] = str(page + 1)
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": result})

    return http_that(answer)


async def test_tools_are_listed_to_the_last_page() -> None:
    async with mesh_that_lists(["a", "b"], [], ["c"]) as http:
        assert await service_calls.tool_names(http, URL) == ["a", "b", "c"]


async def test_a_server_that_never_ends_its_list_is_asked_a_hundred_times() -> None:
    async with mesh_that_lists(["a"], endless=True) as http:
        assert len(await service_calls.tool_names(http, URL)) == 100


async def test_listed_tools_are_those_of_the_shim() -> None:
    async with mesh_that_lists(["a"], shim=["a"]) as http:
        assert await service_calls.list_tools(http, URL, None) == "tools/list gives 1 tool"
        text = await service_calls.list_tools(http, URL, ("127.0.0.1", 1))
        assert text == "tools/list gives 1 tool, as its shim names them,"
    async with mesh_that_lists(["a"], shim=["a", "b"]) as http:
        with pytest.raises(Refused) as raised:
            await service_calls.list_tools(http, URL, ("127.0.0.1", 1))
    assert str(raised.value) == f"tools/list at {URL} gives 1 tool, its shim names 2: missing: b"


async def test_the_shim_may_be_asked_with_a_client_of_its_own() -> None:
    async with mesh_that_lists(["a"], shim=["x"]) as http, mesh_that_lists(shim=["a"]) as shim_http:
        text = await service_calls.list_tools(http, URL, ("127.0.0.1", 1), shim_http)
    assert text == "tools/list gives 1 tool, as its shim names them,"


async def test_a_server_without_the_method_has_no_tools() -> None:
    answer = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}
    async with http_that(lambda _: httpx.Response(200, json=answer)) as http:
        assert await service_calls.tool_names(http, URL) == []


async def test_any_other_error_of_the_server_raises() -> None:
    answer = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "no"}}
    async with http_that(lambda _: httpx.Response(200, json=answer)) as http:
        with pytest.raises(RpcError):
            await service_calls.tool_names(http, URL)
