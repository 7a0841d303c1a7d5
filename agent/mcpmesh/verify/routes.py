"""Paths at the ingress: which are declared, and who answered."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from mcpmesh.verify.knock import FORWARDED

# Nobody declares it by chance.
UNDECLARED = "/mcp/mcpmesh-verify-undeclared"


def covering(routes: Mapping[str, str], path: str) -> str | None:
    """The service whose route `path` falls under: the path itself, or what lies below it; pure."""
    for service, route in routes.items():
        root = route.rstrip("/")
        if path == root or path.startswith(f"{root}/"):
            return service
    return None


def forwarded(answer: httpx.Response) -> bool:
    """Whether it was the service that answered, not the Envoy before it."""
    return FORWARDED in answer.headers
