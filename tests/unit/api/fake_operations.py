"""An agent without a mesh: every operation answers from fields, and is recorded in `asked`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcpmesh.errors import MeshError
from mcpmesh.model.agent_reports import Claim, Event, Level, Step, Tool
from mcpmesh.model.mesh_status import InstanceStatus, MeshStatus, ServiceStatus, State

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
STATUS = MeshStatus(
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
    """Implements `Operations`; a test sets its fields to determine the answers."""

    mesh_status: MeshStatus = STATUS
    claims: list[Claim] = field(default_factory=lambda: [Claim("files", "it answers", True, "tools/list gave 14")])
    steps: list[Step] = field(default_factory=list)
    offered: list[Tool] = field(default_factory=lambda: [READ_FILE])
    messages: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=lambda: ["first line", "second line"])
    down_events: list[str] = field(default_factory=lambda: ["files: drained", "ingress: stopped"])
    error: MeshError | None = None
    late_error: MeshError | None = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.history: list[Event] = []
        self._changed = asyncio.Condition()
        self.may_end.set()

    def reset(self) -> None:
        """Forgets what earlier tests set and asked."""
        self.__dict__.update(FakeOperations().__dict__)

    async def say(self, sentence: str, level: Level = Level.CHANGE, service: str | None = None) -> None:
        """Makes an event happen."""
        async with self._changed:
            self.history.append(Event(len(self.history) + 1, 1000.0 + len(self.history), level, sentence, service))
            self._changed.notify_all()

    async def _record(self, *request: Any) -> None:
        self.asked.append(request)
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
        return self.mesh_status

    async def events(self, since: int, follow: bool) -> AsyncIterator[Event]:
        await self._record("events", since, follow)
        position = since
        try:
            while True:
                async with self._changed:
                    while follow and position >= len(self.history):
                        await self._changed.wait()
                    fresh = self.history[position:]
                for event in fresh:
                    yield event
                    position = event.number
                if not follow:
                    return
        finally:
            self.closed.append("events")

    async def plan(self, sources: Sequence[Path]) -> list[Step]:
        await self._record("plan", *sources)
        return self.steps

    async def verify(self, services: Sequence[str]) -> AsyncIterator[Claim]:
        await self._record("verify", *services)
        async for claim in self._each("verify", self.claims):
            yield claim

    async def tools(self, service: str | None) -> list[Tool]:
        await self._record("tools", service)
        return self.offered

    async def call(self, service: str, tool: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        await self._record("call", service, tool, arguments)
        async for message in self._each("call", self.messages):
            yield message

    async def logs(self, service: str, lines: int, follow: bool) -> AsyncIterator[str]:
        await self._record("logs", service, lines, follow)
        async for line in self._each("logs", self.log[-lines:], follow):
            yield line

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        await self._record("ingress_document", secrets)
        return {"_format_version": "3.0", "services": [], "consumers": [{"username": "ada" if secrets else "***"}]}

    async def reload(self) -> None:
        await self._record("reload")

    async def scale(self, service: str, instances: int | None) -> None:
        await self._record("scale", service, instances)

    async def pause(self) -> None:
        await self._record("pause")
        self.mesh_status = replace(self.mesh_status, paused=True)

    async def resume(self) -> None:
        await self._record("resume")
        self.mesh_status = replace(self.mesh_status, paused=False)

    async def down(self) -> AsyncIterator[Event]:
        await self._record("down")
        for number, sentence in enumerate(self.down_events, 1):
            yield Event(number, 2000.0, Level.PROGRESS, sentence)
            await self.may_end.wait()
        if self.late_error is not None:
            raise self.late_error
        self.gone.set()
