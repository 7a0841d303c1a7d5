"""Proofs that instances answer, repeated.

Proofs run concurrently with the passes, so a slow server delays only its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mcpmesh.model.observed_state import Proof
from mcpmesh.reconcile.proof_attempt import ProofTarget

# A failed proof is repeated sooner than a good one.
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class _DatedProof:
    proof: Proof
    address: tuple[str, int]
    at: float


class Prover:
    """Keeps the latest proof of each instance; calls `changed` when an instance gets another proof than before.

    `exchange` makes a proof. A good one is repeated after `seconds`.
    """

    def __init__(
        self,
        exchange: Callable[[ProofTarget], Awaitable[Proof]],
        seconds: float,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exchange = exchange
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
            if known and known.address != (target.host, target.port):
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
            proof = await self._exchange(target)
            self._proofs[id_] = _DatedProof(proof, (target.host, target.port), self._clock())
            if before is None or before.proof != proof:
                self._changed()
        finally:
            del self._running[id_]
