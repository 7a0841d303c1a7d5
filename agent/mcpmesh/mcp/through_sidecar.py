"""A connection or an exchange through a sidecar, as one identity, with the sidecar's identity checked.

"Ready" and most of `verify` rest on this: TLS with a certificate from the
mesh's CA, a peer whose certificate names the expected SPIFFE id, and an answer
that came from the service behind it.
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
class SidecarAddress:
    """Where a sidecar takes calls, and the SPIFFE id that must answer there."""

    port: int
    spiffe_id: str
    host: str = "127.0.0.1"


def spiffe_ids(peer: ssl.SSLObject | ssl.SSLSocket | None) -> tuple[str, ...]:
    """The URI names in a peer's certificate."""
    certificate = peer.getpeercert() if peer else None
    names: Any = (certificate or {}).get("subjectAltName", ())
    return tuple(value for kind, value in names if kind == "URI")


async def exchange_through(
    tls: ssl.SSLContext,
    sidecar: SidecarAddress,
    method: str,
    params: dict[str, Any] | None = None,
    timeout: float = 10.0,
) -> dict[str, Any]:
    """The result of one MCP exchange; raises as `exchange`, and Broken where another identity answers."""
    await connect_through(tls, sidecar, timeout)
    async with httpx.AsyncClient(verify=tls, trust_env=False) as http:
        return await exchange(http, f"https://{sidecar.host}:{sidecar.port}/mcp", method, params, timeout)


async def get_through(tls: ssl.SSLContext, sidecar: SidecarAddress, path: str, timeout: float = 10.0) -> int:
    """The status of a GET; raises Unreachable, or Broken where another identity answers."""
    await connect_through(tls, sidecar, timeout)
    async with httpx.AsyncClient(verify=tls, trust_env=False, timeout=timeout) as http:
        try:
            return (await http.get(f"https://{sidecar.host}:{sidecar.port}{path}")).status_code
        except httpx.TransportError as error:
            raise Unreachable(f"cannot GET {path} through the sidecar at port {sidecar.port}: {error!r}") from error


async def connect_through(
    tls: ssl.SSLContext, sidecar: SidecarAddress, timeout: float = 10.0, *, hold_seconds: float = 0.0
) -> dict[str, Any]:
    """Makes a TLS connection and checks the peer's identity; then closes it.

    With `hold_seconds` the connection also has to stay open for so long. An intention that denies a TCP service
    shows as a connection that is closed after the handshake.

    Returns the peer's certificate as `ssl.SSLObject.getpeercert` describes it. Raises Unreachable where there is no
    handshake, Broken where another identity answers, and Refused where the connection is closed too early.
    """
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(sidecar.host, sidecar.port, ssl=tls, server_hostname=sidecar.host), timeout
        )
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"cannot make a TLS connection to the sidecar at port {sidecar.port}: {error!r}") from error
    try:
        peer = writer.get_extra_info("ssl_object")
        found = spiffe_ids(peer)
        if sidecar.spiffe_id not in found:
            identity = ", ".join(found) or "no identity"
            raise Broken(f"the sidecar at port {sidecar.port} shows {identity}, not {sidecar.spiffe_id}")
        if hold_seconds:
            with suppress(TimeoutError):
                if await asyncio.wait_for(reader.read(1), hold_seconds) == b"":
                    raise Refused(f"the sidecar at port {sidecar.port} closed the connection: no intention allows it")
        certificate: dict[str, Any] = peer.getpeercert() or {}
        return certificate
    except OSError as error:
        raise Refused(f"the sidecar at port {sidecar.port} broke the connection: {error!r}") from error
    finally:
        writer.transport.abort()
