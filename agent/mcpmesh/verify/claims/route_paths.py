"""Which route a path at the ingress falls under; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def service_at(routes: Mapping[str, str], path: str) -> str | None:
    """The service whose route is `path` or a folder above it."""
    for service, route in routes.items():
        root = route.rstrip("/")
        if path == root or path.startswith(f"{root}/"):
            return service
    return None


def user_path_at(user_paths: Iterable[str], path: str) -> str | None:
    """The route path of a user's document, as Kong writes and matches paths, that takes `path`."""
    for user_path in user_paths:
        pattern = user_path.removeprefix("~")
        if re.match(pattern, path) if user_path.startswith("~") else path.startswith(user_path):
            return user_path
    return None
