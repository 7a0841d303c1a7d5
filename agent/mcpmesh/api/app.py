"""The agent's HTTP API: makes `Operations` available over HTTP and adds nothing of its own.

Answers are JSON or, where they come in parts, lines of JSON (`ndjson_streams`). Errors are problem documents
(`problem_documents`). Access is checked before a request is read (`access_control`).
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
from mcpmesh.api.access_control import AccessControl
from mcpmesh.api.ndjson_streams import Streams, StreamTiming
from mcpmesh.api.operations import Operations
from mcpmesh.api.responses import ErrorResponse, JsonResponse, NdjsonDescription, ProblemResponse
from mcpmesh.errors import MeshError
from mcpmesh.model.agent_reports import Claim, Event
from mcpmesh.model.mesh_status import MeshStatus

# The arguments of a tool may hold a file. A larger one belongs on a disk from which the server reads it.
BODY_BYTES = 16 * 1024 * 1024


def create(operations: Operations, token: SecretStr, *, name: str, timing: StreamTiming | None = None) -> FastAPI:
    """The application that serves `operations` of the mesh `name` to clients that have `token`."""
    streams = Streams(timing)
    app = FastAPI(
        title="mcpmesh agent",
        version=__version__,
        description="The API of the agent, which the commands of mcpmesh use. See docs/api.md.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # `AccessControl` does the check; this describes it in OpenAPI.
        dependencies=[Depends(HTTPBearer(auto_error=False, description='The content of the file "token"'))],
        responses={
            "default": {"description": "The request failed; the document says why", "model": payloads.ProblemDocument}
        },
        max_body_size=BODY_BYTES,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.streams = streams
    app.add_middleware(AccessControl, token=token)
    app.add_exception_handler(MeshError, _mesh_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)

    @app.get("/v1/status", response_model=MeshStatus)
    async def status() -> Response:
        """The status of the mesh as of the agent's last reconcile pass."""
        return JsonResponse(await operations.status())

    @app.get("/v1/events", response_class=NdjsonDescription, responses={200: {"model": Event}})
    async def events(since: Annotated[int, Query(ge=0)] = 0, follow: bool = False) -> Response:
        """Events with numbers above `since`; with `follow`, new ones too as they happen."""
        return await streams.respond(operations.events(since, follow), "events")

    @app.post("/v1/plan", response_model=payloads.Steps)
    async def plan(body: payloads.PlanRequest) -> Response:
        """The steps that the agent would take for these catalog files; nothing is changed."""
        return JsonResponse({"steps": json_codec.plain(await operations.plan(body.sources))})

    @app.post("/v1/verify", response_class=NdjsonDescription, responses={200: {"model": Claim}})
    async def verify(body: payloads.VerifyRequest) -> Response:
        """Checks each claim about the services against the running system."""
        await service_names.check(operations, name, body.services)
        return await streams.respond(operations.verify(body.services), "verify")

    @app.get("/v1/tools", response_model=payloads.Tools)
    async def tools(service: str | None = None) -> Response:
        """The tools of one service or of all ready services, asked for through the mesh."""
        await service_names.check(operations, name, [service] if service is not None else [])
        return JsonResponse({"tools": json_codec.plain(await operations.tools(service))})

    @app.post("/v1/call", response_class=NdjsonDescription, responses={200: {"model": dict[str, Any]}})
    async def call(body: payloads.CallRequest) -> Response:
        """Calls a tool through the mesh; returns JSON-RPC notifications as they arrive and the response last."""
        await service_names.check(operations, name, [body.service])
        return await streams.respond(operations.call(body.service, body.tool, body.arguments), "call")

    @app.get("/v1/logs/{service:path}", response_class=NdjsonDescription, responses={200: {"model": payloads.LogLine}})
    async def logs(
        service: str, lines: Annotated[int, Query(ge=0, le=1_000_000)] = 100, follow: bool = False
    ) -> Response:
        """The last lines of a service's log files, oldest first; with `follow`, new ones too."""
        await service_names.check(operations, name, [service], allow_without_catalog=True)
        return await streams.respond(_log_lines(operations.logs(service, lines, follow)), "logs")

    @app.get("/v1/ingress/document", response_model=payloads.IngressDocument)
    async def ingress_document(secrets: bool = False) -> Response:
        """The declarative document that Kong gets while every service is ready; secrets are shown as ***."""
        return JsonResponse({"document": await operations.ingress_document(secrets)})

    @app.post("/v1/reload", status_code=204)
    async def reload() -> Response:
        """Reads the catalog again at once."""
        await operations.reload()
        return Response(status_code=204)

    @app.post("/v1/scale", status_code=204)
    async def scale(body: payloads.ScaleRequest) -> Response:
        """Sets the number of instances of a service, in place of the catalog's number."""
        await service_names.check(operations, name, [body.service])
        await operations.scale(body.service, body.instances)
        return Response(status_code=204)

    @app.post("/v1/pause", status_code=204)
    async def pause() -> Response:
        """Pauses the agent: it changes and heals nothing until it is resumed."""
        await operations.pause()
        return Response(status_code=204)

    @app.post("/v1/resume", status_code=204)
    async def resume() -> Response:
        """Ends a pause: the agent heals and applies changes again."""
        await operations.resume()
        return Response(status_code=204)

    @app.post("/v1/down", response_class=NdjsonDescription, responses={200: {"model": Event}})
    async def down() -> Response:
        """Drains and stops everything, the agent last; continues when the client disconnects."""
        return await streams.respond(streams.run_to_end(operations.down), "down listener")

    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    return app


async def _log_lines(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    async for line in lines:
        yield {"line": line}


def _mesh_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MeshError)
    return ErrorResponse(error)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return ProblemResponse(error.status_code, f"cannot answer this request: {error.detail}", error.headers)


def _invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Names the place and the mistake, but not the input: arguments of tools may be secrets.
    mistakes = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:20])
    return ProblemResponse(422, f"cannot use this request: {mistakes}")
