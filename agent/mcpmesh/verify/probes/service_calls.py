"""Real calls: a `tools/list` to its last page, a GET; each returns what it saw in words.

All raise Forbidden where an Envoy says 403, and else a PeerError.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import httpx

from mcpmesh.errors import Refused, Unreachable
from mcpmesh.mcp.mcp_client import Forbidden, RpcError, exchange
from mcpmesh.verify.claims.route_paths import forwarded
from mcpmesh.verify.finding import ANSWER_SECONDS
from mcpmesh.verify.probes import shim_info
from mcpmesh.verify.probes.tcp_probe import KNOCK_SECONDS

# Nobody calls a server well that needs longer than this to list its tools.
TOOLS_SECONDS = ANSWER_SECONDS

# Nobody lists more pages than this by intent.
_PAGES = 100
_METHOD_NOT_FOUND = -32601
# What Envoy's access control says, also when it is the second Envoy on the way.
_DENIED = "RBAC: access denied"


async def tools(
    http: httpx.AsyncClient, url: str, shim: tuple[str, int] | None, asking: httpx.AsyncClient | None = None
) -> str:
    """Lists the tools at `url`, and compares them with what the shim at that host and port tells of its server.

    The shim is asked by `asking`, where that is another client.
    """
    names = await tool_names(http, url)
    if shim is None:
        return f"tools/list gives {_count(names)}"
    told = (await shim_info.about(asking or http, *shim)).tools
    if unlike := difference(names, told):
        raise Refused(f"tools/list at {url} gives {_count(names)}, its shim tells of {len(told)}: {unlike}")
    return f"tools/list gives {_count(names)}, as its shim tells,"


async def tool_names(http: httpx.AsyncClient, url: str) -> list[str]:
    """The names of all tools; none for a server that has no such method."""
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


async def get(http: httpx.AsyncClient, url: str) -> str:
    """A GET that the service itself answers; its 404 or 403 is an answer too, a 5xx is not."""
    answer = await fetch(http, url)
    if answer.status_code == httpx.codes.FORBIDDEN and (not forwarded(answer) or answer.text.startswith(_DENIED)):
        raise Forbidden(f"{url} answered HTTP 403: {answer.text[:100]}")
    if answer.status_code == httpx.codes.UNAUTHORIZED and not forwarded(answer):
        return "HTTP 401 from the ingress, which asks for a credential; whom it lets in was not tried,"
    if not forwarded(answer):
        raise Refused(f"{url} answered HTTP {answer.status_code}, and not from the service")
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Refused(f"{url} answered HTTP {answer.status_code}")
    return f"GET gives HTTP {answer.status_code}, from the service,"


async def fetch(http: httpx.AsyncClient, url: str) -> httpx.Response:
    """Whatever answers a GET; Unreachable where nothing does."""
    try:
        return await http.get(url, timeout=KNOCK_SECONDS)
    except httpx.TransportError as error:
        raise Unreachable(f"cannot reach {url}: {str(error) or type(error).__name__}") from error


def difference(listed: Collection[str], told: Collection[str]) -> str:
    """What the shim tells and the list lacks, and the other way round; "" where they agree; pure."""
    missing, extra = sorted(set(told) - set(listed)), sorted(set(listed) - set(told))
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"not told by the shim: {', '.join(extra)}"] if extra else []
    return "; ".join(parts)


def _count(names: Sequence[str]) -> str:
    return "1 tool" if len(names) == 1 else f"{len(names)} tools"
