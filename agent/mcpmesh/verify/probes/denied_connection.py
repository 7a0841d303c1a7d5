"""A TCP connection that Envoy's access control has to end."""

from __future__ import annotations

import ssl

import httpx

from mcpmesh.mcp.through_sidecar import SidecarAddress
from mcpmesh.verify.probes.envoy_stats import denied_connections
from mcpmesh.verify.probes.tcp_probe import Outcome, Reply, probe
from mcpmesh.verify.time_limits import ANSWER_SECONDS

_FIRST_BYTE = b"\n"


async def probe_denial(
    http: httpx.AsyncClient, admin_address: str, sidecar: SidecarAddress, tls: ssl.SSLContext
) -> tuple[Reply, bool]:
    """How a connection with this identity ends, and whether Envoy's access control ended it.

    Envoy asks for permission when the first byte comes from the caller (its network RBAC filter). What a service
    says before that has arrived by then. A service may end a connection itself, so Envoy's own count of denials
    tells which of the two it was. Raises Unreachable where the count can't be read.
    """
    before = await denied_connections(http, admin_address)
    reply = await probe(sidecar.host, sidecar.port, tls=tls, payload=_FIRST_BYTE, hold_seconds=ANSWER_SECONDS)
    if reply.outcome is not Outcome.CLOSED:
        return reply, False
    return reply, await denied_connections(http, admin_address) > before
