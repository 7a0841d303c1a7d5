"""Real calls to a service: a `tools/list` to its last page, or a GET. Each returns in words what it saw.

They raise Forbidden where an Envoy answers 403, and another PeerError where the call fails otherwise.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence

import httpx

from mcpmesh.errors import Refused, Unreachable
from mcpmesh.mcp.mcp_client import Forbidden, RpcError, exchange
from mcpmesh.mcp.through_sidecar import SidecarAddress
from mcpmesh.verify.probes import shim_info
from mcpmesh.verify.probes.tcp_probe import FORWARDED
from mcpmesh.verify.time_limits import ANSWER_SECONDS

# A server that needs longer than this to list its tools is of no use to its callers.
TOOLS_SECONDS = ANSWER_SECONDS

# More pages than this are a server that lists the same page again and again.
_MAX_PAGES = 100
_METHOD_NOT_FOUND = -32601
# The text of a refusal by Envoy's access control, also where it is the second Envoy on the way.
_DENIED = "RBAC: access denied"


async def list_tools(
    http: httpx.AsyncClient,
    url: str,
    shim_address: tuple[str, int] | None,
    shim_http: httpx.AsyncClient | None = None,
) -> str:
    """Lists the tools at `url`, and compares them with those that the shim at that host and port names.

    The shim is asked with `shim_http` where that is another client than `http`.
    """
    listed = await tool_names(http, url)
    if shim_address is None:
        return f"tools/list gives {_count(listed)}"
    known = (await shim_info.read_info(shim_http or http, *shim_address)).tools
    if unlike := difference(listed, known):
        raise Refused(f"tools/list at {url} gives {_count(listed)}, its shim names {len(known)}: {unlike}")
    return f"tools/list gives {_count(listed)}, as its shim names them,"


async def tool_names(http: httpx.AsyncClient, url: str) -> list[str]:
    """The names of all tools; none for a server that has no such method."""
    names: list[str] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
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
    """A GET that the service itself answers. Its 404 or 403 is an answer too; a 5xx is not."""
    answer = await fetch(http, url)
    if answer.status_code == httpx.codes.FORBIDDEN and (not forwarded(answer) or answer.text.startswith(_DENIED)):
        raise Forbidden(f"{url} answered HTTP 403: {answer.text[:100]}")
    if answer.status_code == httpx.codes.UNAUTHORIZED and not forwarded(answer):
        return "HTTP 401 from the ingress, which asks for a credential; who may pass with one was not tried,"
    if not forwarded(answer):
        raise Refused(f"{url} answered HTTP {answer.status_code}, and not from the service")
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Refused(f"{url} answered HTTP {answer.status_code}")
    return f"GET gives HTTP {answer.status_code}, from the service,"


async def list_tools_through(
    tls: ssl.SSLContext, sidecar: SidecarAddress, shim_address: tuple[str, int] | None, shim_http: httpx.AsyncClient
) -> str:
    """As `list_tools`, through a sidecar with the identity of `tls`."""
    async with httpx.AsyncClient(verify=tls, trust_env=False) as http:
        return await list_tools(http, f"https://{sidecar.host}:{sidecar.port}/mcp", shim_address, shim_http)


async def get_through(tls: ssl.SSLContext, sidecar: SidecarAddress, path: str) -> str:
    """As `get`, through a sidecar with the identity of `tls`."""
    async with httpx.AsyncClient(verify=tls, trust_env=False) as http:
        return await get(http, f"https://{sidecar.host}:{sidecar.port}{path}")


async def fetch(http: httpx.AsyncClient, url: str) -> httpx.Response:
    """The answer to a GET, whatever it is; Unreachable without one."""
    try:
        return await http.get(url, timeout=ANSWER_SECONDS)
    except httpx.TransportError as error:
        raise Unreachable(f"cannot reach {url}: {str(error) or type(error).__name__}") from error


def forwarded(answer: httpx.Response) -> bool:
    """Whether the answer came from the service, not from the Envoy before it."""
    return FORWARDED in answer.headers


def difference(listed: Collection[str], known: Collection[str]) -> str:
    """The tools that only the shim names, and those that only the list has; "" where both are the same."""
    missing, extra = sorted(set(known) - set(listed)), sorted(set(listed) - set(known))
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"not named by the shim: {', '.join(extra)}"] if extra else []
    return "; ".join(parts)


def _count(names: Sequence[str]) -> str:
    return "1 tool" if len(names) == 1 else f"{len(names)} tools"
