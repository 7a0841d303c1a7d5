"""Calls at the ingress: one, many at once, and the sessions of the older protocol."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from tests.support.mesh import RealMesh

from mcpmesh.kit.marked_process import Process

META = "io.modelcontextprotocol/"
# Of each worker between two calls: calls are to overlap, not to starve the mesh of the processor.
PAUSE_SECONDS = 0.03
ACCEPT = {"Accept": "application/json, text/event-stream"}


def modern(tool: str, arguments: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of a tools/call of revision 2026-07-28."""
    version = "2026-07-28"
    headers = {**ACCEPT, "MCP-Protocol-Version": version, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    meta = {f"{META}protocolVersion": version, f"{META}clientCapabilities": {}}
    params = {"name": tool, "arguments": dict(arguments), "_meta": meta}
    return headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def result(answer: httpx.Response) -> dict[str, Any]:
    """The JSON-RPC message that answers, be it JSON or the last of an event stream."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        data = [line[5:] for line in answer.text.splitlines() if line.startswith("data:") and line[5:].strip()]
        message: dict[str, Any] = json.loads(data[-1])
    else:
        message = json.loads(answer.text)
    return message


def call(url: str, tool: str, arguments: Mapping[str, Any] | None = None, timeout: float = 60.0) -> Any:
    """One modern call; its result."""
    headers, body = modern(tool, arguments or {})
    answer = httpx.post(url, headers=headers, json=body, timeout=timeout, trust_env=False)
    assert answer.status_code == 200, f"HTTP {answer.status_code}: {answer.text[:300]}"
    message = result(answer)
    assert "result" in message, f"no result: {message}"
    return message["result"]


def active(mesh: RealMesh, edge: Process, service: str, what: str = "rq") -> int:
    """Calls ("rq") or connections ("cx") to a service that the Envoy at the ingress has open; proofs go other ways."""
    stats = mesh.ask_envoy(edge, f"/stats?filter=^cluster[.]{service}[.].*upstream_{what}_active$")
    return sum(int(line.rpartition(" ")[2]) for line in stats.splitlines())


def text_of(answer: Any) -> str:
    """The text in a tool's result."""
    return "".join(item.get("text", "") for item in answer["content"])


@dataclass(frozen=True)
class Answer:
    """One call of a load; `status` is 0 where none came, `text` says what came instead of a result."""

    began: float
    ended: float
    status: int
    ok: bool
    text: str


@dataclass
class Load:
    """Workers that call again and again, each over its own connection that it keeps open."""

    url: str
    tool: str
    arguments: Mapping[str, Any]
    workers: int
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), name="load")

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in list(self.answers) if not answer.ok]

    def since(self, moment: float) -> list[Answer]:
        """Answers to calls that began after `moment`."""
        return [answer for answer in list(self.answers) if answer.began > moment]

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(timeout=90)
        assert not self._thread.is_alive(), "a call at the ingress has hung for 90 s"

    def wait_for_answers(self, count: int, seconds: float = 60.0) -> None:
        """Returns when `count` more calls were begun and answered since now."""
        now = time.monotonic()
        while sum(answer.began > now for answer in list(self.answers)) < count:
            assert time.monotonic() < now + seconds, f"fewer than {count} answers in {seconds:.0f} s"
            time.sleep(0.05)

    async def _all(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(self.workers)))

    async def _work(self) -> None:
        headers, body = modern(self.tool, self.arguments)
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    answer = await http.post(self.url, headers=headers, json=body)
                    status, text = answer.status_code, answer.text
                    ok = status == 200 and "result" in result(answer)
                except (httpx.TransportError, ValueError) as error:
                    status, ok, text = 0, False, repr(error)
                self.answers.append(Answer(began, time.monotonic(), status, ok, "" if ok else text[:200]))
                await asyncio.sleep(PAUSE_SECONDS)


@contextmanager
def load(url: str, tool: str = "echo", arguments: Mapping[str, Any] | None = None, workers: int = 8) -> Iterator[Load]:
    """A load that is under way when the block begins and at an end after it."""
    running = Load(url, tool, arguments or {"message": "hello"}, workers)
    running.start()
    try:
        running.wait_for_answers(workers)
        yield running
    finally:
        running.end()


class Session:
    """A session of revision 2025-11-25, opened on entry, over its own connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.id = ""
        self._http = httpx.Client(timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        client = {"name": "test", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        answer = self.post("initialize", params)
        assert answer.status_code == 200, f"HTTP {answer.status_code}: {answer.text[:300]}"
        self.id = answer.headers["mcp-session-id"]
        body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert self._http.post(self.url, headers=self._headers, json=body).status_code == 202
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def _headers(self) -> dict[str, str]:
        mine = {"Mcp-Session-Id": self.id, "MCP-Protocol-Version": "2025-11-25"} if self.id else {}
        return {**ACCEPT, **mine}

    @property
    def owner(self) -> str:
        """The address of the sidecar whose instance opened it."""
        return self.id.rpartition("@")[2]

    def post(self, method: str, params: Mapping[str, Any]) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)}
        return self._http.post(self.url, headers=self._headers, json=body)

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> httpx.Response:
        return self.post("tools/call", {"name": tool, "arguments": dict(arguments or {})})

    def delete(self) -> httpx.Response:
        return self._http.delete(self.url, headers=self._headers)
