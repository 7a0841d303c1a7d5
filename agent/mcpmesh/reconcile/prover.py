"""Proofs that instances answer: one exchange through each sidecar, repeated.

Proofs run concurrently with the passes, so a slow server delays only its own.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from mcpmesh.errors import MeshError
from mcpmesh.mcp.mcp_client import RpcError
from mcpmesh.mcp.through_sidecar import SidecarAddress, connect_through, exchange_through, get_through
from mcpmesh.model.observed_state import Proof
from mcpmesh.model.service import Plain, Protocol, ServiceSpec

# A failed proof is repeated sooner than a good one.
RETRY_SECONDS = 1.0

# A TLS context with the agent's own identity, and a function from a service's name to its SPIFFE id.
Credentials = Callable[[], Awaitable[tuple[ssl.SSLContext, Callable[[str], str]]]]


@dataclass(frozen=True)
class ProofTarget:
    """An instance to prove: its service, and the host and port of its sidecar."""

    spec: ServiceSpec
    host: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of its sidecar."""
        return self.host, self.port


@dataclass(frozen=True)
class _DatedProof:
    proof: Proof
    address: tuple[str, int]
    at: float


class Prover:
    """Keeps the latest proof of each instance; calls `changed` when an instance gets another proof than before."""

    def __init__(
        self,
        credentials: Credentials,
        seconds: float,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._seconds = seconds
        self._changed = changed
        self._clock = clock
        self._proofs: dict[str, _DatedProof] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def prove(self, targets: Mapping[str, ProofTarget]) -> dict[str, Proof]:
        """The present proofs of these instances; starts those that are due."""
        for gone in self._proofs.keys() - targets.keys():
            del self._proofs[gone]
        for id_, target in targets.items():
            known = self._proofs.get(id_)
            if known and known.address != target.address:
                del self._proofs[id_]
                known = None
            if id_ not in self._running and self._is_due(known):
                self._running[id_] = asyncio.create_task(self._prove(id_, target), name=f"prove {id_}")
        return {id_: dated.proof for id_, dated in self._proofs.items()}

    async def close(self) -> None:
        """Ends the proofs under way."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _is_due(self, known: _DatedProof | None) -> bool:
        if known is None:
            return True
        return self._clock() - known.at >= (self._seconds if known.proof.ok else RETRY_SECONDS)

    async def _prove(self, id_: str, target: ProofTarget) -> None:
        try:
            before = self._proofs.get(id_)
            proof = await self._outcome(target)
            self._proofs[id_] = _DatedProof(proof, target.address, self._clock())
            if before is None or before.proof != proof:
                self._changed()
        finally:
            del self._running[id_]

    async def _outcome(self, target: ProofTarget) -> Proof:
        spec = target.spec
        try:
            context, spiffe = await self._credentials()
            sidecar = SidecarAddress(target.port, spiffe(spec.name), target.host)
            if not isinstance(spec.start, Plain):
                # Any JSON-RPC answer proves that the server is alive, an error too.
                with suppress(RpcError):
                    await exchange_through(context, sidecar, "tools/list")
            elif spec.start.protocol is Protocol.TCP:
                await connect_through(context, sidecar, hold_seconds=0.2)
            else:
                path = spec.health.proof_path
                status = await get_through(context, sidecar, path)
                if status >= 500 or status == 403:
                    return Proof(False, f"GET {path} through its sidecar answers HTTP {status}")
        except MeshError as error:
            return Proof(False, str(error))
        return Proof(True)
