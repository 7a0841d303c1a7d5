"""The interface between the HTTP API and the agent: the API calls it, the daemon implements it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from mcpmesh.model.agent_reports import Claim, Event, Step, Tool
from mcpmesh.model.mesh_status import MeshStatus


class Operations(Protocol):
    """The operations of an agent. Every method may raise a `MeshError`, whose text is for the operator."""

    async def status(self) -> MeshStatus:
        """The status of the mesh as of the last reconcile pass."""

    def events(self, since: int, follow: bool) -> AsyncIterator[Event]:
        """Events with numbers above `since`; with `follow`, new ones too as they happen."""

    async def plan(self, sources: Sequence[Path]) -> list[Step]:
        """The steps of a pass for these catalog files (the current ones when empty); nothing is changed."""

    def verify(self, services: Sequence[str]) -> AsyncIterator[Claim]:
        """Checks each claim against the running system, for these services or, when empty, for all."""

    async def tools(self, service: str | None) -> list[Tool]:
        """The tools of one service or of all ready services, asked for through the mesh."""

    def call(self, service: str, tool: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Calls a tool through the mesh; yields JSON-RPC notifications as they arrive and the response last."""

    def logs(self, service: str, lines: int, follow: bool) -> AsyncIterator[str]:
        """The last lines of the service's log files (all instances), oldest first; with `follow`, new ones too."""

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        """The document that Kong gets while every service is ready; without `secrets` they are shown as ***.

        Raises Refused when Kong is not the ingress.
        """

    async def reload(self) -> None:
        """Reads the catalog again at once."""

    async def scale(self, service: str, instances: int | None) -> None:
        """Sets the number of instances of a service; None goes back to the catalog's number."""

    async def pause(self) -> None:
        """Changes and heals nothing until `resume`; the agent goes on observing."""

    async def resume(self) -> None:
        """Ends a pause: the agent heals and applies changes again."""

    def down(self) -> AsyncIterator[Event]:
        """Drains and stops everything, then the agent; the iterator ends when only the agent is left."""
