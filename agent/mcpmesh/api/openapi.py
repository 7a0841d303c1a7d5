"""The description of the API in OpenAPI 3.1: served by the agent and published as docs/openapi.json."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mcpmesh.api.responses import PROBLEM


def describe(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of `app`, in which every error response is a problem document."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, summary=app.summary
        )
        for path in schema["paths"].values():
            for operation in path.values():
                error = operation["responses"]["default"]
                error["content"] = {PROBLEM: next(iter(error["content"].values()))}
                # FastAPI describes streamed lines as text, whatever they hold.
                for content in operation["responses"].get("200", {}).get("content", {}).values():
                    if "$ref" in content["schema"]:
                        content["schema"] = {"$ref": content["schema"]["$ref"]}
                # Errors of the request itself are such documents too.
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
