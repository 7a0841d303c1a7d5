"""Errors as problem documents (RFC 9457) and back, so that a client raises the error that the agent raised.

`type` is "urn:mcpmesh:" and the error's name, `detail` is the sentence for the operator. A document never holds a
traceback or the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcpmesh.errors import (
    Broken,
    CatalogError,
    DocumentError,
    MeshError,
    NotOurs,
    Problem,
    Refused,
    SettingsError,
    Unreachable,
    WorkloadError,
)

_URN = "urn:mcpmesh:"


class NoAgent(Unreachable):
    """The agent cannot be reached, for the moment or because none runs."""


class UnknownService(Refused):
    """The mesh has no service of that name."""


# Name, HTTP status and title of each class; subclasses come before their bases.
_KINDS: dict[type[MeshError], tuple[str, int, str]] = {
    DocumentError: ("documents", 422, "The documents for Kong cannot be used"),
    CatalogError: ("catalog", 422, "The catalog cannot be used"),
    SettingsError: ("settings", 500, "A setting cannot be used"),
    UnknownService: ("unknown-service", 404, "No such service"),
    NotOurs: ("not-ours", 409, "It belongs to somebody else"),
    Refused: ("refused", 409, "Refused"),
    NoAgent: ("no-agent", 503, "The agent is not there"),
    Unreachable: ("unreachable", 503, "Not reachable now"),
    Broken: ("broken", 502, "Answered, but not as it should"),
    WorkloadError: ("workload", 502, "A program did not start or stay up"),
    MeshError: ("error", 500, "Not possible"),
}


def document(error: MeshError) -> dict[str, Any]:
    """The problem document of `error`; that of a CatalogError lists its mistakes in `problems`."""
    name, status, title = _entry(error)
    body: dict[str, Any] = {"type": _URN + name, "title": title, "status": status, "detail": str(error)}
    if isinstance(error, CatalogError):
        body["problems"] = [problem_fields(problem) for problem in error.problems]
    return body


def problem_fields(problem: Problem) -> dict[str, Any]:
    """A mistake in a catalog as a JSON object."""
    return {
        "path": str(problem.path),
        "line": problem.line,
        "field": problem.field,
        "message": problem.message,
    }


def error_from(body: object, status: int = 500) -> MeshError:
    """The error that the document `body` describes; Broken when `body` is no problem document."""
    if not isinstance(body, Mapping) or not isinstance(body.get("detail"), str):
        return Broken(f"cannot understand the agent: it answered {status} without saying why")
    name = str(body.get("type", "")).removeprefix(_URN)
    detail: str = body["detail"]
    for error_class, (class_name, _, _) in _KINDS.items():
        if name != class_name:
            continue
        if not issubclass(error_class, CatalogError):
            return error_class(detail)
        if problems := _problems(body.get("problems")):
            return error_class(problems)
    return Refused(detail) if 400 <= status < 500 else Broken(detail)


def _entry(error: MeshError) -> tuple[str, int, str]:
    return next(entry for error_class, entry in _KINDS.items() if isinstance(error, error_class))


def _problems(listed: object) -> list[Problem]:
    if not isinstance(listed, list):
        return []
    return [
        Problem(
            Path(str(item.get("path", ""))),
            item["line"] if isinstance(item.get("line"), int) else None,
            str(item.get("field", "")),
            str(item.get("message", "")),
        )
        for item in listed
        if isinstance(item, Mapping)
    ]
