"""The stand-in's Admin API: the part of Kong 3.9's without a database that the mesh uses."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from tests.support.kong.program import VERSION
from tests.support.kong.state import Refusal, State

PAGE = 100


def admin(state: State) -> Starlette:
    """The Admin API of this state."""

    async def root(_: Request) -> Response:
        return JSONResponse(
            {
                "tagline": "Welcome to kong",
                "version": VERSION,
                "configuration": {"database": "off"},
                "edition": "community",
            }
        )

    async def status(_: Request) -> Response:
        return JSONResponse({"server": {}, "memory": {}, "configuration_hash": state.hash})

    async def config(request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"config": state.exported()})
        return _loaded(state, {**dict(request.query_params), **await _body(request)}, await request.body())

    async def listing(request: Request) -> Response:
        return _page(state, request)

    async def unwritable(request: Request) -> Response:
        kind = request.path_params["kind"]
        message = f"cannot create or update '{kind}' entities when not using a database"
        return JSONResponse({"code": 12, "name": "operation unsupported", "message": message}, 405)

    async def metrics(_: Request) -> Response:
        on = any(plugin["name"] == "prometheus" for plugin in state.found["plugins"])
        return PlainTextResponse("# TYPE kong_node_info gauge\n") if on else JSONResponse({"message": "Not found"}, 404)

    kinds = "{kind:str}"
    return Starlette(
        routes=[
            Route("/", root),
            Route("/status", status),
            Route("/metrics", metrics),
            Route("/config", config, methods=["GET", "POST"]),
            Route(f"/{kinds}", listing, methods=["GET"]),
            Route(f"/{kinds}", unwritable, methods=["POST"]),
            Route(f"/{kinds}/{{key:str}}", unwritable, methods=["PUT", "PATCH", "DELETE"]),
        ]
    )


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _loaded(state: State, given: dict[str, Any], raw: bytes) -> Response:
    """The document: the body itself, or a text in its `config`. Only the text's hash is known beforehand."""
    flatten = str(given.pop("flatten_errors", "")).lower() in ("1", "true", "on", "yes")
    check = str(given.pop("check_hash", "")) == "1"
    try:
        if "_format_version" in given:
            state.load(given, hashlib.md5(json.dumps(given).encode()).hexdigest(), flatten)
        elif text := given.get("config") or raw.decode():
            if check and hashlib.md5(text.encode()).hexdigest() == state.hash:
                return Response(status_code=304)
            state.load_text(text, flatten)
        else:
            return JSONResponse({"message": "expected a declarative configuration"}, 400)
    except Refusal as refusal:
        return JSONResponse(refusal.body, 400)
    return JSONResponse(
        {kind: {item["id"]: item for item in items} for kind, items in state.found.items() if items}, 201
    )


def _page(state: State, request: Request) -> Response:
    kind, query = request.path_params["kind"], request.query_params
    if kind not in state.found:
        return JSONResponse({"message": "Not found"}, 404)
    tags = [tag for tag in query.get("tags", "").split(",") if tag]
    found = [item for item in state.found[kind] if all(tag in (item.get("tags") or ()) for tag in tags)]
    size, offset = int(query.get("size", PAGE)), int(query.get("offset", 0))
    if not 1 <= size <= 1000:
        return JSONResponse({"message": "invalid size"}, 400)
    more = offset + size
    next_ = f"/{kind}?size={size}&offset={more}" + (f"&tags={query['tags']}" if tags else "")
    page = [_shown(item) for item in found[offset:more]]
    return JSONResponse({"data": page, "next": next_ if more < len(found) else None})


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    """References as Kong shows them: by id."""
    return {**item, **{key: {"id": item[key]} for key in ("service", "route", "consumer") if item.get(key)}}
