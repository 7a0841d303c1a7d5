"""HTTP over unix sockets, by names that look like hosts.

`http://FOLDER.NAME.sock/ready` goes to the socket FOLDER/NAME.sock below a
root, every other URL over TCP. So callers use one client for both.
"""

from __future__ import annotations

from pathlib import Path

import httpx

_SUFFIX = ".sock"


def socket_host(folder: str, name: str) -> str:
    """The host in a URL that stands for the socket `folder`/`name`.sock; neither has a dot in it."""
    return f"{folder}.{name}{_SUFFIX}"


class SocketTransport(httpx.AsyncBaseTransport):
    """Sends requests for names of sockets to the sockets below `root`; with None every request goes over TCP."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._tcp = httpx.AsyncHTTPTransport(trust_env=False)
        self._sockets: dict[Path, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.AsyncBaseTransport."""
        host = request.url.host
        if self._root is None:
            return await self._tcp.handle_async_request(request)
        # Servers don't know the names and changing addresses that we use for them; all accept this name.
        request.headers["Host"] = "localhost"
        if not host.endswith(_SUFFIX):
            return await self._tcp.handle_async_request(request)
        folder, _, name = host.removesuffix(_SUFFIX).partition(".")
        path = self._root / folder / f"{name}{_SUFFIX}"
        transport = self._sockets.get(path)
        if transport is None:
            removed = [self._sockets.pop(known) for known in list(self._sockets) if not known.exists()]
            transport = self._sockets[path] = httpx.AsyncHTTPTransport(uds=str(path), trust_env=False)
            for old in removed:  # last, since other requests run while one is closed
                await old.aclose()
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Closes all connections."""
        for transport in (self._tcp, *self._sockets.values()):
            await transport.aclose()


def http_client(root: Path | None, timeout: float) -> httpx.AsyncClient:
    """A client that also reaches the sockets below `root`, if one is given; `timeout` in seconds."""
    return httpx.AsyncClient(transport=SocketTransport(root), timeout=timeout, trust_env=False)
