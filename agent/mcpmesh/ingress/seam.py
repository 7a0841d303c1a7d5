"""What the mesh asks of whatever program stands at its edge.

The URLs are the same for all of them: `/mcp/<service>`, or the path that the
catalog gives.
"""

from __future__ import annotations

from typing import Any, Protocol

from mcpmesh.model.service import ServiceSpec


class Ingress(Protocol):
    """Renders, purely, what makes the program at the edge a member of the mesh and each route known to it."""

    def registration(self) -> dict[str, Any]:
        """How it is registered with Consul."""

    def entries(self) -> list[dict[str, Any]]:
        """The config entries that stand before any route does."""

    def route(self, spec: ServiceSpec) -> dict[str, Any]:
        """The route of a service that declares one."""
