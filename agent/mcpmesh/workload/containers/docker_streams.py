"""What Docker tells as it happens: the words of a container, and changes of containers.

Its SDK would hold a thread for each that is followed. These are tasks, so that
a hundred containers cost a hundred connections and no thread.
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

# Older engines answer with the first word of a log, which may be long in coming; what follows has no bound either.
_SECONDS = httpx.Timeout(30.0, read=None, pool=None)
# Docker writes a type, three zeroes and a length before what was said (Engine API, "Attach to a container").
_HEADER = 8
_LENGTH = slice(4, 8)


class DockerStreams:
    """Those of Docker at `address` ("unix:///var/run/docker.sock", "tcp://proxy:2375")."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._refused: set[str] = set()
        socket = address.removeprefix("unix://") if address.startswith("unix://") else None
        # Each holds a connection of its own for as long as it is followed.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            base_url="http://docker" if socket else address.replace("tcp://", "http://", 1),
            transport=httpx.AsyncHTTPTransport(uds=socket, limits=limits, trust_env=False),
            timeout=_SECONDS,
            trust_env=False,
        )

    async def close(self) -> None:
        """Lets go of all connections; whoever follows one has stopped before."""
        await self._http.aclose()

    async def said(self, id_: str, since: float) -> AsyncGenerator[bytes, None]:
        """What a container says from a time (Unix seconds) to its end; nothing where it is gone. Raises PeerError."""
        asked = {"stdout": "1", "stderr": "1", "follow": "1", "since": f"{since:.9f}"}
        async with self._followed(f"/containers/{id_}/logs", asked) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                return
            async for said in frames(response.aiter_raw()):
                yield said

    async def events(self, label: str) -> AsyncGenerator[Mapping[str, Any], None]:
        """Changes of containers with that label, until Docker ends. Raises PeerError."""
        asked = {"filters": json.dumps({"type": ["container"], "label": [label]})}
        async with self._followed("/events", asked) as response:
            async for line in response.aiter_lines():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise Broken(f"cannot read an event of Docker at {self._address}: {line[:100]!r}") from error

    @asynccontextmanager
    async def _followed(self, path: str, asked: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream("GET", path, params=asked) as response:
                if response.is_error and response.status_code != httpx.codes.NOT_FOUND:
                    answered = f"Docker at {self._address} answers HTTP {response.status_code}"
                    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                        refusal = Refused(f"cannot follow {path}: {answered}; a socket proxy has to allow it")
                        raise self._told(refusal, path)
                    raise Broken(f"cannot follow {path}: {answered}")
                yield response
        except httpx.HTTPError as error:
            raise Unreachable(f"cannot follow {path} at Docker ({self._address}): {error!r}") from error

    def _told(self, refusal: Refused, path: str) -> Refused:
        """Logged, the first of its kind: who follows asks again and again, and does without."""
        if (kind := path.rpartition("/")[2]) not in self._refused:
            self._refused.add(kind)
            log.warning("%s", refusal)
        return refusal


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What was said, out of Docker's frames, however those are cut into chunks."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= _HEADER and len(held) >= (end := _HEADER + int.from_bytes(held[_LENGTH], "big")):
            yield bytes(held[_HEADER:end])
            del held[:end]
