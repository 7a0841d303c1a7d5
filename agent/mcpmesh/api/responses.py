"""The responses of the API: JSON, problem documents and, for OpenAPI, lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from mcpmesh.api import json_codec, problem_documents
from mcpmesh.errors import MeshError

NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"


class JsonResponse(Response):
    """A value of the model as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json_codec.encode(content)


class NdjsonDescription(Response):
    """Describes the responses of `ndjson_streams` in OpenAPI: each line is one JSON value."""

    media_type = NDJSON


class ProblemResponse(Response):
    """A problem document about the request itself."""

    media_type = PROBLEM

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        super().__init__(json_codec.encode(body), status, headers)


class ErrorResponse(Response):
    """The problem document of a MeshError, with its HTTP status."""

    media_type = PROBLEM

    def __init__(self, error: MeshError) -> None:
        body = problem_documents.document(error)
        super().__init__(json_codec.encode(body), body["status"])
