"""Docker's streams: the output of a container, and events about containers.

The SDK would hold a thread for each stream. Here each is a task, so that a
hundred containers cost a hundred connections and no thread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from mcpmesh.errors import Broken, Refused, Unreachable

log = logging.getLogger("mcpmesh")

# Older engines answer a log request with its first line, which may be long in coming; later lines have no bound either.
_TIMEOUTS = httpx.Timeout(30.0, read=None, pool=None)
# Docker writes a type, three zeroes and a length before each piece of output (Engine API, "Attach to a container").
_HEADER_BYTES = 8
_LENGTH = slice(4, 8)


class DockerStreams:
    """The streams of Docker at `address` ("unix:///var/run/docker.sock", "tcp://proxy:2375")."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._refused: set[str] = set()
        socket = address.removeprefix("unix://") if address.startswith("unix://") else None
        # Each stream holds a connection of its own for as long as it is open.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            base_url="http://docker" if socket else address.replace("tcp://", "http://", 1),
            transport=httpx.AsyncHTTPTransport(uds=socket, limits=limits, trust_env=False),
            timeout=_TIMEOUTS,
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes all connections; every stream has to be closed before."""
        await self._http.aclose()

    async def output(self, id_: str, since: float) -> AsyncGenerator[bytes, None]:
        """The output of a container from a time (Unix seconds) to its end; none where it is gone. Raises PeerError."""
        query = {"stdout": "1", "stderr": "1", "follow": "1", "since": f"{since:.9f}"}
        async with self._stream(f"/containers/{id_}/logs", query) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                return
            async for payload in unframed(response.aiter_raw()):
                yield payload

    async def events(self, label: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """Changes of containers with that label, until Docker ends. Raises PeerError."""
        query = {"filters": json.dumps({"type": ["container"], "label": [label]})}
        async with self._stream("/events", query) as response:
            async for line in response.aiter_lines():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise Broken(f"cannot read an event of Docker at {self._address}: {line[:100]!r}") from error

    @asynccontextmanager
    async def _stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream("GET", path, params=query) as response:
                if response.is_error and response.status_code != httpx.codes.NOT_FOUND:
                    answered = f"Docker at {self._address} answers HTTP {response.status_code}"
                    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                        refusal = Refused(f"cannot follow {path}: {answered}; a socket proxy has to allow it")
                        self._log_once(refusal, path)
                        raise refusal
                    raise Broken(f"cannot follow {path}: {answered}")
                yield response
        except httpx.HTTPError as error:
            raise Unreachable(f"cannot follow {path} at Docker ({self._address}): {error!r}") from error

    def _log_once(self, refusal: Refused, path: str) -> None:
        """Logs the first refusal of a kind: callers try again and again, and work without the stream."""
        if (kind := path.rpartition("/")[2]) not in self._refused:
            self._refused.add(kind)
            log.warning("%s", refusal)


async def unframed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The payloads of Docker's frames, however these are cut into chunks."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _HEADER_BYTES and len(buffer) >= (
            end := _HEADER_BYTES + int.from_bytes(buffer[_LENGTH], "big")
        ):
            yield bytes(buffer[_HEADER_BYTES:end])
            del buffer[:end]
