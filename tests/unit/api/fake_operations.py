"""An agent without a mesh: every operation answers from memory, and tells what was asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcpmesh.errors import MeshError
from mcpmesh.model.mesh_status import InstanceStatus, MeshStatus, ServiceStatus, State
from mcpmesh.model.report_items import Claim, Event, Level, Step, Tool

FILES = ServiceStatus(
    name="files",
    state=State.READY,
    wanted=2,
    ready=2,
    address="http://127.0.0.1:8000/mcp/files",
    server="secure-filesystem-server 0.2.0",
    protocol_versions=("2025-11-25",),
    tools=14,
    instances=(
        InstanceStatus("files-1", State.READY, pid=101, port=11100, sidecar_pid=102, sidecar_port=11101),
        InstanceStatus("files-2", State.READY, pid=103, port=11102, sidecar_pid=104, sidecar_port=11103),
    ),
)
POSTGRES = ServiceStatus(
    name="postgres",
    state=State.FAILED,
    wanted=1,
    ready=0,
    detail='cannot start "postgres": program mcp-server-postgres is not installed; npm install it',
    address="http://127.0.0.1:8000/mcp/postgres",
    instances=(InstanceStatus("postgres-1", State.FAILED, detail="not installed"),),
)
BOARD = MeshStatus(
    name="default",
    in_sync=True,
    paused=False,
    ingress="http://127.0.0.1:8000",
    ingress_ready=True,
    consul="http://127.0.0.1:11091",
    consul_ready=True,
    services=(FILES,),
    sources=("/etc/mesh.yaml",),
    versions={"mcpmesh": "0.1.0", "consul": "1.22.5"},
)
READ_FILE = Tool(
    "files",
    "read_file",
    "Reads a file.\nLines after the first are for models.",
    {"type": "object", "properties": {"path": {"type": "string"}, "head": {"type": "number"}}},
)


@dataclass
class FakeOperations:
    """Implements `Operations`; a test changes its fields to say what will be answered."""

    board: MeshStatus = BOARD
    claims: list[Claim] = field(default_factory=lambda: [Claim("files", "it answers", True, "tools/list gave 14")])
    steps: list[Step] = field(default_factory=list)
    offered: list[Tool] = field(default_factory=lambda: [READ_FILE])
    messages: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=lambda: ["first line", "second line"])
    farewell: list[str] = field(default_factory=lambda: ["files: drained", "ingress: stopped"])
    error: MeshError | None = None
    late_error: MeshError | None = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    may_leave: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.history: list[Event] = []
        self._news = asyncio.Condition()
        self.may_leave.set()

    async def say(self, sentence: str, level: Level = Level.CHANGE, service: str | None = None) -> None:
        """Makes an event happen."""
        async with self._news:
            self.history.append(Event(len(self.history) + 1, 1000.0 + len(self.history), level, sentence, service))
            self._news.notify_all()

    async def _asked(self, *what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    async def _each(self, name: str, items: Sequence[Any], follow: bool = False) -> AsyncIterator[Any]:
        try:
            for item in items:
                yield item
            if self.late_error is not None:
                raise self.late_error
            if follow:
                await asyncio.Event().wait()
        finally:
            self.closed.append(name)

    async def status(self) -> MeshStatus:
        return self.board

    async def events(self, since: int, follow: bool) -> AsyncIterator[Event]:
        await self._asked("events", since, follow)
        position = since
        try:
            while True:
                async with self._news:
                    while follow and position >= len(self.history):
                        await self._news.wait()
                    fresh = self.history[position:]
                for event in fresh:
                    yield event
                    position = event.number
                if not follow:
                    return
        finally:
            self.closed.append("events")

    async def plan(self, sources: Sequence[Path]) -> list[Step]:
        await self._asked("plan", *sources)
        return self.steps

    async def verify(self, services: Sequence[str]) -> AsyncIterator[Claim]:
        await self._asked("verify", *services)
        async for claim in self._each("verify", self.claims):
            yield claim

    async def tools(self, service: str | None) -> list[Tool]:
        await self._asked("tools", service)
        return self.offered

    async def call(self, service: str, tool: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        await self._asked("call", service, tool, arguments)
        async for message in self._each("call", self.messages):
            yield message

    async def logs(self, service: str, lines: int, follow: bool) -> AsyncIterator[str]:
        await self._asked("logs", service, lines, follow)
        async for line in self._each("logs", self.log[-lines:], follow):
            yield line

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        await self._asked("ingress_document", secrets)
        return {"_format_version": "3.0", "services": [], "consumers": [{"username": "ada" if secrets else "***"}]}

    async def reload(self) -> None:
        await self._asked("reload")

    async def scale(self, service: str, instances: int | None) -> None:
        await self._asked("scale", service, instances)

    async def pause(self) -> None:
        await self._asked("pause")
        self.board = replace(self.board, paused=True)

    async def resume(self) -> None:
        await self._asked("resume")
        self.board = replace(self.board, paused=False)

    async def down(self) -> AsyncIterator[Event]:
        await self._asked("down")
        for number, sentence in enumerate(self.farewell, 1):
            yield Event(number, 2000.0, Level.PROGRESS, sentence)
            await self.may_leave.wait()
        if self.late_error is not None:
            raise self.late_error
        self.gone.set()
