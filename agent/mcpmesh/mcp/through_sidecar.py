"""An exchange through a sidecar, as one identity, with the other's identity checked.

This is what "ready" and most of `verify` rest on: TLS with a certificate from
the mesh's CA, a peer whose certificate names the expected SPIFFE id, and an
answer that came from the service behind it.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from mcpmesh.errors import Broken, Refused, Unreachable
from mcpmesh.mcp.mcp_client import exchange


@dataclass(frozen=True)
class Door:
    """A sidecar's public listener: where it is, and the SPIFFE id that must answer there."""

    port: int
    spiffe: str
    host: str = "127.0.0.1"


def spiffe_ids(peer: ssl.SSLObject | ssl.SSLSocket | None) -> tuple[str, ...]:
    """The URI names in a peer's certificate."""
    certificate = peer.getpeercert() if peer else None
    names: Any = (certificate or {}).get("subjectAltName", ())
    return tuple(value for kind, value in names if kind == "URI")


async def mcp_through(
    context: ssl.SSLContext, door: Door, method: str, params: dict[str, Any] | None = None, timeout: float = 10.0
) -> dict[str, Any]:
    """The result of one MCP exchange; raises as `exchange`, and Broken where another identity answers."""
    await tls_through(context, door, timeout)
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        return await exchange(http, f"https://{door.host}:{door.port}/mcp", method, params, timeout)


async def http_through(context: ssl.SSLContext, door: Door, path: str, timeout: float = 10.0) -> int:
    """The status of a GET; raises Unreachable, or Broken where another identity answers."""
    await tls_through(context, door, timeout)
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=timeout) as http:
        try:
            return (await http.get(f"https://{door.host}:{door.port}{path}")).status_code
        except httpx.TransportError as error:
            raise Unreachable(f"cannot GET {path} through the sidecar at port {door.port}: {error!r}") from error


async def tls_through(
    context: ssl.SSLContext, door: Door, timeout: float = 10.0, *, hold: float = 0.0
) -> dict[str, Any]:
    """Shakes hands and checks who answers; with `hold`, also that the connection stays up that long.

    Returns the peer's certificate as `ssl.SSLObject.getpeercert` describes it.
    An intention that denies a TCP service shows as a connection closed after
    the handshake: then Refused. Unreachable when nobody shakes hands.
    """
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(door.host, door.port, ssl=context, server_hostname=door.host), timeout
        )
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"cannot shake hands with the sidecar at port {door.port}: {error!r}") from error
    try:
        peer = writer.get_extra_info("ssl_object")
        found = spiffe_ids(peer)
        if door.spiffe not in found:
            raise Broken(f"the sidecar at port {door.port} is {found or 'nobody'}, not {door.spiffe}")
        if hold:
            with suppress(TimeoutError):
                if await asyncio.wait_for(reader.read(1), hold) == b"":
                    raise Refused(f"the sidecar at port {door.port} closed the connection: no intention allows it")
        certificate: dict[str, Any] = peer.getpeercert() or {}
        return certificate
    except OSError as error:
        raise Refused(f"the sidecar at port {door.port} broke the connection: {error!r}") from error
    finally:
        writer.transport.abort()
