"""Makes sure that what is called ready answers: one exchange through each sidecar, again and again.

Proofs run beside the passes, so that a slow server delays only its own.
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
from mcpmesh.mcp.through_sidecar import Door, http_through, mcp_through, tls_through
from mcpmesh.model.observed_state import Proof
from mcpmesh.model.service import Plain, Protocol, ServiceSpec

# A failed proof is tried again sooner than a good one is renewed.
_RETRY_SECONDS = 1.0

# Who asks: a TLS context of the agent's own identity, and the trust domain's name for a service.
Credentials = Callable[[], Awaitable[tuple[ssl.SSLContext, Callable[[str], str]]]]


@dataclass(frozen=True)
class _Dated:
    proof: Proof
    door: tuple[str, int]
    at: float


class Prover:
    """Keeps one dated proof per instance; `done` is called whenever one changed."""

    def __init__(self, credentials: Credentials, seconds: float, done: Callable[[], None]) -> None:
        self._credentials = credentials
        self._seconds = seconds
        self._done = done
        self._proofs: dict[str, _Dated] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def want(self, doors: Mapping[str, tuple[ServiceSpec, str, int]]) -> dict[str, Proof]:
        """The proofs there are for these instances (with host and port of each sidecar); starts those that are due."""
        for gone in self._proofs.keys() - doors.keys():
            del self._proofs[gone]
        now = time.monotonic()
        for id_, (spec, host, port) in doors.items():
            known = self._proofs.get(id_)
            if known and known.door != (host, port):
                del self._proofs[id_]
                known = None
            age = self._seconds if known and known.proof.ok else _RETRY_SECONDS
            if id_ not in self._running and (known is None or now - known.at >= age):
                task = asyncio.create_task(self._prove(id_, spec, (host, port)), name=f"prove {id_}")
                self._running[id_] = task
        return {id_: dated.proof for id_, dated in self._proofs.items()}

    async def close(self) -> None:
        """Ends what is under way."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _prove(self, id_: str, spec: ServiceSpec, door: tuple[str, int]) -> None:
        try:
            before = self._proofs.get(id_)
            proof = await self._outcome(spec, *door)
            self._proofs[id_] = _Dated(proof, door, time.monotonic())
            if before is None or before.proof != proof:
                self._done()
        finally:
            del self._running[id_]

    async def _outcome(self, spec: ServiceSpec, host: str, port: int) -> Proof:
        try:
            context, spiffe = await self._credentials()
            door = Door(port, spiffe(spec.name), host)
            if not isinstance(spec.start, Plain):
                # Any JSON-RPC answer, a refusal too, means alive.
                with suppress(RpcError):
                    await mcp_through(context, door, "tools/list")
            elif spec.start.protocol is Protocol.TCP:
                await tls_through(context, door, hold=0.2)
            else:
                status = await http_through(context, door, spec.health.proof_path)
                if status >= 500 or status == 403:
                    return Proof(False, f"GET {spec.health.proof_path} through its sidecar answers HTTP {status}")
        except MeshError as error:
            return Proof(False, str(error))
        return Proof(True)
