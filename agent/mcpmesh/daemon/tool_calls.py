"""Lists and calls tools through the mesh, as any client does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from difflib import get_close_matches
from typing import Any

import httpx

from mcpmesh.daemon.agent_certificate import Credentials
from mcpmesh.errors import Refused
from mcpmesh.mcp.mcp_client import messages, parameter_headers
from mcpmesh.mcp.through_sidecar import SidecarAddress, exchange_through
from mcpmesh.model.agent_reports import Tool

# A server with more pages than this answers by mistake.
_MAX_PAGES = 100

# The address of a sidecar: host and port.
Sidecar = tuple[str, int]


async def list_tools(sidecar: Sidecar, service: str, credentials: Credentials) -> list[Tool]:
    """All tools of a service, listed through that sidecar."""
    host, port = sidecar
    context, spiffe = await credentials()
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        params = {"cursor": cursor} if cursor else None
        address = SidecarAddress(port, spiffe(service), host)
        result = await exchange_through(context, address, "tools/list", params, 30.0)
        tools += [
            Tool(service, tool["name"], tool.get("description") or "", tool.get("inputSchema") or {})
            for tool in result.get("tools") or ()
        ]
        cursor = result.get("nextCursor")
        if not cursor:
            break
    return tools


async def call_tool(
    sidecar: Sidecar,
    service: str,
    tool: str,
    arguments: dict[str, Any],
    credentials: Credentials,
    ingress: str | None,
) -> AsyncIterator[dict[str, Any]]:
    """Calls a tool at the `ingress` URL if one is given, else through that sidecar.

    Yields notifications as they come, and the response last. Raises Refused
    for a tool that the service does not have.
    """
    known = {item.name: item for item in await list_tools(sidecar, service, credentials)}
    if tool not in known:
        close = get_close_matches(tool, known, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else f"; see them with: mcpmesh tools {service}"
        raise Refused(f'cannot call "{tool}": {service} has no such tool{hint}')
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "mcpmesh"}}
    extra = parameter_headers(known[tool].input_schema, arguments)
    if ingress is not None:
        # The host name that clients use, whatever the address is here.
        async with httpx.AsyncClient(trust_env=False, headers={"Host": "localhost"}) as http:
            async for message in messages(http, ingress, "tools/call", params, timeout=None, extra=extra):
                yield message
        return
    context, _ = await credentials()
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        url = f"https://{sidecar[0]}:{sidecar[1]}/mcp"
        async for message in messages(http, url, "tools/call", params, timeout=None, extra=extra):
            yield message
