"""A document for Kong as it may be shown: whole, but for what opens doors; pure."""

from __future__ import annotations

from typing import Any

from mcpmesh.catalog.syntax_tree import looks_secret
from mcpmesh.ingress.kong.document import Content

MASK = "***"

# Lists of Kong's whose entities hold a secret under one of these keys.
_KEEPERS = ("_credentials", "jwt_secrets", "certificates")
_KEYS = ("key", "key_alt", "secret", "password", "client_secret")


def masked(content: Content) -> Content:
    """The same with `***` for keys, secrets, passwords, and the headers that plugins send."""
    return {key: _masked(value, (key,)) for key, value in content.items()}


def _masked(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, path) for inner in value]
    return MASK if isinstance(value, str) and _secret(path) else value


def _secret(path: tuple[str, ...]) -> bool:
    key, keeper = path[-1], path[-2] if len(path) > 1 else ""
    kept = keeper.endswith(_KEEPERS) and key in _KEYS
    return kept or looks_secret(key) or ("config" in path and keeper == "headers")
