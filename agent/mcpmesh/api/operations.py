"""What the HTTP API asks of the agent: the seam between words on a wire and the one who acts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from mcpmesh.model.mesh_status import MeshStatus
from mcpmesh.model.report_items import Claim, Event, Step, Tool


class Operations(Protocol):
    """The agent. Every method may raise a `MeshError`; its text is for the operator."""

    async def status(self) -> MeshStatus:
        """The board as the last pass left it."""

    def events(self, since: int, follow: bool) -> AsyncIterator[Event]:
        """Events numbered above `since`, then (with `follow`) new ones as they happen."""

    async def plan(self, sources: Sequence[Path]) -> list[Step]:
        """What a pass would do for these catalog files (the running ones when empty); nothing is done."""

    def verify(self, services: Sequence[str]) -> AsyncIterator[Claim]:
        """Proves each claim against the running system, for these services or all."""

    async def tools(self, service: str | None) -> list[Tool]:
        """The tools of one service or of all ready ones, asked through the mesh."""

    def call(self, service: str, tool: str, arguments: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Calls a tool through the mesh: JSON-RPC notifications as they come, the response last."""

    def logs(self, service: str, lines: int, follow: bool) -> AsyncIterator[str]:
        """Lines of the service's log files (all instances), oldest first."""

    async def ingress_document(self, secrets: bool) -> dict[str, Any]:
        """What Kong is handed while every service serves, secrets as *** or in the clear.

        Raises Refused where Kong is not the ingress.
        """

    async def reload(self) -> None:
        """Reads the catalog again now."""

    async def scale(self, service: str, instances: int | None) -> None:
        """Runs that many instances of a service; None as many as the catalog says."""

    async def pause(self) -> None:
        """Leaves the mesh as it is (and watches on) until `resume`."""

    async def resume(self) -> None:
        """Heals and applies again."""

    def down(self) -> AsyncIterator[Event]:
        """Drains and stops everything, then the agent itself; ends when all is gone but the agent."""
