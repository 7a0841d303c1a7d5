"""A connection counts as denied only if Envoy's own count of denials grew."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest
from tests.unit.verify.sample_mesh import http_that
from tests.unit.verify.test_tcp_probe import closing_at_once, server_context

from mcpmesh.mcp.through_sidecar import SidecarAddress
from mcpmesh.verify.probes.denied_connection import probe_denial
from mcpmesh.verify.probes.foreign_certificate import bare_context
from mcpmesh.verify.probes.tcp_probe import Outcome


@pytest.mark.parametrize(("counts", "denied"), [([3, 4], True), ([3, 3], False)])
async def test_envoys_count_tells_who_ended_a_connection(counts: list[int], denied: bool, tmp_path: Path) -> None:
    left = iter(counts)
    tls = server_context(tmp_path, ssl.TLSVersion.TLSv1_3, demanding=False)
    server = await asyncio.start_server(closing_at_once, "127.0.0.1", 0, ssl=tls)
    sidecar = SidecarAddress(server.sockets[0].getsockname()[1], "")
    async with server, http_that(lambda _: httpx.Response(200, json={"stats": [{"value": next(left)}]})) as http:
        reply, refused = await probe_denial(http, "127.0.0.1:1", sidecar, bare_context())
    assert (reply.outcome, refused) == (Outcome.CLOSED, denied)
