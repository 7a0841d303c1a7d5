"""Access to the API: for programs of this machine that can read the token file.

A web page in a browser can reach loopback too. So a request that names another host (DNS rebinding) or has an
Origin header is refused before anything else.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from mcpmesh.api.loopback import is_loopback
from mcpmesh.api.responses import ProblemResponse

# The description of the API is the same for every mesh and holds no data of this one.
OPEN_PATHS = frozenset({"/openapi.json"})


class AccessControl:
    """Middleware that passes requests to a loopback host, without Origin header and with the token."""

    def __init__(self, app: ASGIApp, token: SecretStr) -> None:
        self._app = app
        self._token = token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._refusal(scope["path"], scope["headers"]) or self._app
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, path: str, headers: Sequence[tuple[bytes, bytes]]) -> ProblemResponse | None:
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not is_loopback(_host_name(hosts[0].decode("latin-1"))):
            return ProblemResponse(403, "cannot answer: the Host header must name this machine, 127.0.0.1 or localhost")
        if any(name == b"origin" for name, _ in headers):
            return ProblemResponse(403, "cannot answer a web page: requests with an Origin header are refused")
        if path in OPEN_PATHS or self._authorized([value for name, value in headers if name == b"authorization"]):
            return None
        return ProblemResponse(
            401,
            'cannot accept this request: send the token from the file "token" in the home folder of the mesh as '
            '"Authorization: Bearer …"',
            {"WWW-Authenticate": 'Bearer realm="mcpmesh"'},
        )

    def _authorized(self, values: Sequence[bytes]) -> bool:
        if len(values) != 1:
            return False
        scheme, _, credentials = values[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), self._token)


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; "" where it is malformed."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        well_formed = bracket and (not rest or (rest[0] == ":" and rest[1:].isdecimal()))
        return name if well_formed and ":" in name else ""
    name, colon, port = host.partition(":")
    return name.lower() if not colon or port.isdecimal() else ""
