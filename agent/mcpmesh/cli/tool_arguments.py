"""The arguments of a tool from the command line: a JSON object, or `--arg KEY=VALUE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def parse_object(text: str | None) -> dict[str, Any]:
    """The JSON object in `text`, or on stdin where `text` is "-"; raises BadParameter for anything else."""
    if text is None:
        return {}
    try:
        value = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise typer.BadParameter(f"the arguments are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter('the arguments must be a JSON object, like {"path": "notes.md"}')
    return value


def parse_pairs(pairs: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `--arg`; raises BadParameter for a word that is not KEY=VALUE.

    A value is text where the schema says string; else JSON, if it can be read as such; else text.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--arg")
        arguments[key] = value if _is_string(schema, key) else _json_or_text(value)
    return arguments


def _is_string(schema: Mapping[str, Any], key: str) -> bool:
    properties = schema.get("properties")
    property_schema = properties.get(key) if isinstance(properties, Mapping) else None
    return isinstance(property_schema, Mapping) and property_schema.get("type") == "string"


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
