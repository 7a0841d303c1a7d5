"""Masks the secrets of a document for Kong, so that it can be shown; pure."""

from __future__ import annotations

from typing import Any

from mcpmesh.catalog.values import looks_secret
from mcpmesh.ingress.kong.document import Content

MASK = "***"

# The lists (or ends of their names) whose entities hold a secret under one of these keys.
_SECRET_LISTS = ("_credentials", "jwt_secrets", "certificates")
_SECRET_KEYS = ("key", "key_alt", "secret", "password", "client_secret")


def masked(content: Content) -> Content:
    """The same content with `***` for keys, secrets, passwords, and the headers that plugins send."""
    return {key: _masked(value, (key,)) for key, value in content.items()}


def _masked(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, path) for inner in value]
    return MASK if isinstance(value, str) and _is_secret(path) else value


def _is_secret(path: tuple[str, ...]) -> bool:
    key, parent = path[-1], path[-2] if len(path) > 1 else ""
    in_secret_list = parent.endswith(_SECRET_LISTS) and key in _SECRET_KEYS
    return in_secret_list or looks_secret(key) or ("config" in path and parent == "headers")
