"""One MCP exchange over Streamable HTTP, in the stateless form of revision 2026-07-28.

Every shim answers that revision, whatever its server speaks. So one POST is a
whole exchange: no session is opened, and none is left behind.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import httpx

from mcpmesh import __version__
from mcpmesh.errors import Broken, Refused, Unreachable

PROTOCOL_VERSION = "2026-07-28"
_META = "io.modelcontextprotocol/"


class RpcError(Refused):
    """The server itself answered with a JSON-RPC error: it is alive, and refuses."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def request(method: str, params: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of a request (basic/transports/streamable-http of the specification)."""
    meta = {
        f"{_META}protocolVersion": PROTOCOL_VERSION,
        f"{_META}clientCapabilities": {},
        f"{_META}clientInfo": {"name": "mcpmesh", "version": __version__},
        **((params or {}).get("_meta") or {}),
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL_VERSION,
        "Mcp-Method": method,
    }
    name = (params or {}).get("uri" if method == "resources/read" else "name")
    if isinstance(name, str):
        headers["Mcp-Name"] = _header_value(name)
    return headers, {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": meta}}


class Forbidden(Refused):
    """Plain HTTP 403: what is in front of the server refuses this caller, as a rule by an intention."""


class Unauthorized(Refused):
    """HTTP 401: a credential is asked for."""


async def messages(
    http: httpx.AsyncClient,
    url: str,
    method: str,
    params: dict[str, Any] | None = None,
    timeout: float | None = 30.0,
    extra: Mapping[str, str] | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Every JSON-RPC message of the answer: notifications as they come, the response last.

    `timeout` limits each silence, in seconds; `extra` headers are sent too. Raises Unreachable without an answer,
    RpcError on a 4xx with a JSON-RPC error inside (Broken on 403), else Refused on 4xx (Unauthorized on 401,
    Forbidden on 403), and Broken on 5xx and on what is no JSON-RPC.
    """
    headers, body = request(method, params)
    headers |= extra or {}
    try:
        limits = httpx.Timeout(timeout, connect=10.0)
        async with http.stream("POST", url, headers=headers, json=body, timeout=limits) as answer:
            await _check(answer, url)
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                async for message in _events(answer):
                    yield message
            else:
                yield _object(await answer.aread(), url)
    except httpx.TransportError as error:
        raise Unreachable(f"cannot reach {url}: {str(error) or type(error).__name__}") from error


async def exchange(
    http: httpx.AsyncClient, url: str, method: str, params: dict[str, Any] | None = None, timeout: float | None = 30.0
) -> dict[str, Any]:
    """The response's `result`; raises RpcError where it is an error instead, else as `messages`."""
    last: dict[str, Any] = {}
    async for message in messages(http, url, method, params, timeout):
        last = message
    if "error" in last:
        error = last["error"] if isinstance(last["error"], dict) else {}
        raise RpcError(f"cannot {method} at {url}: {error.get('message', 'error')}", int(error.get("code", 0)))
    if not isinstance(last.get("result"), dict):
        raise Broken(f"cannot {method} at {url}: the answer has no result")
    result: dict[str, Any] = last["result"]
    return result


async def _check(answer: httpx.Response, url: str) -> None:
    if answer.status_code < 400:
        return
    content = await answer.aread()
    with suppress(ValueError, KeyError, TypeError):  # Envoy answers in plain text
        error = json.loads(content)["error"]
        message = f"{url} answered HTTP {answer.status_code}: {error['message']}"
        # A 5xx is the shim's own: its server did not answer. So is a 403: the shim refuses the name it was called by.
        of_shim = answer.status_code >= 500 or answer.status_code == httpx.codes.FORBIDDEN
        raise Broken(message) if of_shim else RpcError(message, int(error["code"]))
    kind = Refused if answer.status_code < 500 else Broken
    if answer.status_code == httpx.codes.FORBIDDEN:
        kind = Forbidden
    elif answer.status_code == httpx.codes.UNAUTHORIZED:
        kind = Unauthorized
    raise kind(f"{url} answered HTTP {answer.status_code}: {content[:500].decode(errors='replace').strip()}")


async def _events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The messages of an event stream (HTML standard, server-sent events): data lines up to a blank line.

    Lines are split at line feeds alone: JSON may hold other characters that Python takes for line ends.
    """
    rest = b""
    data: list[bytes] = []
    async for chunk in answer.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in (raw.removesuffix(b"\r") for raw in lines):
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                content, data = b"\n".join(data), []
                if content.strip():
                    yield _object(content, str(answer.url))


def _object(content: bytes, url: str) -> dict[str, Any]:
    try:
        message = json.loads(content)
    except ValueError as error:
        raise Broken(f"cannot read the answer of {url}: it is no JSON") from error
    if not isinstance(message, dict):
        raise Broken(f"cannot read the answer of {url}: it is no JSON-RPC message")
    return message


def parameter_headers(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """`Mcp-Param-*` for the arguments that a tool's input schema marks with `x-mcp-header`."""
    found = {}
    for name, property_ in (schema.get("properties") or {}).items():
        label = property_.get("x-mcp-header") if isinstance(property_, dict) else None
        if isinstance(label, str) and isinstance(value := arguments.get(name), str | int | float | bool):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found[f"Mcp-Param-{label}"] = _header_value(text)
    return found


def _header_value(value: str) -> str:
    """Plain where a header may carry it, else in the marked Base64 form that the specification gives."""
    plain = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?base64?")
    return value if plain else f"=?base64?{base64.b64encode(value.encode()).decode()}?="
