"""What the mesh asks of whatever program stands at its edge.

The URLs are the same for all of them: `/mcp/<service>`, or the path that the
catalog gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mcpmesh.model.service import ServiceSpec


class Ingress(Protocol):
    """Renders, purely, what makes the program at the edge a member of the mesh and each route known to it."""

    def registrations(self, upstreams: Mapping[str, int]) -> tuple[dict[str, Any], ...]:
        """How it is registered with Consul, and, where it has a sidecar, that with a listener for each of these."""

    def entries(self) -> list[dict[str, Any]]:
        """The config entries that stand before any route does."""

    def route(self, spec: ServiceSpec) -> dict[str, Any] | None:
        """The config entry that is the route of a service that declares one; None where Consul has no part in it."""
