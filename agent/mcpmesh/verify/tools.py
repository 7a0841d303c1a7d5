"""A real `tools/list`, to the last page."""

from __future__ import annotations

from collections.abc import Collection

import httpx

from mcpmesh.mcp.exchange import RpcError, exchange

# Asked of a warm server this takes milliseconds; a minute-long answer would be no proof of health either.
TOOLS_SECONDS = 8.0

# Nobody lists more pages than this by intent.
_PAGES = 100
_METHOD_NOT_FOUND = -32601


async def tool_names(http: httpx.AsyncClient, url: str) -> list[str]:
    """The names of all tools, none for a server that has no such method; raises as `exchange`."""
    names: list[str] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        try:
            result = await exchange(http, url, "tools/list", {"cursor": cursor} if cursor else None, TOOLS_SECONDS)
        except RpcError as error:
            if error.code == _METHOD_NOT_FOUND and not names:
                return []
            raise
        names += [str(tool.get("name")) for tool in result.get("tools") or ()]
        cursor = result.get("nextCursor")
        if not cursor:
            break
    return names


def difference(listed: Collection[str], told: Collection[str]) -> str:
    """What the shim tells and the list lacks, and the other way round; "" where they agree; pure."""
    missing, extra = sorted(set(told) - set(listed)), sorted(set(listed) - set(told))
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"not told by the shim: {', '.join(extra)}"] if extra else []
    return "; ".join(parts)
