"""Tries all claims about a mesh at once, and returns them in a fixed order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from mcpmesh.kit.unix_http import http_client
from mcpmesh.model.agent_reports import Claim
from mcpmesh.verify.attempts import try_claim
from mcpmesh.verify.claim_list import ClaimToTry, claims_to_try
from mcpmesh.verify.probes.consul_catalog import ConsulCatalog
from mcpmesh.verify.snapshot import Snapshot
from mcpmesh.verify.snapshot_reader import read_snapshot
from mcpmesh.verify.target import Target
from mcpmesh.verify.time_limits import ANSWER_SECONDS

# Each claim makes a few connections. More claims at once only wait for each other on a small machine.
_AT_ONCE = 12


async def verify(target: Target, services: Sequence[str]) -> AsyncIterator[Claim]:
    """Tries all claims about these services; without any, about all services and the mesh as a whole.

    Claims come by service in the catalog's order, those about the mesh last. Each comes as soon as it and those
    before it are tried. Nothing is changed by it. It ends within a bounded time, whatever hangs, and never raises
    for what it finds.
    """
    catalog = ConsulCatalog(target.consul.address, target.settings.consul.token)
    limit = asyncio.Semaphore(_AT_ONCE)
    tasks: list[asyncio.Task[Claim]] = []
    async with http_client(target.runtime.socket_folder, timeout=ANSWER_SECONDS) as http:
        try:
            snapshot = await read_snapshot(target, http, catalog)
            tasks = [
                asyncio.create_task(_try(claim, snapshot, limit), name=f"claim: {claim.title}")
                for claim in claims_to_try(target, services)
            ]
            for task in tasks:
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await catalog.close()


async def _try(claim: ClaimToTry, snapshot: Snapshot, limit: asyncio.Semaphore) -> Claim:
    async with limit:
        next_step = snapshot.target.mcpmesh_command("status")
        return await try_claim(claim.service, claim.title, claim.find(snapshot), next_step)
