"""python-consul2 over httpx; the only module that imports that library.

The library's endpoint methods build the requests; here they are sent, and a
failure becomes one of our errors with the address and the attempted action.
Three habits of the library are avoided: it prefers `CONSUL_*` in the
environment to explicit arguments, it may put tokens into the query string, and
it treats a 404 as an answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from consul import base
from pydantic import SecretStr

from mcpmesh.errors import Broken, PeerError, Refused, SettingsError, Unreachable

T = TypeVar("T")
Params = Sequence[tuple[str, str]] | None
Callback = Callable[[base.Response], T]

# Consul on loopback answers in milliseconds; one that is starting or busy may take seconds.
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
# Consul adds up to a sixteenth to the wait of a blocking query, to spread the load.
_WAIT_FACTOR = 1 + 1 / 16
_MAX_BODY_LENGTH = 500


class ErrorAnswer(Exception):
    """An answer of Consul's with an error: the status code and the text."""

    def __init__(self, code: int, body: str) -> None:
        self.code = code
        self.body = " ".join(body.split())[:_MAX_BODY_LENGTH]
        super().__init__(f"{code} {self.body}")


class Library(base.Consul):
    """The library's endpoints; each method returns an awaitable here."""

    def __init__(self, http: Http) -> None:
        # Not super().__init__(): it reads the environment, fails on what it does
        # not understand there, and builds endpoints that warn of their deprecation.
        self.http = http
        self.token = None  # a header of every request instead
        self.dc = None
        self.consistency = "default"
        self.agent = base.Consul.Agent(self)
        self.config = base.Consul.Config(self)
        self.connect = base.Consul.Connect(self)
        self.status = base.Consul.Status(self)


class Http(base.HTTPClient):
    """The library's HTTP client. Raises `ErrorAnswer` for every status from 400 on, and httpx's own errors."""

    def __init__(self, address: str, token: SecretStr | None, transport: httpx.AsyncBaseTransport | None) -> None:
        self.address = _url(address)
        headers = {"X-Consul-Token": token.get_secret_value()} if token is not None else {}
        self._client = httpx.AsyncClient(
            base_url=self.address, headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=False
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    # The library also passes `headers`, its own way to send a token; they are empty here.

    async def get(self, callback: Callback[T], path: str, params: Params = None, **_: Any) -> T:
        """Sends a GET, as the library calls it; the other three methods do the same."""
        return await self._send("GET", callback, path, params)

    async def put(self, callback: Callback[T], path: str, params: Params = None, data: str = "", **_: Any) -> T:
        """Sends a PUT."""
        return await self._send("PUT", callback, path, params, data)

    async def post(self, callback: Callback[T], path: str, params: Params = None, data: str = "", **_: Any) -> T:
        """Sends a POST."""
        return await self._send("POST", callback, path, params, data)

    async def delete(self, callback: Callback[T], path: str, params: Params = None, data: str = "", **_: Any) -> T:
        """Sends a DELETE."""
        return await self._send("DELETE", callback, path, params, data)

    async def call(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """A request that the library has no method for: JSON in, JSON out (None for an empty body)."""
        data = "" if body is None else json.dumps(body)
        return await self._send(method, _loads, path, [*(query or {}).items()], data)

    async def blocking(self, path: str, index: int, wait_seconds: float) -> int:
        """Returns the index of `path` once it is no longer `index`, or after `wait_seconds`."""
        query = [("index", str(index)), ("wait", f"{wait_seconds * 1000:.0f}ms")]
        seconds = wait_seconds * _WAIT_FACTOR + 10.0
        return await self._send("GET", _index, path, query, timeout=httpx.Timeout(seconds, connect=3.0))

    async def _send(
        self,
        method: str,
        callback: Callback[T],
        path: str,
        params: Params,
        data: str = "",
        timeout: httpx.Timeout = _TIMEOUT,
    ) -> T:
        request = self._client.build_request(method, path, params=list(params or ()), content=data, timeout=timeout)
        response = await self._client.send(request)
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise ErrorAnswer(response.status_code, response.text)
        return callback(base.Response(response.status_code, response.headers, response.text, response.content))


async def translate_errors(action: str, address: str, request: Awaitable[T]) -> T:
    """Awaits `request`; turns its failure into an error of ours that names the action and the address.

    Raises Unreachable without an answer, Broken for 5xx, 429 and unreadable
    answers, Refused for other 4xx.
    """
    try:
        return await request
    except ErrorAnswer as answer:
        raise _error_type(answer)(f"cannot {action}: Consul at {address} says {answer}{_next_step(answer)}") from answer
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(f"cannot {action}: no answer from Consul at {address} ({reason}); is it running?") from error
    except (ValueError, KeyError, TypeError, AttributeError, httpx.HTTPError) as error:
        raise Broken(
            f"cannot {action}: what {address} answers is not Consul's ({error!r}); is the address right?"
        ) from error


async def gather_or_cancel(*requests: Awaitable[Any]) -> list[Any]:
    """Awaits all at once; the first failure cancels the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _error_type(answer: ErrorAnswer) -> type[PeerError]:
    if answer.code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.code == httpx.codes.TOO_MANY_REQUESTS:
        return Refused if "Permission denied" in answer.body else Broken
    return Refused


def _next_step(answer: ErrorAnswer) -> str:
    if answer.code == httpx.codes.FORBIDDEN or "Permission denied" in answer.body:
        return "; give a token that may do this (MCPMESH_CONSUL__TOKEN)"
    return ""


def _loads(response: base.Response) -> Any:
    return json.loads(response.body) if response.body.strip() else None


def _index(response: base.Response) -> int:
    return int(response.headers["X-Consul-Index"])


def _url(address: str) -> str:
    text = address if "://" in address else f"http://{address}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise SettingsError(f"cannot use {address!r} as Consul's address: {error}; write http://host:port") from error
    if url.scheme not in ("http", "https") or not url.host or url.path not in ("", "/") or url.userinfo:
        raise SettingsError(f"cannot use {address!r} as Consul's address; write http://host:port")
    return text.rstrip("/")
