"""Paths at the ingress: which are declared, and who answered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import httpx

from mcpmesh.verify.probes.tcp_probe import FORWARDED

# Nobody declares it by chance.
UNDECLARED = "/mcp/mcpmesh-verify-undeclared"


def covering(routes: Mapping[str, str], path: str) -> str | None:
    """The service whose route `path` falls under: the path itself, or what lies below it; pure."""
    for service, route in routes.items():
        root = route.rstrip("/")
        if path == root or path.startswith(f"{root}/"):
            return service
    return None


def taken_by_own(paths: Iterable[str], path: str) -> str | None:
    """The path, as Kong writes paths, that takes `path` away from the mesh; pure."""
    for own in paths:
        if re.match(own.removeprefix("~"), path) if own.startswith("~") else path.startswith(own):
            return own
    return None


def forwarded(answer: httpx.Response) -> bool:
    """Whether it was the service that answered, not the Envoy before it."""
    return FORWARDED in answer.headers
