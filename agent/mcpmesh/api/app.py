"""The agent's HTTP API: words on a wire for `Operations`, and nothing of its own.

Answers are JSON or, where they come bit by bit, lines of JSON
(`streams`); refusals are problem documents (`problems`). Who may ask is
decided before anything is read (`guard`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import SecretStr
from starlette.exceptions import HTTPException

from mcpmesh import __version__
from mcpmesh.api import json_codec, openapi, payloads, service_names
from mcpmesh.api.access_control import Guard
from mcpmesh.api.ndjson_streams import Streams
from mcpmesh.api.operations import Operations
from mcpmesh.api.responses import Failure, Json, LinesOfJson, Problem
from mcpmesh.errors import MeshError
from mcpmesh.model.mesh_status import MeshStatus
from mcpmesh.model.report_items import Claim, Event

# Arguments of a tool may hold a file; more than this belongs in one that the server reads itself.
BODY_BYTES = 16 * 1024 * 1024


def create(operations: Operations, token: SecretStr, *, name: str) -> FastAPI:
    """The application that serves `operations` of the mesh `name` to whoever has `token`."""
    streams = Streams()
    app = FastAPI(
        title="mcpmesh agent",
        version=__version__,
        description="What the commands of mcpmesh ask of the agent. See docs/api.md.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # The guard has the say; this tells OpenAPI about it.
        dependencies=[Depends(HTTPBearer(auto_error=False, description='The line in the file "token"'))],
        responses={"default": {"description": "Not done, and why", "model": payloads.ProblemDocument}},
        max_body_size=BODY_BYTES,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.streams = streams
    app.add_middleware(Guard, token=token)
    app.add_exception_handler(MeshError, _failure)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _invalid)

    @app.get("/v1/status", response_model=MeshStatus)
    async def status() -> Response:
        """The board as the agent's last pass left it."""
        return Json(await operations.status())

    @app.get("/v1/events", response_class=LinesOfJson, responses={200: {"model": Event}})
    async def events(since: Annotated[int, Query(ge=0)] = 0, follow: bool = False) -> Response:
        """Events numbered above `since`; with `follow`, then new ones as they happen."""
        return await streams.respond(operations.events(since, follow), "events")

    @app.post("/v1/plan", response_model=payloads.Steps)
    async def plan(body: payloads.PlanRequest) -> Response:
        """What the agent would do for these catalog files; nothing is done."""
        return Json({"steps": json_codec.plain(await operations.plan(body.sources))})

    @app.post("/v1/verify", response_class=LinesOfJson, responses={200: {"model": Claim}})
    async def verify(body: payloads.VerifyRequest) -> Response:
        """Proves each claim about the services against the running system."""
        await service_names.known(operations, name, body.services)
        return await streams.respond(operations.verify(body.services), "verify")

    @app.get("/v1/tools", response_model=payloads.Tools)
    async def tools(service: str | None = None) -> Response:
        """The tools of one service or of all ready ones, asked through the mesh."""
        await service_names.known(operations, name, [service] if service is not None else [])
        return Json({"tools": json_codec.plain(await operations.tools(service))})

    @app.post("/v1/call", response_class=LinesOfJson, responses={200: {"model": dict[str, Any]}})
    async def call(body: payloads.CallRequest) -> Response:
        """Calls a tool through the mesh: JSON-RPC notifications as they come, the response last."""
        await service_names.known(operations, name, [body.service])
        return await streams.respond(operations.call(body.service, body.tool, body.arguments), "call")

    @app.get("/v1/logs/{service:path}", response_class=LinesOfJson, responses={200: {"model": payloads.LogLine}})
    async def logs(
        service: str, lines: Annotated[int, Query(ge=0, le=1_000_000)] = 100, follow: bool = False
    ) -> Response:
        """The last lines of a service's log files, oldest first; with `follow`, then new ones."""
        await service_names.known(operations, name, [service], unread_too=True)
        return await streams.respond(_log_lines(operations.logs(service, lines, follow)), "logs")

    @app.get("/v1/ingress/document", response_model=payloads.IngressDocument)
    async def ingress_document(secrets: bool = False) -> Response:
        """The declarative document that Kong is handed while every service serves; *** stands for secrets."""
        return Json({"document": await operations.ingress_document(secrets)})

    @app.post("/v1/reload", status_code=204)
    async def reload() -> Response:
        """Reads the catalog again now."""
        await operations.reload()
        return Response(status_code=204)

    @app.post("/v1/scale", status_code=204)
    async def scale(body: payloads.ScaleRequest) -> Response:
        """Runs that many instances of a service, whatever the catalog says."""
        await service_names.known(operations, name, [body.service])
        await operations.scale(body.service, body.instances)
        return Response(status_code=204)

    @app.post("/v1/pause", status_code=204)
    async def pause() -> Response:
        """Leaves the mesh as it is until it is resumed."""
        await operations.pause()
        return Response(status_code=204)

    @app.post("/v1/resume", status_code=204)
    async def resume() -> Response:
        """Heals and applies again."""
        await operations.resume()
        return Response(status_code=204)

    @app.post("/v1/down", response_class=LinesOfJson, responses={200: {"model": Event}})
    async def down() -> Response:
        """Drains and stops everything, the agent last; goes on when the client leaves."""
        return await streams.respond(streams.farewell(operations.down), "down listener")

    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    return app


async def _log_lines(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    async for line in lines:
        yield {"line": line}


def _failure(_: Request, error: Exception) -> Response:
    assert isinstance(error, MeshError)
    return Failure(error)


def _http_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, f"cannot answer this request: {error.detail}", error.headers)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where and what, but not the input itself: arguments of tools may be secrets.
    mistakes = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:20])
    return Problem(422, f"cannot use this request: {mistakes}")
