"""The stand-in's proxy: finds the route as Kong's router does, and streams bodies."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from tests.support.kong.program import VERSION
from tests.support.kong.state import State

_HOP_BY_HOP = ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")


class Proxy:
    """An application that forwards requests by the routes in `state`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._http = httpx.AsyncClient(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=None))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer = await self._answer(request)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        found = self._route(request)
        if found is None:
            return JSONResponse({"message": "no Route matched with those values", "request_id": uuid.uuid4().hex}, 404)
        route, matched = found
        service = self._state.one("services", route.get("service"))
        headers = {key: value for key, value in request.headers.items() if key not in _HOP_BY_HOP}
        extra: dict[str, str] = {}
        # By priority, as Kong runs them.
        for name in ("correlation-id", "key-auth", "request-termination"):
            for plugin in self._plugins(name, route, service):
                if refused := getattr(self, f"_{name.replace('-', '_')}")(plugin.get("config") or {}, headers, extra):
                    return _with(refused, extra)
        if service is None:
            return _with(JSONResponse({"message": "no Service found with those values"}, 503), extra)
        return _with(await self._forwarded(request, route, service, matched, headers), extra)

    def _route(self, request: Request) -> tuple[dict[str, Any], str] | None:
        """The route and the matched part of the path: regular expressions first, then long prefixes before short."""
        path = request.url.path
        found: list[tuple[tuple[bool, int], dict[str, Any], str]] = []
        for route in self._state.found["routes"]:
            if route.get("methods") and request.method not in route["methods"]:
                continue
            if route.get("hosts") and request.url.hostname not in route["hosts"]:
                continue
            narrowed = bool(route.get("methods")) + bool(route.get("hosts"))
            for pattern in route.get("paths") or ("/",):
                if pattern.startswith("~"):
                    if match := re.match(pattern[1:], path):
                        found.append(((True, 1000 * narrowed), route, match.group()))
                elif path.startswith(pattern):
                    found.append(((False, 1000 * narrowed + len(pattern)), route, pattern))
        best = max(found, key=lambda item: (item[0][1] >= 1000, *item[0]), default=None)
        return best and (best[1], best[2])

    def _plugins(self, name: str, route: dict[str, Any], service: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The most specific plugin of that name: the route's, else the service's, else the global one."""
        named = [plugin for plugin in self._state.found["plugins"] if plugin["name"] == name]
        scopes = [("route", route.get("name"), route["id"]), ("service", *_names(service))]
        for key, *names in scopes:
            if mine := [plugin for plugin in named if plugin.get(key) and plugin[key] in names]:
                return mine[:1]
        return [plugin for plugin in named if not plugin.get("route") and not plugin.get("service")][:1]

    def _correlation_id(self, config: Any, headers: dict[str, str], extra: dict[str, str]) -> Response | None:
        header = config.get("header_name", "Kong-Request-ID").lower()
        value = headers.setdefault(header, str(uuid.uuid4()))
        if config.get("echo_downstream"):
            extra[header] = value
        return None

    def _key_auth(self, config: Any, headers: dict[str, str], extra: dict[str, str]) -> Response | None:
        header = (config.get("key_names") or ["apikey"])[0].lower()
        key = headers.get(header)
        if key is None:
            extra["www-authenticate"] = "Key"
            return JSONResponse({"message": "No API key found in request"}, 401)
        credential = next((item for item in self._state.found["keyauth_credentials"] if item["key"] == key), None)
        if credential is None:
            return JSONResponse({"message": "Unauthorized"}, 401)
        if config.get("hide_credentials"):
            headers.pop(header)
        headers["x-consumer-username"] = str(credential["consumer"])
        return None

    def _request_termination(self, config: Any, headers: dict[str, str], extra: dict[str, str]) -> Response | None:
        return JSONResponse({"message": config.get("message", "Service unavailable")}, config.get("status_code", 503))

    async def _forwarded(
        self, request: Request, route: dict[str, Any], service: dict[str, Any], matched: str, headers: dict[str, str]
    ) -> Response:
        base = f"{service.get('protocol', 'http')}://{service['host']}:{service.get('port', 80)}"
        path = upstream_path(service.get("path") or "/", request.url.path, matched, route.get("strip_path", True))
        if not route.get("preserve_host", False):
            headers["host"] = f"{service['host']}:{service.get('port', 80)}"
        headers |= {"x-forwarded-proto": request.url.scheme, "x-forwarded-path": request.url.path, "via": "1.1 kong"}
        url = httpx.URL(f"{base}{path}", query=request.url.query.encode() or None)
        seconds = {key: service.get(f"{key}_timeout", 60_000) / 1000 for key in ("connect", "read", "write")}
        has_body = "content-length" in headers or "transfer-encoding" in request.headers
        asked = self._http.build_request(
            request.method,
            url,
            headers=headers,
            content=_body(request) if has_body else None,
            timeout=httpx.Timeout(seconds["connect"], read=seconds["read"], write=seconds["write"], pool=None),
        )
        try:
            answer = await self._http.send(asked, stream=True)
        except httpx.TransportError:
            return JSONResponse({"message": "An invalid response was received from the upstream server"}, 502)
        streaming = StreamingResponse(_pieces(answer), answer.status_code)
        streaming.raw_headers = [
            (key.lower(), value) for key, value in answer.headers.raw if key.lower().decode() not in _HOP_BY_HOP
        ]
        streaming.headers["via"] = f"1.1 kong/{VERSION}"
        return streaming


def upstream_path(base: str, path: str, matched: str, strip: bool) -> str:
    """Joins a service's path and the rest of the request's path as Kong does (path_handling v0)."""
    rest = path[len(matched) :] if strip else path.removeprefix("/")
    if not rest:
        bare = base.rstrip("/") or "/"
        return f"{bare}/" if strip and len(path) > 1 and path.endswith("/") and bare != "/" else bare
    return f"{base.rstrip('/')}/{rest.removeprefix('/')}"


def _names(entity: dict[str, Any] | None) -> tuple[Any, Any]:
    return (entity.get("name"), entity["id"]) if entity else (None, None)


def _with(response: Response, extra: dict[str, str]) -> Response:
    for key, value in extra.items():
        response.headers[key] = value
    return response


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx.TransportError:
        return  # the service went in the middle: so does the answer
    finally:
        await answer.aclose()
