"""The server's tool list: read at the start, and again after the server says that it changed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mcpmesh.shim.context import Context
from mcpmesh.shim.errors import Failure
from mcpmesh.shim.jsonrpc import codec
from mcpmesh.shim.protocol.server_info import ServerInfo
from mcpmesh.shim.server.handshake import shim_meta
from mcpmesh.shim.server.peer import Peer
from mcpmesh.shim.server.pool import Pool

LIST_CHANGED: Final = "notifications/tools/list_changed"
# A burst of changes is followed by one request, this long (seconds) after its first.
BURST_SECONDS: Final = 0.5
PAGE_SECONDS: Final = 20.0
MAX_PAGES: Final = 100


async def list_tools(peer: Peer, server_info: ServerInfo) -> None:
    """Read all tools into `server_info`; when the server does not answer properly, the earlier list stays."""
    if "tools" not in server_info.capabilities:
        server_info.tools = []
        return
    tools: list[dict[str, Any]] = []
    params: dict[str, Any] = {"_meta": shim_meta()} if peer.modern else {}
    for _ in range(MAX_PAGES):
        try:
            message = await peer.ask("tools/list", params or None, PAGE_SECONDS)
            result = codec.decode(message.result) if message.result else None
        except (Failure, TimeoutError, codec.Malformed):
            return
        if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
            return
        tools += [tool for tool in result["tools"] if isinstance(tool, dict)]
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str) or cursor == params.get("cursor"):
            break
        params["cursor"] = cursor
    server_info.tools = tools


class ToolListRefresher:
    """Reads the main process's tool list again after it changed."""

    def __init__(self, context: Context, pool: Pool, server_info: ServerInfo) -> None:
        self.context = context
        self.pool = pool
        self.server_info = server_info
        self._timer: asyncio.TimerHandle | None = None

    def notification(self, method: str) -> None:
        """A server sent a notification with this method."""
        if method == LIST_CHANGED and self._timer is None:
            self._timer = self.context.later(BURST_SECONDS, self._burst_over)

    def _burst_over(self) -> None:
        self._timer = None
        self.context.spawn(self._refresh(), "tools")

    async def _refresh(self) -> None:
        if (peer := self.pool.main) is not None and peer.alive:
            await list_tools(peer, self.server_info)

    def close(self) -> None:
        """Cancel a refresh that is due."""
        if self._timer is not None:
            self._timer.cancel()
