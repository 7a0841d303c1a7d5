"""The agent as seen from another program of the same user: `Operations`, over HTTP.

An error that the agent raised is raised here again, of the same class and
with the same sentence. Streams give their items as they come; one that is
not read to its end has to be closed (`contextlib.aclosing`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from mcpmesh.api import agent_record, json_codec
from mcpmesh.api.problem_documents import NoAgent, error_from
from mcpmesh.errors import Broken, Refused
from mcpmesh.model.mesh_status import MeshStatus
from mcpmesh.model.report_items import Claim, Event, Step, Tool

# The agent answers from memory, unless it asks servers first: see `SLOW_SECONDS`.
ANSWER_SECONDS = 15.0
SLOW_SECONDS = 180.0
# Three keep-alives of a stream (`streams.KEEP_ALIVE_SECONDS`).
SILENCE_SECONDS = 30.0

# An agent that is leaving closes its API some moments before it is gone; on a busy machine that takes seconds.
_LOOKS = 100
_LOOK_SECONDS = 0.1

T = TypeVar("T")

_STATUS = TypeAdapter(MeshStatus)
_EVENT = TypeAdapter(Event)
_CLAIM = TypeAdapter(Claim)
_STEPS = TypeAdapter(list[Step])
_TOOLS = TypeAdapter(list[Tool])
_DOCUMENT = TypeAdapter(dict[str, Any])


class NeverStarted(NoAgent):
    """No agent of that mesh was started, or it was taken down."""


class Died(NoAgent):
    """The agent ended without taking its mesh down: its services may still run."""


class AgentClient:
    """The agent of the mesh at `home`; `async with` it.

    Raises NoAgent on entry when there is none: `NeverStarted` and `Died`
    say which, and what to do. Refuses a token file that others can read.
    """

    def __init__(self, home: Path, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._home = home
        self._answer_seconds = answer_seconds

    async def __aenter__(self) -> Self:
        self.presence = find(self._home)
        token = agent_record.read_token(self._home)
        if token is None:
            raise Refused(f"cannot ask the agent: {self._home / 'token'} is gone; start the agent again")
        self._http = httpx.AsyncClient(
            base_url=self.presence.address,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=httpx.Timeout(self._answer_seconds),
            trust_env=False,
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
        async with self._answered():
            response = await self._http.request(method, path, **_content(query, body), timeout=timeout)
            text = await response.aread()
        if response.status_code >= 300:
            raise self._error(response.status_code, text)
        answer = _parsed(text) if text else {}
        if not isinstance(answer, dict):
            raise Broken("cannot understand the agent: its answer is no object; is it another program at its address?")
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
            self._answered(),
            self._http.stream(method, path, **_content(query, body), timeout=timeout) as response,
        ):
            if response.status_code >= 300:
                raise self._error(response.status_code, await response.aread())
            lines = json_codec.Lines()
            async with aclosing(cast(AsyncGenerator[bytes, None], response.aiter_bytes())) as chunks:
                async for chunk in chunks:
                    for line in lines.split(chunk):
                        yield read(await self._item(line))

    async def _item(self, line: bytes) -> dict[str, Any]:
        item = _parsed(line)
        if not isinstance(item, dict):
            raise Broken("cannot understand the agent: a line of its answer is no object")
        if "error" in item and "jsonrpc" not in item:
            error = error_from(item["error"])
            if isinstance(error, NoAgent) and await self._is_gone():
                raise lost(self._home)
            raise error
        return item

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise NoAgent(
                f'cannot get an answer from the agent of mesh "{self._home.name}" (process {self.presence.pid}): '
                f"it took too long; see {self._home / 'logs' / 'agent.log'}"
            ) from error
        except httpx.TransportError as error:
            if await self._is_gone():
                raise lost(self._home) from error
            raise NoAgent(
                f'cannot reach the agent of mesh "{self._home.name}" at {self.presence.address}, though process '
                f"{self.presence.pid} lives: {error or type(error).__name__}; see {self._home / 'logs' / 'agent.log'}"
            ) from error

    async def _is_gone(self) -> bool:
        """Whether the agent ended, or gave way to another; one that stops listening may be about to."""
        for _ in range(_LOOKS):
            if not agent_record.alive(self._home) or agent_record.read(self._home) not in (None, self.presence):
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def _error(self, status: int, text: bytes) -> Exception:
        if status == 401:
            return Refused(
                f"cannot use the agent at {self.presence.address}: it does not take the token of "
                f"{self._home / 'token'}; it may have been started anew just now: try again"
            )
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        return error_from(body, status)


def find(home: Path) -> agent_record.Presence:
    """The living agent of the mesh at `home`; raises NeverStarted or Died."""
    seen = agent_record.read(home)
    if seen is None or not agent_record.alive(home):
        raise lost(home)
    return seen


def lost(home: Path) -> NoAgent:
    """Why no agent of the mesh at `home` can be reached, with the next step."""
    mesh = home.name
    option = "" if mesh == "default" else f"--name {mesh} "
    if agent_record.alive(home):
        return NoAgent(f'cannot reach the agent of mesh "{mesh}" yet: it is starting or leaving; try again soon')
    if (seen := agent_record.read(home)) is None:
        return NeverStarted(
            f'cannot reach the agent of mesh "{mesh}": none is running; start it with: mcpmesh {option}up -f mesh.yaml'
        )
    return Died(
        f'cannot reach the agent of mesh "{mesh}": process {seen.pid} died without taking its services down; '
        f"go on with what still runs: mcpmesh {option}up; or stop it: mcpmesh {option}down"
    )


def _content(query: Mapping[str, Any] | None, body: object) -> dict[str, Any]:
    if body is None:
        return {"params": query}
    return {"params": query, "content": json_codec.encode(body), "headers": {"Content-Type": "application/json"}}


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Broken("cannot understand the agent: its answer is no JSON; is it another program there?") from error


def _event(item: dict[str, Any]) -> Event:
    return json_codec.decode(_EVENT, item, "event")


def _claim(item: dict[str, Any]) -> Claim:
    return json_codec.decode(_CLAIM, item, "claim")
