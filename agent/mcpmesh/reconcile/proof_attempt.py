"""The exchange that a proof consists of: through the instance's sidecar, as the agent's own identity."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from mcpmesh.errors import MeshError
from mcpmesh.mcp.mcp_client import RpcError
from mcpmesh.mcp.through_sidecar import SidecarAddress, connect_through, exchange_through, get_through
from mcpmesh.model.observed_state import Proof
from mcpmesh.model.service import Plain, Protocol, ServiceSpec

# Long enough for a sidecar to close a connection that no intention allows.
_HOLD_SECONDS = 0.2

# A TLS context with the agent's own identity, and a function from a service's name to its SPIFFE id.
Credentials = Callable[[], Awaitable[tuple[ssl.SSLContext, Callable[[str], str]]]]


@dataclass(frozen=True)
class ProofTarget:
    """An instance to prove: its service, and the host and port of its sidecar."""

    spec: ServiceSpec
    host: str
    port: int


async def prove_through_sidecar(credentials: Credentials, target: ProofTarget) -> Proof:
    """One exchange.

    An MCP server answers `tools/list`; an HTTP service a GET, neither with 5xx
    nor with 403; a TCP service keeps the connection open.
    """
    spec = target.spec
    try:
        context, spiffe_id = await credentials()
        sidecar = SidecarAddress(target.port, spiffe_id(spec.name), target.host)
        if not isinstance(spec.start, Plain):
            # Any JSON-RPC answer proves that the server is alive, an error too.
            with suppress(RpcError):
                await exchange_through(context, sidecar, "tools/list")
        elif spec.start.protocol is Protocol.TCP:
            await connect_through(context, sidecar, hold_seconds=_HOLD_SECONDS)
        else:
            path = spec.health.proof_path
            status = await get_through(context, sidecar, path)
            if status >= 500 or status == 403:
                return Proof(False, f"GET {path} through its sidecar answers HTTP {status}")
    except MeshError as error:
        return Proof(False, str(error))
    return Proof(True)
