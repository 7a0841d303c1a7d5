"""What a shim says about itself (`/info`) and its server (`/ready`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from mcpmesh.errors import Broken, Unreachable
from mcpmesh.verify.time_limits import ANSWER_SECONDS


@dataclass(frozen=True)
class ShimInfo:
    """The answer of /info: the instance that the shim is of, its version, and its server's tools by name."""

    instance: str
    version: str
    tools: tuple[str, ...]


@dataclass(frozen=True)
class Readiness:
    """The answer of /ready: `state` is the shim's own word, `error` what is wrong where it is not "ready"."""

    ready: bool
    state: str
    error: str


async def read_info(http: httpx.AsyncClient, host: str, port: int) -> ShimInfo:
    """What answers at this port; Unreachable without an answer, Broken where it is no shim."""
    _, body = await _get(http, f"http://{host}:{port}/info")
    try:
        tools = tuple(str(tool["name"]) for tool in body.get("tools") or ())
        return ShimInfo(str(body["instance"]), str(body.get("version", "")), tools)
    except (KeyError, TypeError) as error:
        raise Broken(f"what answers at {host}:{port} is no shim: its /info names no instance") from error


async def read_readiness(http: httpx.AsyncClient, host: str, port: int) -> Readiness:
    """Whether its server answered an MCP exchange lately; raises as `read_info`."""
    status, body = await _get(http, f"http://{host}:{port}/ready")
    output = [str(line) for line in body.get("output") or ()]
    error = str(body.get("error") or "")
    if error and output:
        error = f"{error}; its last output: {output[-1]}"
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
