"""The interface of every kind of ingress.

The URLs are the same for all: `/mcp/<service>`, or the path that the catalog
gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mcpmesh.model.service import ServiceSpec


class Ingress(Protocol):
    """Renders what Consul has to know of an ingress and of its routes; pure."""

    def registrations(self, upstreams: Mapping[str, int]) -> tuple[dict[str, Any], ...]:
        """Its registrations; that of its sidecar, if it has one, with a listener for each of `upstreams` (ports)."""

    def entries(self) -> list[dict[str, Any]]:
        """The config entries that exist before any route does."""

    def route(self, spec: ServiceSpec) -> dict[str, Any] | None:
        """The config entry for the route of a service that declares one; None where Consul does not hold routes."""
