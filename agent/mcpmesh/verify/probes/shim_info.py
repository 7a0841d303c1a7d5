"""What an instance's shim says of itself, asked at a port as anybody would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from mcpmesh.errors import Broken, Unreachable
from mcpmesh.verify.finding import ANSWER_SECONDS


@dataclass(frozen=True)
class About:
    """From /info."""

    instance: str
    version: str
    tools: tuple[str, ...]


@dataclass(frozen=True)
class Readiness:
    """From /ready: `state` in the shim's own word, and what is wrong where it is not "ready"."""

    ready: bool
    state: str
    error: str


async def about(http: httpx.AsyncClient, host: str, port: int) -> About:
    """Who answers at this port; Unreachable without an answer, Broken where it is no shim."""
    _, body = await _get(http, f"http://{host}:{port}/info")
    try:
        tools = tuple(str(tool["name"]) for tool in body.get("tools") or ())
        return About(str(body["instance"]), str(body.get("version", "")), tools)
    except (KeyError, TypeError) as error:
        raise Broken(f"what answers at {host}:{port} is no shim: its /info names no instance") from error


async def readiness(http: httpx.AsyncClient, host: str, port: int) -> Readiness:
    """Whether its server answered an MCP exchange lately; raises as `about`."""
    status, body = await _get(http, f"http://{host}:{port}/ready")
    output = [str(line) for line in body.get("output") or ()]
    error = str(body.get("error") or "")
    if error and output:
        error = f"{error}; its last words: {output[-1]}"
    return Readiness(status == httpx.codes.OK, str(body.get("state", f"HTTP {status}")), error)


async def _get(http: httpx.AsyncClient, url: str) -> tuple[int, Mapping[str, Any]]:
    try:
        answer = await http.get(url, timeout=ANSWER_SECONDS)
        body = answer.json()
    except httpx.TransportError as error:
        raise Unreachable(f"no answer from {url}: {str(error) or type(error).__name__}") from error
    except ValueError as error:
        raise Broken(f"what answers at {url} is no shim: HTTP {answer.status_code} and no JSON") from error
    if not isinstance(body, dict):
        raise Broken(f"what answers at {url} is no shim: its JSON is no object")
    return answer.status_code, body
