"""`--arg key=value` as a tool's arguments, of the types that its schema names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def typed(pairs: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments; a value is text where the schema says string, else JSON where it is JSON, else text.

    Raises BadParameter for what is no `key=value`.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--arg")
        arguments[key] = value if _is_text(schema, key) else _parsed(value)
    return arguments


def _is_text(schema: Mapping[str, Any], key: str) -> bool:
    properties = schema.get("properties")
    described = properties.get(key) if isinstance(properties, Mapping) else None
    return isinstance(described, Mapping) and described.get("type") == "string"


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
