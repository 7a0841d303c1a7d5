"""The client of the agent's API for programs of the same user: implements `Operations` over HTTP.

An error of the agent is raised here again, with the same class and message. Streams yield items as they
arrive. A stream that is not read to its end must be closed (`contextlib.aclosing`).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from mcpmesh.api import agent_lock, agent_record, json_codec
from mcpmesh.api.agent_lookup import find_agent, no_agent_error
from mcpmesh.api.problem_documents import NoAgent, error_from
from mcpmesh.errors import Broken, Refused
from mcpmesh.model.agent_reports import Claim, Event, Step, Tool
from mcpmesh.model.mesh_status import MeshStatus

# The agent answers most requests from memory. Those for which it asks servers first have `SLOW_SECONDS`.
ANSWER_SECONDS = 15.0
SLOW_SECONDS = 180.0
# Three keep-alives of a stream (`ndjson_streams.StreamTiming`).
SILENCE_SECONDS = 30.0

# An agent that stops closes its API some moments before its process ends; on a busy machine that takes seconds.
EXIT_SECONDS = 10.0
_POLL_SECONDS = 0.1

# The API is plain HTTP on loopback. Without this httpx reads the machine's CA certificates for each client (20 ms).
# A context without certificates trusts no server, should an address ever be https.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

T = TypeVar("T")

_STATUS = TypeAdapter(MeshStatus)
_EVENT = TypeAdapter(Event)
_CLAIM = TypeAdapter(Claim)
_STEPS = TypeAdapter(list[Step])
_TOOLS = TypeAdapter(list[Tool])
_DOCUMENT = TypeAdapter(dict[str, Any])


class AgentClient:
    """A connection to the agent of the mesh at `home`; use it in `async with`.

    On entry it raises NoAgent when there is no agent (see `agent_lookup`), and Refused for a token file that
    other users can read. When the connection breaks, it waits up to `exit_seconds` to learn whether the agent ended.
    """

    def __init__(self, home: Path, answer_seconds: float = ANSWER_SECONDS, exit_seconds: float = EXIT_SECONDS) -> None:
        self._home = home
        self._answer_seconds = answer_seconds
        self._exit_seconds = exit_seconds

    async def __aenter__(self) -> Self:
        self.record = find_agent(self._home)
        token = agent_record.read_token(self._home)
        if token is None:
            raise Refused(f"cannot ask the agent: {self._home / 'token'} is gone; start the agent again")
        self._http = httpx.AsyncClient(
            base_url=self.record.address,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=httpx.Timeout(self._answer_seconds),
            trust_env=False,
            verify=_NO_TLS,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def status(self) -> MeshStatus:
        return json_codec.decode(_STATUS, await self._ask("GET", "/v1/status"), "status")

    def events(self, since: int, follow: bool) -> AsyncGenerator[Event, None]:
        return self._stream(_event, "GET", "/v1/events", query={"since": since, "follow": follow})

    async def plan(self, sources: Sequence[Path]) -> list[Step]:
        body = {"sources": [str(source.resolve()) for source in sources]}
        answer = await self._ask("POST", "/v1/plan", body=body, seconds=SLOW_SECONDS)
        return json_codec.decode(_STEPS, answer.get("steps"), "plan")

    def verify(self, services: Sequence[str]) -> AsyncGenerator[Claim, None]:
        return self._stream(_claim, "POST", "/v1/verify", body={"services": list(services)})

    async def tools(self, service: str | None) -> list[Tool]:
        query = {} if service is None else {"service": service}
        answer = await self._ask("GET", "/v1/tools", query=query, seconds=max(SLOW_SECONDS, self._answer_seconds))
        return json_codec.decode(_TOOLS, answer.get("tools"), "list of tools")

    def call(self, service: str, tool: str, arguments: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        body = {"service": service, "tool": tool, "arguments": arguments}
        return self._stream(lambda item: item, "POST", "/v1/call", body=body)

    def logs(self, service: str, lines: int, follow: bool) -> AsyncGenerator[str, None]:
        path, query = f"/v1/logs/{quote(service, safe='')}", {"lines": lines, "follow": follow}
        return self._stream(lambda item: str(item.get("line", "")), "GET", path, query=query)

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        answer = await self._ask("GET", "/v1/ingress/document", query={"secrets": secrets})
        return json_codec.decode(_DOCUMENT, answer.get("document"), "document")

    async def reload(self) -> None:
        await self._ask("POST", "/v1/reload", seconds=SLOW_SECONDS)

    async def scale(self, service: str, instances: int | None) -> None:
        await self._ask("POST", "/v1/scale", body={"service": service, "instances": instances})

    async def pause(self) -> None:
        await self._ask("POST", "/v1/pause")

    async def resume(self) -> None:
        await self._ask("POST", "/v1/resume")

    def down(self) -> AsyncGenerator[Event, None]:
        return self._stream(_event, "POST", "/v1/down")

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        timeout = httpx.Timeout(self._answer_seconds, read=seconds or self._answer_seconds)
        async with self._translate_errors():
            response = await self._http.request(method, path, **_content(query, body), timeout=timeout)
            text = await response.aread()
        if response.status_code >= 300:
            raise self._error(response.status_code, text)
        answer = _parsed(text) if text else {}
        if not isinstance(answer, dict):
            raise Broken(
                "cannot understand the agent: its answer is no JSON object; does another program listen at its address?"
            )
        return answer

    async def _stream(
        self,
        read: Callable[[dict[str, Any]], T],
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> AsyncGenerator[T, None]:
        timeout = httpx.Timeout(self._answer_seconds, read=SILENCE_SECONDS)
        async with (
            self._translate_errors(),
            self._http.stream(method, path, **_content(query, body), timeout=timeout) as response,
        ):
            if response.status_code >= 300:
                raise self._error(response.status_code, await response.aread())
            splitter = json_codec.LineSplitter()
            async with aclosing(cast(AsyncGenerator[bytes, None], response.aiter_bytes())) as chunks:
                async for chunk in chunks:
                    for line in splitter.split(chunk):
                        yield read(await self._item(line))

    async def _item(self, line: bytes) -> dict[str, Any]:
        item = _parsed(line)
        if not isinstance(item, dict):
            raise Broken("cannot understand the agent: a line of its answer is no JSON object")
        if "error" in item and "jsonrpc" not in item:
            error = error_from(item["error"])
            if isinstance(error, NoAgent) and await self._is_gone():
                raise no_agent_error(self._home)
            raise error
        return item

    @asynccontextmanager
    async def _translate_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise NoAgent(
                f'cannot get an answer from the agent of mesh "{self._home.name}" (process {self.record.pid}): '
                f"it took too long; see {self._home / 'logs' / 'agent.log'}"
            ) from error
        except httpx.TransportError as error:
            if await self._is_gone():
                raise no_agent_error(self._home) from error
            raise NoAgent(
                f'cannot reach the agent of mesh "{self._home.name}" at {self.record.address}, though process '
                f"{self.record.pid} runs: {error or type(error).__name__}; see {self._home / 'logs' / 'agent.log'}"
            ) from error

    async def _is_gone(self) -> bool:
        """Whether the agent ended or another one took its place; an agent that closed its API may be about to end."""
        end = time.monotonic() + self._exit_seconds
        while agent_lock.is_held(self._home) and agent_record.read(self._home) in (None, self.record):
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _error(self, status: int, text: bytes) -> Exception:
        if status == 401:
            return Refused(
                f"cannot use the agent at {self.record.address}: it does not take the token of "
                f"{self._home / 'token'}; the agent may have restarted just now: try again"
            )
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        return error_from(body, status)


def _content(query: Mapping[str, Any] | None, body: object) -> dict[str, Any]:
    if body is None:
        return {"params": query}
    return {"params": query, "content": json_codec.encode(body), "headers": {"Content-Type": "application/json"}}


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Broken(
            "cannot understand the agent: its answer is no JSON; does another program listen there?"
        ) from error


def _event(item: dict[str, Any]) -> Event:
    return json_codec.decode(_EVENT, item, "event")


def _claim(item: dict[str, Any]) -> Claim:
    return json_codec.decode(_CLAIM, item, "claim")
